"""A clock that runs as the wall clock does, and can be moved on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from durable_core._clock import Clock

__all__ = ["SkippingClock"]


class _Alarm:
    """A call at a time of the clock."""

    def __init__(
        self, clock: SkippingClock, when: float, callback: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.when = when
        self._clock = clock
        self._callback = callback
        self._args = args
        self._handle: asyncio.Handle | None = None

    def arm(self) -> None:
        """Ask the loop to ring, by how late the clock says that it is."""
        if self._handle is not None:
            self._handle.cancel()

        loop = asyncio.get_running_loop()
        left = self.when - self._clock.now()
        self._handle = loop.call_later(left, self._ring) if left > 0 else loop.call_soon(self._ring)

    def cancel(self) -> None:
        """Do not ring."""
        if self._handle is not None:
            self._handle.cancel()

        self._clock.forget(self)

    def _ring(self) -> None:
        self._clock.forget(self)
        self._callback(*self._args)


class SkippingClock(Clock):
    """Belongs to one event loop.

    Attributes:
        waiters: How many wait for nothing but runs.
    """

    def __init__(self) -> None:
        self.waiters = 0
        self._skipped = 0.0
        self._alarms: set[_Alarm] = set()

    def now(self) -> float:
        """Return the seconds since the epoch, with what was skipped."""
        return super().now() + self._skipped

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> _Alarm:
        """Call a function when it is that late by this clock."""
        alarm = _Alarm(self, when, callback, args)
        self._alarms.add(alarm)
        alarm.arm()
        return alarm

    async def sleep_until(self, when: float) -> None:
        """Return when it is that late by this clock."""
        if when <= self.now():
            return

        woken = asyncio.Event()
        alarm = self.call_at(when, woken.set)
        try:
            await woken.wait()
        finally:
            alarm.cancel()

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Let the clock skip meanwhile, if nothing else is to do."""
        self.waiters += 1
        try:
            yield
        finally:
            self.waiters -= 1

    def next_due(self) -> float | None:
        """Return when the first alarm is due; None if there is none."""
        return min((alarm.when for alarm in self._alarms), default=None)

    def move_to(self, when: float) -> None:
        """Make it that late; never earlier."""
        self._skipped += max(0.0, when - self.now())
        for alarm in list(self._alarms):
            alarm.arm()

    def forget(self, alarm: _Alarm) -> None:
        """Drop an alarm that has rung or was cancelled."""
        self._alarms.discard(alarm)
