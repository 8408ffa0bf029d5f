"""Opening a database file: its checks, its schema, and errors that say what to do."""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from durable_core import _defaults
from durable_core.exceptions import (
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreVersionError,
)
from durable_core.stores import _sql

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = [
    "APPLICATION_ID",
    "NO_SPACE",
    "SCHEMA_VERSION",
    "connect",
    "disk_full",
    "opened",
    "prepare",
    "translated",
]

APPLICATION_ID = 0x44555242
SCHEMA_VERSION = 1
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_SETTINGS = {
    "synchronous": "full",
    "fullfsync": "on",
    "cache_size": -_defaults.PAGE_CACHE // 1024,
    "mmap_size": 0,
}
_OLDEST_SQLITE = (3, 51, 3)
_BUSY_LIMIT = 10.0


@contextmanager
def translated(path: str) -> Generator[None]:
    """Turn SQLite's errors into ours, each with the path and what to do."""
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreCorruptError(
            f"{path} is damaged or not a SQLite database ({error}). Restore it from a backup, or "
            "move it away: a new one is made at the next start"
        ) from error
    except (apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise StoreReadOnlyError(
            f"{path} cannot be written ({error}). Give this user write permission on the file and "
            "its folder, or name another place by DURABLE_URL=sqlite:///path"
        ) from error
    except apsw.CantOpenError as error:
        raise StoreReadOnlyError(
            f"{path} cannot be opened ({error}). Check that its folder exists and is writable, or "
            "name another place by DURABLE_URL=sqlite:///path"
        ) from error
    except apsw.FullError as error:
        raise disk_full(path, error) from error
    except apsw.IOError as error:
        code = getattr(error, "extendedresult", apsw.SQLITE_IOERR)
        if code == apsw.SQLITE_IOERR_SHMSIZE:
            raise disk_full(path, error) from error

        name = apsw.mapping_extended_result_codes.get(code, "SQLITE_IOERR")
        raise StoreError(
            f"{path} cannot be read or written ({error}, {name}). Check the disk, and how much "
            "this user may store; nothing acknowledged is lost"
        ) from error
    except apsw.Error as error:
        raise StoreError(f"SQLite failed on {path}: {error}") from error


def disk_full(path: object, reason: object) -> StoreError:
    """Return the error that says that there is no space for a file."""
    return StoreError(
        f"the disk of {path} is full ({reason}). Free space; nothing acknowledged is lost"
    )


def prepare(path: Path) -> None:
    """Make the file if it is missing, check that it is ours, and bring its schema up to date.

    Raises:
        StoreCorruptError: It is not a database, or not one of durable-core.
        StoreReadOnlyError: It, or its folder, cannot be written.
        StoreVersionError: A newer durable-core wrote it.
    """
    have = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if have < _OLDEST_SQLITE:
        raise StoreVersionError(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a WAL database that several "
            "connections write (fixed in 3.51.3). Upgrade: pip install -U apsw"
        )

    _create(path)
    with translated(str(path)):
        connection = connect(path)
        try:
            connection.set_busy_timeout(int(_BUSY_LIMIT * 1000))
            if _check(connection, path):
                # Before the first table: the file can then shrink without being written anew.
                connection.pragma("auto_vacuum", "incremental")

            _switch_to_wal(connection)
            _migrate(connection, path)
        finally:
            connection.close()


def opened(path: Path, number: int) -> list[apsw.Connection]:
    """Prepare the file and return so many connections to it: all of them, or none.

    Raises:
        StoreError: As `prepare`.
    """
    prepare(path)
    connections: list[apsw.Connection] = []
    try:
        with translated(str(path)):
            # One by one, so that those before a failure are known and closed.
            while len(connections) < number:
                connections.append(connect(path))
    except BaseException:
        for connection in connections:
            connection.close()

        raise

    return connections


def connect(path: Path) -> apsw.Connection:
    """Open a connection with the settings that every connection of ours has.

    Several connections of one process share the file, so it must never be opened and closed by
    other means while one is open: that would drop SQLite's locks.
    """
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    # Whoever opens or closes a WAL database first or last holds it alone for a moment.
    connection.set_busy_timeout(int(_BUSY_LIMIT * 1000))
    # One by one: a statement that answers with a row would hold up those behind it in a script.
    for name, value in _SETTINGS.items():
        connection.pragma(name, value)

    connection.set_busy_timeout(0)
    return connection


def _create(path: Path) -> None:
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # 0600, and made before any connection exists; SQLite gives its -wal and -shm the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _defaults.FILE_MODE))
    except FileExistsError:
        return
    except OSError as error:
        if error.errno in NO_SPACE:
            raise disk_full(path, error.strerror) from error

        raise StoreReadOnlyError(
            f"cannot create {path} ({error.strerror}). Make its folder writable for this user, or "
            "name another place by DURABLE_URL=sqlite:///path"
        ) from error


def _check(connection: apsw.Connection, path: Path) -> bool:
    """Return whether it has no tables yet."""
    # As of one moment: another process may be making the schema just now.
    connection.execute("BEGIN")
    try:
        application = connection.pragma("application_id")
        version = connection.pragma("user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    finally:
        connection.execute("COMMIT")

    if application == APPLICATION_ID:
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise StoreVersionError(
                f"{path} has schema version {version}, this durable-core knows {SCHEMA_VERSION}: a "
                "newer durable-core wrote it. Upgrade this one: pip install -U durable-core"
            )

        return False

    if application or tables:
        raise StoreCorruptError(
            f"{path} is a SQLite database of something else (application id {application}, "
            f"{tables} tables). Name another file by DURABLE_URL=sqlite:///path"
        )

    if not os.access(path, os.W_OK):
        raise StoreReadOnlyError(f"{path} cannot be written: give this user write permission on it")

    return True


def _switch_to_wal(connection: apsw.Connection) -> None:
    """Make it a WAL database; SQLite's own waiting does not cover two who try at once."""
    deadline = time.monotonic() + _BUSY_LIMIT
    while True:
        try:
            connection.pragma("journal_mode", "wal")
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise

            time.sleep(0.002)
        else:
            return


def _migrate(connection: apsw.Connection, path: Path) -> None:
    if connection.pragma("user_version") == SCHEMA_VERSION:
        # A read-only file opens and reads well; find out now, not at the first result.
        if (
            connection.readonly("main")
            or not os.access(path, os.W_OK)
            or not os.access(path.parent, os.W_OK)
        ):
            raise apsw.ReadOnlyError("attempt to write a readonly database")

        return

    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have made the schema while this one waited for the lock.
        if connection.pragma("user_version") == 0:
            connection.execute(_sql.read(__package__ or "", "schema.sql"))
            connection.execute(
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}"
            )

        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

        raise
