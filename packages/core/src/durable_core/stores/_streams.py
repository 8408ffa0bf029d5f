"""Streams as they are written to a store, and read from it: chunks beside the histories of runs.

A chunk is tagged with who wrote it: an activity, by its number, its attempt and the fence of the
ownership; or the code of the run, by the number of the activation. Nothing is ever removed from the
middle of a stream. What does not count any more is named by a later *reset*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["StreamChunk", "StreamMark", "StreamPage", "StreamRow", "extended", "mark_of"]


class StreamChunk(msgspec.Struct, frozen=True):
    """One place of a stream.

    Attributes:
        name: Of the stream.
        kind: A ``chunk``; a ``reset``, by which earlier ones are void; or the ``end``.
        fence: Of the ownership that wrote it.
        time: When it was written, in seconds since the epoch.
        seq: Number of the activity that wrote it; 0 for the code of the run. A reset voids what
            this activity wrote.
        attempt: Of the activity; 0 for the code of the run.
        number: Of the activation in which the run's code wrote it; -1 for an activity. A reset that
            has one voids what the run's code wrote from that activation on, and what activities
            from ``seq`` on did, and those whose numbers are its data.
        data: JSON of a chunk; of such a reset, of a list of numbers.
        offset: Where it stands; what is to be added has none yet.
    """

    name: str
    kind: Literal["chunk", "reset", "end"]
    fence: int
    time: float
    seq: int = 0
    attempt: int = 0
    number: int = -1
    data: bytes = b""
    offset: int = -1


class StreamRow(msgspec.Struct, frozen=True):
    """A stream as its row says.

    Attributes:
        length: The offset that comes next.
        size: Bytes of all chunks that there ever were.
        ended: The activation in which it was ended, if that is in force; -1 if it goes on.
        seq: The latest activity that wrote to it, by its number; 0 for none.
        number: The latest activation in which the run's code wrote to it; -1 for none.
        kept: The first offset that was not purged.
    """

    name: str
    length: int
    size: int
    ended: int = -1
    seq: int = 0
    number: int = -1
    kept: int = 0


StreamMark = tuple[str, int, bool]
"""Status of the run, length of the stream, and whether it was ended: if equal, nothing is new."""


class StreamPage(msgspec.Struct, frozen=True):
    """A part of a stream, as of one moment.

    Attributes:
        status: Of the run; empty if there is no such run.
        row: Of the stream; None if nothing was written to it yet.
        chunks: From the offset on that was asked for, without gaps.
    """

    status: str
    row: StreamRow | None = None
    chunks: Sequence[StreamChunk] = ()

    @property
    def mark(self) -> StreamMark:
        """What has to change before there is more to read."""
        return mark_of(self.status, self.row)


def mark_of(status: str, row: StreamRow | None) -> StreamMark:
    """Return the mark of a stream."""
    return (status, 0, False) if row is None else (status, row.length, row.ended >= 0)


def extended(row: StreamRow | None, name: str, chunks: Sequence[StreamChunk]) -> StreamRow:
    """Return the row of a stream after chunks were added; None is one that does not exist."""
    row = row or StreamRow(name, 0, 0)
    wrote = [c for c in chunks if c.kind != "reset"]
    ended = row.ended
    for chunk in chunks:
        if chunk.kind == "end":
            ended = chunk.number
        elif chunk.kind == "reset" and 0 <= chunk.number <= ended:
            # Its end is among what was set aside.
            ended = -1

    return StreamRow(
        name,
        length=row.length + len(chunks),
        size=row.size + sum(len(c.data) for c in chunks),
        ended=ended,
        seq=max([row.seq, *(c.seq for c in wrote)]),
        number=max([row.number, *(c.number for c in wrote)]),
        kept=row.kept,
    )
