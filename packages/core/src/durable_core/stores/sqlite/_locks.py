"""A worker's life, as a lock on a file of its own beside the database (ENGINE R15).

The kernel drops the lock when the process ends, however it ends, so a worker whose lock can be
taken is dead, and a restart on the same host may take its runs over at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import weakref
from pathlib import Path

from durable_core import _clock, _defaults
from durable_core.exceptions import StoreError, StoreReadOnlyError

from . import _open

__all__ = ["WorkerLock", "is_dead", "waited"]

_TIME = struct.Struct("d")
_held: weakref.WeakSet[WorkerLock] = weakref.WeakSet()


class WorkerLock:
    """Holds the lock from construction to `release`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.lock"
        # The number of a closed file may be that of another one at once.
        self._using = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _defaults.FILE_MODE)
        except OSError as error:
            raise _unusable(folder, error) from error

        fcntl.flock(self._fd, fcntl.LOCK_EX)
        _held.add(self)

    def wait(self) -> None:
        """Note in the file that its process lives and waits until others let it write.

        A worker of a crowded store may get its turn only when its lease is past. It does nothing
        until then, and nobody gains if it is taken for dead.
        """
        with self._using, contextlib.suppress(OSError):
            os.pwrite(self._fd, _TIME.pack(_clock.boottime()), 0)

    def release(self) -> None:
        """Drop the lock and remove its file. May be called again."""
        with self._using:
            if self._fd < 0:
                return

            # Removed while locked: whoever finds no file knows that nobody holds it.
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

            os.close(self._fd)
            self._fd = -1

    def forget(self) -> None:
        """Close the descriptor that a forked child inherited; the parent's lock stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def waited(path: Path) -> float:
    """Return when a worker last noted that it waits, by `_clock.boottime`; 0 if it never did."""
    try:
        data = path.read_bytes()
    except OSError:
        return 0.0

    return float(_TIME.unpack(data)[0]) if len(data) == _TIME.size else 0.0


def is_dead(path: Path) -> bool:
    """Return whether nobody holds the lock of a worker; its file is removed then."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise _unusable(path, error) from error

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()

        return True
    finally:
        os.close(fd)


def _unusable(path: Path, error: OSError) -> StoreError:
    if error.errno in _open.NO_SPACE:
        return _open.disk_full(path, error.strerror)

    return StoreReadOnlyError(
        f"{path}, where the workers of the store say that they live, cannot be written "
        f"({error.strerror}). Give this user write permission on it, or name another place by "
        "DURABLE_URL=sqlite:///path"
    )


def _after_fork() -> None:
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_after_fork)
