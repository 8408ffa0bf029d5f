"""Turns of all who write to one file: the stores of one process, and the processes.

SQLite's own lock is polled, and polling is no queue. Where fifty event loops of a process have a
store each, most of its time went into threads that looked whether it was their turn: so one thread
of a process asks SQLite, and the others wait for it on a lock. And a process that has just
committed is the first to ask again: so whoever is to write next holds a lock on a file beside the
database until its transaction has begun, and nobody else asks meanwhile (ENGINE R40).
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from durable_core import _defaults

__all__ = ["Turn", "turn_of"]

_LOOK = 0.05
_POLL = 0.0005
# So long nobody passes by the process that is to write next, be it stopped or slow; and so long if
# it was passed by before, which is enough for one that is awake.
_COURTESY = 0.25
_AGAIN = 0.003


class Turn:
    """Whose turn it is, among the writers to one file."""

    def __init__(self, place: Path) -> None:
        self._lock = threading.Lock()
        self._place = _Place(place)

    @contextmanager
    def taken(self, until: float, waits: Callable[[], None]) -> Generator[Callable[[], None]]:
        """Have the turn for a while, and yield what to call as soon as the transaction has begun.

        Nobody who waits too long is kept: SQLite's lock decides.

        Args:
            until: When to go on without it, by the monotonic clock.
            waits: Called now and then meanwhile.
        """
        held = self._lock.acquire(blocking=False)
        while not held and time.monotonic() < until:
            held = self._lock.acquire(timeout=_LOOK)
            waits()

        if not held:
            yield lambda: None
            return

        try:
            self._place.take(waits)
            yield self._place.leave
        finally:
            self._place.leave()
            self._lock.release()

    def forget(self) -> None:
        """Close what a forked child inherited; the parent's place stays."""
        self._place.close()


class _Place:
    """The place of the process that writes next, as a lock on a file; for one thread at a time.

    The kernel drops the lock with its process. Where the file cannot be made there is no queue, and
    whoever tries to write learns why.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._held = False
        self._courtesy = _COURTESY

    def __del__(self) -> None:
        self.close()

    def take(self, waits: Callable[[], None]) -> None:
        """Wait for the place, but not for ever."""
        if self._fd < 0 and not self._open():
            return

        until = time.monotonic() + self._courtesy
        while not self._try():
            waits()
            if time.monotonic() > until:
                self._courtesy = _AGAIN
                return

            time.sleep(_POLL)

        self._courtesy = _COURTESY

    def leave(self) -> None:
        """Let the next one take the place. May be called again."""
        if self._held:
            self._held = False
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._held = False

    def _try(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # A file system without such locks: WorkerLock says so.
            return True

        self._held = True
        return True

    def _open(self) -> bool:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR, _defaults.FILE_MODE)
        except OSError:
            return False

        return True


_turns: weakref.WeakValueDictionary[Path, Turn] = weakref.WeakValueDictionary()
_making = threading.Lock()


def turn_of(path: Path, folder: Path) -> Turn:
    """Return what all writers of this process to a file share.

    Args:
        path: Of the database.
        folder: Of the workers of the store.
    """
    key = path.resolve()
    with _making:
        found = _turns.get(key)
        if found is None:
            found = _turns[key] = Turn(folder / "turn")

        return found


def _forked() -> None:
    """Forget what threads hold that a child process does not have."""
    global _making  # noqa: PLW0603
    _making = threading.Lock()
    for turn in list(_turns.values()):
        turn.forget()

    _turns.clear()


os.register_at_fork(after_in_child=_forked)
