"""What one ownership of a run writes to streams: gathered from bodies and code, committed in turn.

A chunk of an activity is in memory first. The first one after a pause is handed to the store at
once, those that follow about every 50 ms; and whatever else the run appends takes along what is
there, so the chunks of an activity are durable with its result at the latest. What the run's code
wrote goes with its activation, and with nothing else.

Invariant: a chunk counts unless its attempt failed, or was lost with its worker. As soon as either
is known, a reset is appended to each stream on which that attempt wrote. Of an attempt whose worker
died its next owner knows from `PendingActivity.streams`, which is written with the first chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from durable_core import _defaults
from durable_core import exceptions as ex
from durable_core._planted import planted
from durable_core.payloads import _chunks
from durable_core.stores import Outcome, StreamChunk

from ._arrived import LostRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from durable_core._clock import Clock
    from durable_core.adapter import StreamWriter
    from durable_core.engine import Pending, Run, StreamPart
    from durable_core.history import PendingActivity
    from durable_core.stores import Loaded, StreamRow

    from ._rewind import Rewind

__all__ = ["ActivityStreams", "Outbox"]

_OVER = "the attempt that writes to a stream is over: nobody gets what it writes any more"


class _Extent(msgspec.Struct):
    """How much is in a stream, with what is still here."""

    length: int = 0
    size: int = 0
    ended: bool = False


class Outbox:
    """The chunks of one ownership. `write` is for any thread, the rest for the worker's loop.

    Args:
        run_id: Of the run.
        fence: Of the ownership.
        clock: Tells when chunks were written.
        flush: Hands what `take` returns to the store, if nothing else does.
        state_of: Returns an activity that the run waits for, and what is known of it.
        broken: Takes what keeps chunks from being written.
    """

    def __init__(
        self,
        *,
        run_id: str,
        fence: int,
        clock: Clock,
        flush: Callable[[], asyncio.Future[Outcome]],
        state_of: Callable[[int], tuple[Pending, PendingActivity] | None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._run_id = run_id
        self._fence = fence
        self._clock = clock
        self._flush = flush
        self._state_of = state_of
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._extents: dict[str, _Extent] = {}
        self._chunks: list[StreamChunk] = []
        # Activities that wrote to a stream for the first time.
        self._begun: dict[int, None] = {}
        self._closed = False
        # Whether somebody sees to it that what is here is flushed.
        self._planned = False
        self._taken_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def resume(
        self,
        loaded: Loaded,
        states: dict[int, PendingActivity],
        run: Run,
        rewind: Rewind | None,
    ) -> None:
        """Begin where the owner before ended: what it left half written is void.

        Args:
            loaded: The record.
            states: What is known of activities without an outcome; brought up to date.
            run: Rebuilt from the record.
            rewind: How far it went back, if it had ended.
        """
        for row in loaded.streams:
            extent = self._extents[row.name] = _Extent(row.length, row.size, row.ended >= 0)
            if rewind is not None and _reaches(row, states, run, rewind):
                # What was under way when the run ended begins anew.
                again = msgspec.json.encode(sorted(states))
                self._add(row.name, "reset", seq=run.next_seq, number=rewind.to, data=again)
                extent.ended = 0 <= row.ended < rewind.to

        for seq, state in states.items():
            for name in () if planted("reset.forgotten") else state.streams:
                self._add(name, "reset", seq=seq, attempt=len(state.attempts))

            if state.streams:
                states[seq] = replace(state, streams=())

    def of(self, seq: int) -> ActivityStreams:
        """Return what an activity writes by, over its attempts."""
        return ActivityStreams(self, seq)

    # Writing

    def write(self, attempt: Attempt, name: str, data: bytes) -> None:
        """Take a chunk; from any thread.

        Raises:
            CancelledError: The attempt is over.
            StreamError: The stream cannot take it.
        """
        with self._lock:
            if attempt.over or self._closed:
                raise ex.CancelledError(_OVER)

            self._admit(name, len(data))
            self._add(name, "chunk", seq=attempt.seq, attempt=attempt.number, data=data)
            if name not in attempt.names:
                attempt.names.add(name)
                self._begun[attempt.seq] = None

            plan, self._planned = not self._planned, True

        if not plan:
            return

        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001  # cheaper than by a handle
            self._plan()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the run with it
                self._loop.call_soon_threadsafe(self._plan)

    def put(self, parts: Sequence[StreamPart], number: int) -> None:
        """Take what the run's code wrote in an activation that is about to be committed.

        Raises:
            StreamError: A stream cannot take it; nothing of it was taken then.
        """
        with self._lock:
            before = {n: replace(e) for n, e in self._extents.items()} if parts else {}
            taken = len(self._chunks)
            try:
                for part in parts:
                    self._admit(part.name, len(part.data))
                    kind = "end" if part.ends else "chunk"
                    self._add(part.name, kind, number=number, data=part.data)
            except ex.StreamError:
                self._extents = before
                del self._chunks[taken:]
                raise

    def void(self, seq: int, attempt: int, names: set[str]) -> None:
        """Let readers know that what an activity wrote to streams does not count."""
        if not names:
            return

        with self._lock:
            for name in sorted(names):
                self._add(name, "reset", seq=seq, attempt=attempt)

            names.clear()
            plan, self._planned = not self._planned, True

        if plan:
            self._plan()

    def _admit(self, name: str, size: int) -> None:
        extent = self._extents.get(name)
        if extent is None:
            if len(self._extents) >= _defaults.STREAMS:
                raise ex.StreamError(
                    f"the run has {_defaults.STREAMS:,} streams, which is the limit, so {name!r} "
                    "cannot be another one: write to one of them"
                )

            self._extents[name] = _Extent()
        elif extent.ended:
            raise ex.StreamError(
                f"the stream {name!r} was ended by the run's code: write to another one"
            )
        elif extent.size + size > _defaults.STREAM_SIZE or extent.length >= _defaults.STREAM_LENGTH:
            raise ex.StreamError(
                f"the stream {name!r} is full: it has {extent.length:,} chunks of {extent.size:,} "
                f"bytes, the limits are {_defaults.STREAM_LENGTH:,} and {_defaults.STREAM_SIZE:,}. "
                "Go on with another stream, or write larger chunks less often"
            )

    def _add(self, name: str, kind: Any, **more: Any) -> None:
        now = self._clock.now()
        chunk = StreamChunk(name=name, kind=kind, fence=self._fence, time=now, **more)
        self._chunks.append(chunk)
        extent = self._extents.setdefault(name, _Extent())
        extent.length += 1
        extent.size += len(chunk.data)
        extent.ended = extent.ended or kind == "end"

    # Handing over

    def take(self) -> tuple[Sequence[StreamChunk], Iterable[tuple[Pending, PendingActivity]]]:
        """Return the chunks that no append holds yet, and the activities to be noted with them.

        Whoever takes them appends both, and lets the run go if it cannot.
        """
        with self._lock:
            chunks, self._chunks = self._chunks, []
            begun, self._begun = self._begun, {}
            if chunks:
                self._taken_at = self._loop.time()

        states = (self._state_of(seq) for seq in begun)
        return chunks, [state for state in states if state is not None]

    def put_back(self, chunks: Sequence[StreamChunk]) -> None:
        """Take again what bodies wrote and an append held that was refused.

        What the run's code wrote is written again by whatever step takes the place of that one.
        """
        with self._lock:
            kept = [chunk for chunk in chunks if chunk.seq]
            self._chunks[:0] = kept
            self._begun.update({c.seq: None for c in kept if c.kind == "chunk"})

    def close(self) -> None:
        """Take no more from bodies."""
        with self._lock:
            self._closed = True

        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        """Flush now, or as soon as it is time; `_planned` is true from here to the end of that."""
        wait = self._taken_at + _defaults.STREAM_EVERY - self._loop.time()
        if wait > 0 and not self._closed:
            self._timer = self._loop.call_later(wait, self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        self._timer = None
        with self._lock:
            if self._closed or not self._chunks:
                self._planned = False
                return

        self._flush().add_done_callback(self._flushed)

    def _flushed(self, done: asyncio.Future[Outcome]) -> None:
        error = None if done.cancelled() else done.exception()
        if self._closed or done.cancelled():
            return

        if error is not None:
            self._broken(error)
        elif done.result() is not Outcome.ACCEPTED:
            self._broken(LostRunError(self._run_id))
        else:
            self._plan()


class ActivityStreams:
    """What one activity writes by. Belongs to the worker's event loop.

    Attributes:
        names: Of the streams to which an attempt without an outcome wrote.
    """

    def __init__(self, outbox: Outbox, seq: int) -> None:
        self._outbox = outbox
        self._seq = seq
        self._number = 0
        self.names: set[str] = set()

    def attempt(self, number: int) -> Attempt:
        """Return what an attempt writes by, while it is entered."""
        self._number = number
        return Attempt(self._outbox, self._seq, number, self.names)

    def void(self) -> None:
        """Note that the attempt, which is over, did not complete."""
        self._outbox.void(self._seq, self._number, self.names)


class Attempt:
    """What the body of one attempt writes by.

    What a body leaves behind may keep it, so it does not hold the run in memory.
    """

    def __init__(self, outbox: Outbox, seq: int, number: int, names: set[str]) -> None:
        self._outbox = weakref.ref(outbox)
        self.seq = seq
        self.number = number
        self.names = names
        self.over = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        # A thread that it left behind may be about to write: `void` takes the lock after it.
        self.over = True

    def open(self, name: str) -> StreamWriter:
        """Return what writes to a stream; from any thread.

        Raises:
            ValueError: A stream cannot be called so.
        """
        _chunks.check_name(name)
        return _Writer(self, name)

    def write(self, name: str, data: bytes) -> None:
        """Take a chunk; from any thread."""
        outbox = self._outbox()
        if outbox is None:
            raise ex.CancelledError(_OVER)

        outbox.write(self, name, data)


class _Writer:
    """Writes to one stream for the body of an activity."""

    def __init__(self, attempt: Attempt, name: str) -> None:
        self._attempt = attempt
        self._name = name

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self._name

    def write(self, value: Any) -> None:
        """Append a chunk; see `durable_core.adapter.StreamWriter.write`."""
        self._attempt.write(self._name, _chunks.encoded(self._name, value))


def _reaches(row: StreamRow, again: Iterable[int], run: Run, rewind: Rewind) -> bool:
    """Return whether what is set aside, or begins anew, may have written to a stream."""
    return row.number >= rewind.to or row.seq >= min([run.next_seq, *again])
