"""Reports workflow code that holds up its event loop, with the line at which it is."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from durable_core import _defaults

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Watchdog"]

_log = logging.getLogger("durable_core.worker")


class Watchdog:
    """Watches the thread of one worker from a thread of its own, from `start` to `stop`.

    It can only report: Python has no way to interrupt code of a thread.

    Args:
        limit: Seconds that one activation may take before it is reported.
    """

    def __init__(self, limit: float = _defaults.BLOCKED_AFTER) -> None:
        self._limit = limit
        self._watched = threading.get_ident()
        # A new list per activation: the thread tells them apart by identity, and no clock is read
        # on the way of every step.
        self._inside: list[str] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="durable-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    @contextmanager
    def watching(self, workflow_id: str) -> Generator[None]:
        """Watch code of a run."""
        self._inside = [workflow_id]
        try:
            yield
        finally:
            self._inside = None

    def _watch(self) -> None:
        seen: list[str] | None = None
        since, report_at = 0.0, self._limit
        while not self._stopped.wait(self._limit / 4):
            inside, now = self._inside, time.monotonic()
            if inside is None or inside is not seen:
                seen, since, report_at = inside, now, self._limit
            elif now - since >= report_at:
                # Again and again, but not to the end of the disk.
                report_at *= 2
                self._report(inside[0], now - since)

    def _report(self, workflow_id: str, seconds: float) -> None:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001  # there is no other way
        stack = "" if frame is None else "".join(traceback.format_stack(frame))
        _log.error(
            "run %r: its workflow code has held up the event loop for %.1f s, and everything else "
            "on that loop waits. What blocks or computes for long belongs in an activity. See: "
            "durable show %s\n%s",
            *(workflow_id, seconds, workflow_id, stack),
        )
