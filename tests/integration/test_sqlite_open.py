"""Opening a database file while others do the same."""

from __future__ import annotations

import threading

import apsw
from durable_core.stores.sqlite import _open


def test_all_who_open_a_new_file_at_the_same_time_succeed(tmp_path):
    errors: list[BaseException] = []

    def work(path, start):
        start.wait()
        try:
            _open.prepare(path)
        except BaseException as error:
            errors.append(error)

    for number in range(40):
        start = threading.Barrier(6)
        path = tmp_path / f"{number}.db"
        threads = [threading.Thread(target=work, args=(path, start)) for _ in range(6)]
        for thread in threads:
            thread.start()

        for thread in threads:
            thread.join(20)

    assert errors == []


def test_a_prepared_file_is_a_wal_database_of_ours_with_an_empty_schema_of_this_version(tmp_path):
    path = tmp_path / "new.db"
    _open.prepare(path)
    _open.prepare(path)

    connection = apsw.Connection(str(path))
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("application_id") == _open.APPLICATION_ID
    assert connection.pragma("user_version") == _open.SCHEMA_VERSION
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    assert {("run",), ("start",), ("activation",), ("item",), ("pending",), ("inbox",)} < set(
        tables
    )
    assert connection.execute("SELECT count(*) FROM run").get == 0
    connection.close()
