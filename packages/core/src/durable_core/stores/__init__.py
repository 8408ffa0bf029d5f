"""Where histories live: one protocol, and the stores that follow it."""

from __future__ import annotations

from ._lease import Lease
from ._protocol import Store
from ._rows import (
    Append,
    Arrivals,
    Child,
    Health,
    InboxRow,
    Loaded,
    NewRun,
    Outcome,
    Pause,
    PendingRow,
    Post,
    ReplyRow,
    RequestFilter,
    RequestRow,
    Reuse,
    RunRow,
)

__all__ = [
    "Append",
    "Arrivals",
    "Child",
    "Health",
    "InboxRow",
    "Lease",
    "Loaded",
    "NewRun",
    "Outcome",
    "Pause",
    "PendingRow",
    "Post",
    "ReplyRow",
    "RequestFilter",
    "RequestRow",
    "Reuse",
    "RunRow",
    "Store",
]
