"""The only place that reads the wall clock, so that tests can put another in its place."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

__all__ = ["Alarm", "Clock", "boottime", "from_timestamp", "now"]

# Linux counts a suspended machine's time by CLOCK_BOOTTIME alone; macOS by each of its monotonic
# clocks, CLOCK_UPTIME_RAW apart.
_SINCE_BOOT: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return the seconds since the epoch, UTC."""
    return time.time()


def boottime() -> float:
    """Return the seconds since the machine was started, those included in which it was suspended.

    The same in all its processes; setting the clock does not change it.
    """
    return time.clock_gettime(_SINCE_BOOT)


def from_timestamp(seconds: float) -> datetime:
    """Return the aware UTC datetime of a recorded time."""
    return datetime.fromtimestamp(seconds, tz=UTC)


class Alarm(Protocol):
    """What `Clock.call_at` returns."""

    def cancel(self) -> None:
        """Do not call."""
        ...


class Clock:
    """The time by which runs live; a test may let it skip what is only waited for."""

    def now(self) -> float:
        """Return the seconds since the epoch, UTC."""
        return now()

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> Alarm:
        """Call a function on the running loop when it is that late, or at once if it is already."""
        delay = max(0.0, when - self.now())
        return asyncio.get_running_loop().call_later(delay, callback, *args)

    async def sleep_until(self, when: float) -> None:
        """Return when it is that late by the wall clock, which may be set meanwhile."""
        while (left := when - self.now()) > 0:  # noqa: ASYNC110  # there is nothing to be woken by
            await asyncio.sleep(left)

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Say that nothing but runs is waited for, so that a test's clock may skip."""
        yield
