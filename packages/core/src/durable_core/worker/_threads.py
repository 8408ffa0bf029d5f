"""Threads for sync bodies.

Unlike those of `concurrent.futures`, they are daemons: a body that never returns must keep neither
the worker's shutdown nor the interpreter's exit waiting. A body that is cut off this way is a lost
attempt, as after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Threads"]

_Job = tuple[Callable[..., Any], asyncio.Future[Any], asyncio.AbstractEventLoop]


class Threads:
    """Up to ``limit`` threads, started as needed. Belongs to one event loop.

    Attributes:
        closed: Whether its threads end, so that no further function would be called.
    """

    def __init__(self, limit: int) -> None:
        self.closed = False
        self._home = asyncio.get_running_loop()
        self._limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._count = 0
        self._busy = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def at_home(self) -> bool:
        """Whether the running loop is the one that they belong to."""
        return asyncio.get_running_loop() is self._home

    async def available(self) -> None:
        """Wait until a thread has nothing to do; `run` uses it if nobody else runs first."""
        while self._busy >= self._limit:
            freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(freed)
            try:
                await freed
            finally:
                self._waiting.remove(freed)

    def run(self, fn: Callable[[], Any]) -> asyncio.Future[Any]:
        """Call a function in a thread and return a future of its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._busy += 1
        if self._busy > self._count and self._count < self._limit:
            self._count += 1
            threading.Thread(
                target=self._work, name=f"durable-activity-{self._count}", daemon=True
            ).start()

        self._jobs.put((fn, future, loop))
        return future

    def run_apart(self, fn: Callable[[], Any]) -> asyncio.Future[Any]:
        """Call a function in a daemon of its own, from any loop; none of the limit is used."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def work() -> None:
            result, error = _outcome(fn)
            with contextlib.suppress(RuntimeError):  # the loop ended meanwhile: nobody waits
                loop.call_soon_threadsafe(_settle, future, result, error)

        threading.Thread(target=work, name="durable-apart", daemon=True).start()
        return future

    def close(self) -> None:
        """Let idle threads end, and the others after what they are doing."""
        self.closed = True
        for _ in range(self._count):
            self._jobs.put(None)

    def _ended(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        # Not when the future ends: a body that timed out keeps its thread until it returns.
        self._busy -= 1
        for freed in self._waiting:
            if not freed.done():
                freed.set_result(None)

        _settle(future, result, error)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            fn, future, loop = job
            # Whoever gave up on a call that still waited for a thread does not want it made.
            result, error = (None, None) if future.done() else _outcome(fn)
            try:
                loop.call_soon_threadsafe(self._ended, future, result, error)
            except RuntimeError:
                # The loop ended meanwhile: nobody waits any more.
                return

            del job, fn, future, loop, result, error


def _outcome(fn: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return fn(), None
    except BaseException as raised:  # noqa: BLE001  # handed over to whoever awaits
        return None, raised


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return

    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        # A future cannot carry it.
        future.set_exception(RuntimeError(f"the function raised StopIteration: {error}"))
    else:
        future.set_exception(error)
