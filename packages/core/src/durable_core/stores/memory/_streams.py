"""The streams of one run in memory."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from durable_core.stores._streams import StreamChunk, StreamPage, StreamRow, extended, mark_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_core.stores._streams import StreamMark

__all__ = ["Streams"]

_PAGE = 1024 * 1024


class _Stream(msgspec.Struct):
    row: StreamRow
    chunks: list[StreamChunk] = []


class Streams:
    """The streams of one run. Not safe for threads by itself."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def add(self, chunks: Sequence[StreamChunk]) -> None:
        """Add chunks at the ends of their streams."""
        for chunk in chunks:
            found = self._streams.get(chunk.name)
            row = extended(None if found is None else found.row, chunk.name, [chunk])
            stream = self._streams.setdefault(chunk.name, _Stream(row))
            stream.row = row
            stream.chunks.append(replace(chunk, offset=row.length - 1))

    def rows(self) -> list[StreamRow]:
        """Return the streams in the order of their names."""
        return [self._streams[name].row for name in sorted(self._streams)]

    def read(self, status: str, name: str, offset: int, limit: int) -> StreamPage:
        """Return chunks of a stream, for a run of this status."""
        stream = self._streams.get(name)
        if stream is None:
            return StreamPage(status)

        found: list[StreamChunk] = []
        left = _PAGE
        begin = max(offset - stream.row.kept, 0)
        for chunk in islice(stream.chunks, begin, begin + limit):
            found.append(chunk)
            left -= len(chunk.data)
            if left <= 0:
                break

        return StreamPage(status, stream.row, found)

    def mark(self, status: str, name: str) -> StreamMark:
        """Return whether there is more of a stream."""
        stream = self._streams.get(name)
        return mark_of(status, None if stream is None else stream.row)

    def purge(self, limit: int) -> int:
        """Forget the chunks of so many streams at most; return of how many."""
        kept = [s for s in self._streams.values() if s.row.kept < s.row.length][:limit]
        for stream in kept:
            stream.row = replace(stream.row, kept=stream.row.length)
            stream.chunks.clear()

        return len(kept)
