"""Database files that cannot be used: each is named at once, with the remedy, and is kept."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import apsw
import durable_core
import pytest
from durable_core.exceptions import StoreCorruptError, StoreReadOnlyError, StoreVersionError
from support.doubling import Double, run_once
from support.processes import TESTS


def sqlite(path, sql):
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(sql).get
    finally:
        connection.close()


AS_NOBODY = """
import os, sys
import asyncio
sys.path[:] = {path!r}
from durable_core import Client
from durable_core.exceptions import StoreError
import durable_core
import durable_core.stores.sqlite  # while the interpreter's files can be read
from support.doubling import Double

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    print(asyncio.run(durable_core.execute_workflow(Double.run, 4, id="nobody", url=sys.argv[1])))
except StoreError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def as_nobody(processes, tmp_path):
    """Runs a workflow as a user who may do nothing, and returns what it printed."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")

    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)

    path = [str(TESTS), *sys.path]

    def run(store):
        return processes.run(AS_NOBODY.format(path=path), f"sqlite:///{store}").checked().output

    return run


@pytest.fixture
def shared(tmp_path):
    """A store in a folder that everybody may write."""
    folder = tmp_path / "shared"
    folder.mkdir()
    store = folder / "s.db"
    run_once(f"sqlite:///{store}")
    folder.chmod(0o777)
    store.chmod(0o666)
    (folder / "s.db-workers").chmod(0o777)
    return store


def test_a_user_with_permission_can_use_a_store_of_another(as_nobody, shared):
    assert as_nobody(shared) == "8\n"


def test_a_read_only_database_is_found_at_once(as_nobody, shared):
    shared.chmod(0o444)
    printed = as_nobody(shared)
    assert printed.startswith(f"StoreReadOnlyError {shared} cannot be written")
    assert "write permission on the file and its folder" in printed


def test_a_database_that_cannot_be_read_is_named(as_nobody, shared):
    shared.chmod(0)
    assert as_nobody(shared).startswith(f"StoreReadOnlyError {shared} cannot be opened")


def test_a_read_only_folder_is_found_at_once(as_nobody, shared):
    shared.parent.chmod(0o555)
    printed = as_nobody(shared)
    assert printed.startswith(f"StoreReadOnlyError {shared} cannot be")
    assert "DURABLE_URL=sqlite:///path" in printed


def test_a_read_only_folder_for_a_new_database_is_named(as_nobody, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    printed = as_nobody(folder / "new.db")
    assert printed.startswith(f"StoreReadOnlyError cannot create {folder}/new.db")


def test_a_folder_of_workers_of_another_user_is_named(as_nobody, shared):
    (shared.parent / "s.db-workers").chmod(0o700)
    printed = as_nobody(shared)
    assert printed.startswith("StoreReadOnlyError")
    assert "s.db-workers" in printed
    assert "write permission" in printed


def test_a_folder_in_the_place_of_the_database_is_named(tmp_path):
    (tmp_path / "s.db").mkdir()
    with pytest.raises(StoreReadOnlyError, match=r"s\.db"):
        run_once("sqlite:///s.db")


@pytest.mark.parametrize("content", [b"hello, world\n" * 100, b"\0" * 4096, b"SQLite format 3\0"])
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path, content):
    (tmp_path / "s.db").write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"s\.db is damaged or not .*backup, or move it"):
        run_once("sqlite:///s.db")

    assert (tmp_path / "s.db").read_bytes() == content


def test_a_half_overwritten_database_is_reported_as_damaged(tmp_path):
    for i in range(30):
        run_once("sqlite:///s.db", id=f"w{i}")

    content = (tmp_path / "s.db").read_bytes()
    half = len(content) // 2
    (tmp_path / "s.db").write_bytes(content[:4096] + b"\xaa" * half + content[4096 + half :])
    with pytest.raises(StoreCorruptError, match=r"s\.db is damaged.*Restore it from a backup"):
        run_once("sqlite:///s.db", id="w3")


def test_a_database_of_something_else_is_refused_and_kept(tmp_path):
    sqlite(tmp_path / "s.db", "CREATE TABLE mine (x); INSERT INTO mine VALUES (1)")
    before = (tmp_path / "s.db").read_bytes()
    with pytest.raises(StoreCorruptError, match=r"something else .*1 tables.*DURABLE_URL"):
        run_once("sqlite:///s.db")

    assert (tmp_path / "s.db").read_bytes() == before


def test_a_database_of_a_newer_version_is_refused_and_kept(tmp_path):
    run_once("sqlite:///s.db")
    sqlite(tmp_path / "s.db", "PRAGMA user_version = 999")
    before = (tmp_path / "s.db").read_bytes()
    with pytest.raises(StoreVersionError, match=r"version 999.*knows 1.*pip install -U durable"):
        run_once("sqlite:///s.db")

    assert (tmp_path / "s.db").read_bytes() == before


def test_a_store_that_was_refused_can_be_used_once_it_is_mended(tmp_path):
    run_once("sqlite:///s.db")
    sqlite(tmp_path / "s.db", "PRAGMA user_version = 999")

    async def main():
        with pytest.raises(StoreVersionError):
            await durable_core.execute_workflow(Double.run, 4, id="w", url="sqlite:///s.db")

        sqlite(tmp_path / "s.db", "PRAGMA user_version = 1")
        return await durable_core.execute_workflow(Double.run, 4, id="w", url="sqlite:///s.db")

    assert asyncio.run(main()) == 8
