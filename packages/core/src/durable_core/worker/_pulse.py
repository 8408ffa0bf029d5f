"""Heartbeats of one attempt: heard in any thread, recorded now and then, missed after a while."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from durable_core import _defaults
from durable_core.payloads import _json

from ._heart import Heart

if TYPE_CHECKING:
    from ._job import Job

__all__ = ["Pulse", "finder"]


class Pulse:
    """Listens to one attempt, and ends it when it falls silent.

    Belongs to the worker's event loop and to the task that entered it. What a body leaves behind
    keeps its heart, which must not keep the run in memory.

    Args:
        job: The activity.
        timeout: Seconds; None is no limit.
        remember: Makes the state of the job durable.

    Attributes:
        expired: Whether the attempt was ended because it was silent.
    """

    def __init__(
        self, job: Job, timeout: float | None, remember: Callable[[], Awaitable[None]]
    ) -> None:
        self._job = job
        self._timeout = timeout
        self._remember = remember
        every = _defaults.HEARTBEAT_EVERY
        self._every = every if timeout is None else min(every, timeout / 2)
        self._loop = asyncio.get_running_loop()
        self._heart: Heart | None = None
        self._silent_since = self._loop.time()
        self._recorded_at = float("-inf")
        self._recording: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._cancelled = False
        self._over = False
        self.expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        if self._timeout is not None:
            self._watch = self._loop.call_later(self._timeout, self._look)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        for handle in (self._later, self._watch):
            if handle is not None:
                handle.cancel()

        # What the body left behind may go on to beat: nothing of it is recorded any more.
        self._over = True
        self._job.pulse = None
        self.cancel()
        if self.expired:
            # Somebody else may have cancelled the task as well, which comes first.
            alone = self._task.uncancel() <= self._cancelling
            if alone and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise TimeoutError from error

    def heart(self) -> Heart:
        """Return the heart of the body; from any thread."""
        if self._heart is None:
            self._heart = Heart(_listener(self))
            if self._cancelled:
                self._heart.cancel()

        return self._heart

    def cancel(self) -> None:
        """Tell the body that it is to end."""
        self._cancelled = True
        if self._heart is not None:
            self._heart.cancel()

    def hear(self, details: bytes) -> None:
        """Take what a heartbeat said; from any thread."""
        if self._over:
            return

        # At once: the body may fail before the loop gets its turn.
        self._job.details = details
        self._silent_since = self._loop.time()
        self._loop.call_soon_threadsafe(self._plan)

    def _plan(self) -> None:
        if self._later is None and not self._over:
            wait = max(self._recorded_at + self._every - self._loop.time(), 0.0)
            self._later = self._loop.call_later(wait, self._record)

    def _record(self) -> None:
        self._later = None
        if self._recording is not None and not self._recording.done():
            return

        self._recorded_at = self._loop.time()
        self._recording = self._loop.create_task(self._recorded())

    async def _recorded(self) -> None:
        if self._over:
            return

        said = self._job.details
        try:
            await self._remember()
        except Exception:  # noqa: BLE001  # whoever owns the run learns of it by its own next write
            return

        if self._job.details != said and self._later is None and not self._over:
            self._later = self._loop.call_later(self._every, self._record)

    def _look(self) -> None:
        assert self._timeout is not None
        due = self._silent_since + self._timeout
        if self._loop.time() < due:
            self._watch = self._loop.call_at(due, self._look)
            return

        self.expired = True
        self.cancel()
        self._task.cancel()


def finder(pulse: Pulse) -> Callable[[], Heart]:
    """Return what finds the heart of an attempt, for its body; it does not hold the attempt."""
    ref = weakref.ref(pulse)

    def find() -> Heart:
        alive = ref()
        if alive is not None:
            return alive.heart()

        gone = Heart()
        gone.cancel()
        return gone

    return find


def _listener(pulse: Pulse) -> Callable[[tuple[Any, ...]], None]:
    ref = weakref.ref(pulse)

    def beat(details: tuple[Any, ...]) -> None:
        data = _json.encode(list(details), what="the details of a heartbeat")
        alive = ref()
        if alive is not None:
            alive.hear(data)

    return beat
