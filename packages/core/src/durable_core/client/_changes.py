"""Waiting for commits of this or another process, by polling what SQLite keeps in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from durable_core import _defaults

if TYPE_CHECKING:
    from durable_core.stores import Store

__all__ = ["Changes"]

_PUNCTUAL = 0.002  # seconds late that a timer of asyncio may be at any time


class Changes:
    """One poller for all who wait. Belongs to one event loop; idle while nobody waits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._count = 0
        # The shortest and the longest interval, and since when it grows.
        self._waiting: dict[asyncio.Future[None], tuple[float, float, float]] = {}
        self._tick: asyncio.TimerHandle | None = None
        # The least interval for now, by what the last look cost.
        self._pace = 0.0

    @property
    def count(self) -> int:
        """How many changes were seen. Whoever reads the store asks before, and waits from there."""
        return self._count

    async def wait(
        self,
        *,
        timeout: float,
        interval: float = _defaults.POLL_WAITING,
        begun: float | None = None,
        since: int | None = None,
    ) -> None:
        """Return after somebody committed, or after ``timeout`` seconds.

        Whoever has waited long need not know at once: it learns a twentieth of its time late, and
        the looks of many callers do not take the time of the work that they wait for.

        Args:
            timeout: In seconds.
            interval: Seconds between two looks; the shortest of those who wait counts.
            begun: Since when the caller waits, by the loop's clock: the interval then grows with
                that time, to `_defaults.POLL_IDLE` at most.
            since: The `count` before the store was read: a change that another waiter saw while it
                was read is one for this waiter too.
        """
        if since is not None and since != self._count:
            return

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        longest = interval if begun is None else max(interval, _defaults.POLL_IDLE)
        self._waiting[future] = interval, longest, begun or 0.0
        handle = loop.call_later(timeout, _settle, future)
        self._schedule()
        try:
            await future
        finally:
            handle.cancel()
            self._waiting.pop(future, None)

    def notify(self) -> None:
        """Wake everybody up now."""
        self._count += 1
        for future in list(self._waiting):
            _settle(future)

    def close(self) -> None:
        """Stop polling and wake everybody up."""
        if self._tick is not None:
            self._tick.cancel()

        self.notify()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = now + min(
            min(max(shortest, (now - begun) * _defaults.POLL_LATE), longest)
            for shortest, longest, begun in self._waiting.values()
        )
        due = max(due, now + self._pace)
        if self._tick is not None and not self._tick.cancelled() and now < self._tick.when() <= due:
            return

        if self._tick is not None:
            self._tick.cancel()

        self._tick = loop.call_at(due, self._look)

    def _look(self) -> None:
        if self._tick is not None:
            # Where many loops share the interpreter, or processes a core, each look comes late, and
            # more of them would make it later.
            late = asyncio.get_running_loop().time() - self._tick.when() - _PUNCTUAL
            self._pace = min(max(late / _defaults.POLL_LATE, 0.0), _defaults.POLL_IDLE)

        self._tick = None
        if self._store.changed():
            self.notify()
        elif self._waiting:
            self._schedule()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
