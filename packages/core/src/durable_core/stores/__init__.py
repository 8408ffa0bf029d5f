"""Where histories live: one protocol, and the stores that follow it."""

from __future__ import annotations

from ._lease import Lease
from ._protocol import Store
from ._rows import (
    Append,
    Arrivals,
    Health,
    InboxRow,
    Loaded,
    Outcome,
    Pause,
    PendingRow,
    Post,
    ReplyRow,
    Reuse,
    RunRow,
)
from ._streams import StreamChunk, StreamMark, StreamPage, StreamRow

__all__ = [
    "Append",
    "Arrivals",
    "Health",
    "InboxRow",
    "Lease",
    "Loaded",
    "Outcome",
    "Pause",
    "PendingRow",
    "Post",
    "ReplyRow",
    "Reuse",
    "RunRow",
    "Store",
    "StreamChunk",
    "StreamMark",
    "StreamPage",
    "StreamRow",
]
