"""Where histories live: one protocol, and the stores that follow it."""

from __future__ import annotations

from ._lease import Lease
from ._profiles import ProfileRow, profile_of_start, profile_row
from ._protocol import Store
from ._questions import Answer, Question
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
from ._streams import StreamChunk, StreamMark, StreamPage, StreamRow

__all__ = [
    "Answer",
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
    "ProfileRow",
    "Question",
    "ReplyRow",
    "RequestFilter",
    "RequestRow",
    "Reuse",
    "RunRow",
    "Store",
    "StreamChunk",
    "StreamMark",
    "StreamPage",
    "StreamRow",
    "profile_of_start",
    "profile_row",
]
