"""Streams in the file: chunks as a batch adds them, and as readers get them.

Invariant: offsets have no gaps. Room is made in the row of the stream first, and the rows of the
chunks are put into it by the same transaction; only appends that were accepted come so far.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from durable_core.stores._streams import (
    StreamChunk,
    StreamMark,
    StreamPage,
    StreamRow,
    extended,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import apsw

    from durable_core.stores._rows import Append

__all__ = ["add", "marks", "purge", "read", "rows"]

_PAGE = 1024 * 1024


def add(connection: apsw.Connection, sql: Mapping[str, str], appends: Sequence[Append]) -> None:
    """Add the chunks of appends that were accepted, by two statements whatever their number."""
    added: dict[tuple[str, str], list[StreamChunk]] = {}
    for append in appends:
        for chunk in append.chunks:
            added.setdefault((append.run_id, chunk.name), []).append(chunk)

    if not added:
        return

    rooms: list[list[Any]] = []
    places: list[list[Any]] = []
    blobs: list[bytes] = []
    begin = 0
    for (run, name), chunks in added.items():
        new = extended(None, name, chunks)
        rooms.append(
            [run, name, new.length, new.size, new.ended, new.seq, new.number, _aside(chunks)],
        )
        for i, c in enumerate(chunks):
            place = [run, name, len(chunks) - i, c.kind, c.fence, c.time, c.seq, c.attempt]
            places.append([*place, c.number, begin, len(c.data)])
            blobs.append(c.data)
            begin += len(c.data)

    connection.execute(sql["extend_streams"], (json.dumps(rooms),))
    connection.execute(sql["insert_chunks"], (json.dumps(places), b"".join(blobs)))


def read(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    run: str,
    name: str,
    offset: int,
    limit: int,
) -> StreamPage:
    """Return chunks of a stream, as of one moment."""
    connection.execute("BEGIN")
    try:
        found: Any = connection.execute(sql["stream_row"], (run, name)).fetchone()
        if found is None:
            return StreamPage("")

        status, stream, *row = found
        if stream is None:
            return StreamPage(status)

        chunks: list[StreamChunk] = []
        left = _PAGE
        cursor: Any = connection.execute(sql["chunks"], (stream, offset, limit))
        for kind, fence, time, seq, attempt, number, data, position in cursor:
            place = (kind, fence, time, seq, attempt, number, data, position)
            chunks.append(StreamChunk(name, *place))
            left -= len(data)
            if left <= 0:
                cursor.close()
                break

        return StreamPage(status, StreamRow(*row), chunks)
    finally:
        connection.execute("COMMIT")


def rows(connection: apsw.Connection, sql: Mapping[str, str], run: str) -> list[StreamRow]:
    """Return the streams of a run."""
    found: Any = connection.execute(sql["stream_rows"], (run,))
    return [StreamRow(*row) for row in found]


def marks(
    connection: apsw.Connection, sql: Mapping[str, str], wanted: Sequence[tuple[str, str]]
) -> list[StreamMark]:
    """Return whether there is more of streams."""
    found: Any = connection.execute(sql["stream_marks"], (json.dumps(wanted),))
    return [(status or "", length or 0, bool(ended)) for status, length, ended in found]


def purge(
    connection: apsw.Connection, sql: Mapping[str, str], streams: Sequence[int], before: float
) -> int:
    """Remove the chunks of streams, if their runs ended before a time; return of how many."""
    asked = json.dumps(list(streams))
    gone: list[Any] = connection.execute(sql["purge_stream_rows"], (asked, before)).fetchall()
    connection.execute(sql["purge_chunks"], (json.dumps([stream for (stream,) in gone]),))
    connection.execute(sql["shrink"]).fetchall()
    return len(gone)


def _aside(chunks: Sequence[StreamChunk]) -> int | None:
    """Return from which activation on an earlier end of the stream is not in force, if any."""
    if any(c.kind == "end" for c in chunks):
        return -1

    numbers = [c.number for c in chunks if c.kind == "reset" and c.number >= 0]
    return min(numbers, default=None)
