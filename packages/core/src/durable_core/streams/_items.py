"""The items of a stream, and what counts of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

__all__ = ["Collected", "StreamItem"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamItem(Generic[T]):
    """One item of a stream.

    Attributes:
        offset: Its place: 0, 1, 2 … without gaps.
        kind: A ``chunk``; a ``reset``, by which earlier chunks are void; or the ``end``, after
            which no chunk comes.
        value: Of a chunk; None for the others.
        activity_id: Of the activity that wrote it, or, of a reset, whose attempt did not complete;
            None for the run's code, and for a reset because the run went back.
        attempt: Of that activity; 0 for the run's code.
        time: When it was written, in seconds since the epoch.
        since: Of a reset because the run went back: the activation and the activity from which on
            nothing counts, by their numbers.
        again: Of such a reset: earlier activities that begin anew, by their numbers.
        activation: In which the run's code wrote it, by its number.
    """

    offset: int
    kind: Literal["chunk", "reset", "end"]
    value: T
    activity_id: str | None = None
    attempt: int = 0
    time: float = 0.0
    since: tuple[int, int] | None = None
    again: tuple[int, ...] = ()
    activation: int | None = None

    def voids(self, earlier: StreamItem[Any]) -> bool:
        """Return whether an earlier item does not count any more because of this one."""
        if self.kind != "reset" or earlier.offset >= self.offset:
            return False

        if self.since is None:
            return self.activity_id == earlier.activity_id and earlier.kind != "reset"

        activation, activity = self.since
        if earlier.activation is not None:
            return earlier.activation >= activation

        if earlier.kind == "reset" or earlier.activity_id is None:
            return False

        seq = int(earlier.activity_id)
        return seq >= activity or seq in self.again

    def to_json_dict(self) -> dict[str, Any]:
        """Return it in JSON's own types, if its value is; without what does not apply."""
        found: dict[str, Any] = {"offset": self.offset, "kind": self.kind, "time": self.time}
        if self.kind == "chunk":
            found["value"] = self.value

        if self.since is not None:
            found |= {"since": list(self.since), "again": list(self.again)}

        for name, given in (("activity_id", self.activity_id), ("activation", self.activation)):
            if given is not None:
                found[name] = given

        if self.attempt:
            found["attempt"] = self.attempt

        return found


@dataclass(slots=True)
class Collected(Generic[T]):
    """What counts of a stream, from its items in order, each given once.

    For readers that show a stream while it grows::

        shown = Collected[str]()
        async for item in handle.stream("tokens", result_type=str).items():
            shown.add(item)
            render("".join(shown.values))
    """

    chunks: list[StreamItem[T]] = field(default_factory=list[StreamItem[T]])

    @property
    def values(self) -> Sequence[T]:
        """The values that count, in order."""
        return [chunk.value for chunk in self.chunks]

    def add(self, item: StreamItem[T]) -> bool:
        """Take an item; return whether something that counted before does not any more."""
        if item.kind == "chunk":
            self.chunks.append(item)
            return False

        kept = [chunk for chunk in self.chunks if not item.voids(chunk)]
        dropped = len(kept) < len(self.chunks)
        self.chunks[:] = kept
        return dropped
