"""Turns of the stores of one process that write to one file.

SQLite's own lock is polled, and polling is no queue: where fifty event loops of a process have a
store each, most of its time went into threads that looked whether it was their turn. So one thread
of a process asks SQLite, and the others wait for it on a lock.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Turn", "turn_of"]

_LOOK = 0.05


class Turn:
    """Whose turn it is, among the writers of one process and file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, until: float, waits: Callable[[], None]) -> Generator[None]:
        """Have the turn for a while. Nobody who waits too long is kept: SQLite's lock decides.

        Args:
            until: When to go on without it, by the monotonic clock.
            waits: Called now and then meanwhile.
        """
        held = self._lock.acquire(blocking=False)
        while not held and time.monotonic() < until:
            held = self._lock.acquire(timeout=_LOOK)
            waits()

        try:
            yield
        finally:
            if held:
                self._lock.release()


_turns: weakref.WeakValueDictionary[Path, Turn] = weakref.WeakValueDictionary()
_making = threading.Lock()


def turn_of(path: Path) -> Turn:
    """Return what all writers of this process to a file share."""
    key = path.resolve()
    with _making:
        found = _turns.get(key)
        if found is None:
            found = _turns[key] = Turn()

        return found


def _forked() -> None:
    """Forget what threads hold that a child process does not have."""
    global _making  # noqa: PLW0603
    _making = threading.Lock()
    _turns.clear()


os.register_at_fork(after_in_child=_forked)
