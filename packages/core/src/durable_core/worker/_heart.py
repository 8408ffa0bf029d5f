"""What the body of an activity says of itself while it runs, and learns of its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from durable_core.exceptions import CancelledError

__all__ = ["Heart"]


class Heart:
    """The heart of one attempt. May be used from any thread.

    Args:
        beat: Takes the details of a heartbeat; None if nobody listens.
    """

    def __init__(self, beat: Callable[[tuple[Any, ...]], None] | None = None) -> None:
        self._beat = beat
        self._cancelled = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock = threading.Lock()

    def beat(self, details: tuple[Any, ...]) -> None:
        """Say that the body lives.

        Raises:
            CancelledError: It was asked to end.
        """
        if self._cancelled.is_set():
            raise CancelledError("the activity was asked to end: nobody waits for it any more")

        if self._beat is not None:
            self._beat(details)

    @property
    def cancelled(self) -> bool:
        """Whether the body was asked to end."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask the body to end."""
        with self._lock:
            self._cancelled.set()
            waiting, self._waiting = self._waiting, []

        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)

    async def wait_cancelled(self) -> None:
        """Wait until it was asked to end."""
        event = asyncio.Event()
        with self._lock:
            if self._cancelled.is_set():
                return

            self._waiting.append((asyncio.get_running_loop(), event))

        await event.wait()

    def wait_cancelled_sync(self, timeout: float | None) -> None:
        """As `wait_cancelled`, in a thread."""
        self._cancelled.wait(timeout)
