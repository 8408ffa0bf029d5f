"""Connections that a fork does not meet.

SQLite keeps its locks on a file per process, and what it knows of them in memory, which a forked
child inherits, though it holds none of the locks: a connection that it opens beside an inherited
one would read and write without any. Closing the inherited one in the child is as wrong. So every
connection is closed before a fork, at a moment when nobody uses it, and opened again by its next
use; the child inherits none.

A fork waits for the statement or commit that is under way. What starts another program without
running code in between (`subprocess`) is no fork in this sense.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw

from durable_core import _forks

from . import _open

__all__ = ["Handle", "opened"]


class Handle:
    """One connection to a file, or none for now.

    Attributes:
        opened: How often it was opened anew. What a connection counts begins anew with it.
    """

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self._path = path
        self._connection: apsw.Connection | None = connection
        # Of a thread, not of a call: a signal handler may fork in the middle of one.
        self._lock = threading.RLock()
        self._closed = False
        self.opened = 0
        _forks.add(self)

    @contextmanager
    def use(self) -> Generator[apsw.Connection]:
        """Keep the connection open for a while, and others from using it.

        Raises:
            StoreError: It had to be opened anew, and cannot be.
        """
        with self._lock:
            yield self._opened()

    @contextmanager
    def use_if_idle(self) -> Generator[apsw.Connection | None]:
        """Keep the connection open for a while; None if another thread uses it.

        Raises:
            StoreError: It had to be opened anew, and cannot be.
        """
        if not self._lock.acquire(blocking=False):
            yield None
            return

        try:
            yield self._opened()
        finally:
            self._lock.release()

    def _opened(self) -> apsw.Connection:
        if self._connection is None:
            if self._closed:
                raise apsw.ConnectionClosedError(f"the connection to {self._path} is closed")

            with _open.translated(str(self._path)):
                self._connection = _open.connect(self._path)

            self.opened += 1

        return self._connection

    def close(self) -> None:
        """Close the connection for good. May be called again."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def before_fork(self) -> None:
        """Close the connection and keep everybody from opening it until `after_fork`."""
        self._lock.acquire()
        connection, self._connection = self._connection, None
        if connection is not None:
            # Writing everything back into the database would hold up the fork.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.close()

    def after_fork(self) -> None:
        """Let the parent go on."""
        self._lock.release()


def opened(path: Path, number: int) -> list[Handle]:
    """Prepare a file and return so many handles on it; no fork comes between.

    Raises:
        StoreError: It cannot be used.
    """
    with _forks.none():
        return [Handle(path, connection) for connection in _open.opened(path, number)]
