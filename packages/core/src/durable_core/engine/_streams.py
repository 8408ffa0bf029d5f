"""What workflow code writes to streams: collected while it lives, passed over while it is replayed.

Invariant: what a write raises depends on the value and on what the code did before, and on nothing
else, so that code which catches it does the same on every replay. What depends on others, such as
how full a stream is, is for the owner of the run to check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from durable_core.exceptions import StreamError
from durable_core.payloads import _chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._commands import Commands

__all__ = ["StreamPart", "Streams"]


class StreamPart(msgspec.Struct, frozen=True):
    """What one call wrote.

    Attributes:
        name: Of the stream.
        data: JSON of the chunk; empty if it is the end.
    """

    name: str
    data: bytes

    @property
    def ends(self) -> bool:
        """Whether nothing more comes."""
        return not self.data


class Streams:
    """The streams of one run, as its code writes them.

    Args:
        commands: Of the run.
        check: Raises if the code may not write now.
    """

    def __init__(self, commands: Commands, check: Callable[[], None]) -> None:
        self._commands = commands
        self._check = check
        self._ended: set[str] = set()

    @property
    def parts(self) -> list[StreamPart]:
        """What the last activation wrote, in order."""
        return self._commands.collected.parts

    def writer(self, name: str) -> Writer:
        """Return what writes to a stream."""
        _chunks.check_name(name)
        return Writer(self, name)

    def put(self, part: StreamPart) -> None:
        """Take what was written."""
        self._check()
        if part.name in self._ended:
            raise StreamError(
                f"the stream {part.name!r} was ended by the run's code before: write to another one"
            )

        if part.ends:
            self._ended.add(part.name)

        if self._commands.expected is None:
            self._commands.collected.parts.append(part)


class Writer:
    """Writes to one stream for workflow code."""

    def __init__(self, streams: Streams, name: str) -> None:
        self._streams = streams
        self._name = name

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self._name

    def write(self, value: Any) -> None:
        """Append a chunk; see `durable_core.adapter.StreamWriter.write`."""
        # Also on replay, where it is dropped: it must raise there what it raised before.
        self._streams.put(StreamPart(self._name, _chunks.encoded(self._name, value)))

    def end(self) -> None:
        """Let readers know that nothing more comes."""
        self._streams.put(StreamPart(self._name, b""))
