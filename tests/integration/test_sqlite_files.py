"""The files of a SQLite store: several processes on them, their settings, and workers' locks."""

from __future__ import annotations

import asyncio
import os
import threading

from durable_core import Client
from durable_core.stores.sqlite import _locks, _open
from support.rows import HOLD, WRITE, first, opened, owner_of, rows, step
from support.waiting import eventually

# Several processes


def test_two_processes_write_one_file_at_the_same_time(processes, store_path):
    started = [processes.start(WRITE, store_path, f"p{i}", 300) for i in range(3)]
    for process in started:
        process.wait().checked()

    assert rows(store_path, "SELECT run, count(*) FROM activation GROUP BY 1 ORDER BY 1") == [
        ("p0", 300),
        ("p1", 300),
        ("p2", 300),
    ]
    assert rows(store_path, "PRAGMA integrity_check") == [("ok",)]


def test_processes_that_open_a_new_file_together_all_succeed(processes, store_path):
    started = [processes.start(WRITE, store_path, f"p{i}", 2) for i in range(4)]
    for process in started:
        process.wait().checked()

    assert rows(store_path, "SELECT count(*) FROM run") == [(4,)]


def test_a_commit_of_another_process_is_seen_as_a_change(processes, store_path):
    async def main():
        async with opened(store_path) as store:
            store.changed()
            assert not store.changed()
            processes.start(WRITE, store_path, "other", 1)
            await eventually(store.changed, "a change by another process")
            await eventually(
                lambda: rows(store_path, "SELECT alive FROM worker") == [(0,)], "its end"
            )
            store.changed()
            assert not store.changed()

    asyncio.run(main())


def test_only_what_may_concern_others_is_a_change_of_the_own_store(store_path):
    async def main():
        async with opened(store_path) as store, opened(store_path) as other:
            worker = await store.register_worker("me")
            await store.append(first("r", worker))
            store.changed()
            other.changed()
            await store.append(step("r", worker, 1))
            assert not store.changed(), "its owner knows"
            assert other.changed()
            await store.append(step("r", worker, 2, release=True))
            assert store.changed(), "somebody may take it"
            await other.register_worker("another")
            await store.register_worker("me again")
            assert store.changed()
            assert not store.changed()

    asyncio.run(main())


def test_whoever_waits_for_a_change_of_a_closed_store_looks_for_himself(store_url):
    said = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        client = await Client.connect(store_url)
        waiting = asyncio.create_task(client.changes.wait(timeout=30, interval=0.01))
        await asyncio.sleep(0)
        await client.store.close()
        await asyncio.wait_for(waiting, 5)
        await client.close()

    asyncio.run(main())
    assert said == []


def test_a_store_is_refused_after_a_fork_and_the_parents_goes_on(processes, store_path):
    script = """
import asyncio, os, sys, warnings
from pathlib import Path
from durable_core.exceptions import NotSupported
from durable_core.stores.sqlite import SqliteStore
from support.rows import first, step
warnings.simplefilter("ignore", DeprecationWarning)

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    worker = await store.register_worker("parent")
    await store.append(first("r", worker))
    child = os.fork()
    if child == 0:
        try:
            store.append(step("r", worker, 1))
        except NotSupported as error:
            print(error, flush=True)
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert await store.owner_alive(await store.find("default", "workflow-r"))
    print(await store.append(step("r", worker, 1)))
    await store.close()

asyncio.run(main())
"""
    output = processes.run(script, store_path).checked().output
    assert "cannot be used after a fork: connect again in this process" in output
    assert "Outcome.ACCEPTED" in output


# Settings


def test_every_connection_is_set_up_for_durability(store_path, monkeypatch):
    connect, made = _open.connect, []
    monkeypatch.setattr(_open, "connect", lambda path: made.append(connect(path)) or made[-1])

    async def main():
        async with opened(store_path) as store:
            await store.register_worker("me")
            # Of those, the first served the preparation and is closed.
            for connection in made[1:]:
                assert connection.pragma("synchronous") == 2
                assert connection.pragma("journal_mode") == "wal"
                assert connection.pragma("fullfsync") == 1
                assert connection.pragma("mmap_size") == 0

            return len(made)

    assert asyncio.run(main()) == 3, "one prepares, one writes, one reads"


def test_all_files_of_a_store_are_for_its_user_alone(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await store.append(first("r", worker))
            modes = {p.name: p.stat().st_mode & 0o777 for p in store_path.parent.rglob("*")}
            folder = modes.pop("store.db-workers")
            assert folder == 0o700
            assert {"store.db", "store.db-wal", "store.db-shm"} < set(modes)
            assert set(modes.values()) == {0o600}

    asyncio.run(main())


# Locks of workers


def test_a_worker_lock_is_held_while_its_process_lives_and_dead_after_a_kill(processes, store_path):
    other = processes.start(HOLD, store_path)
    owner_of(other)
    (lock,) = (store_path.parent / "store.db-workers").glob("*.lock")
    assert not _locks.is_dead(lock)
    assert lock.exists()
    other.kill()
    assert _locks.is_dead(lock)
    assert not lock.exists(), "whoever finds a worker dead removes its file"
    assert _locks.is_dead(lock), "no file, no worker"


def test_a_worker_lock_is_removed_by_release_and_by_close(store_path):
    folder = store_path.parent / "store.db-workers"

    async def main():
        async with opened(store_path) as store:
            one = await store.register_worker("1")
            await store.register_worker("2")
            assert len(list(folder.glob("*.lock"))) == 2
            await store.release_worker(one)
            assert len(list(folder.glob("*.lock"))) == 1

    asyncio.run(main())
    assert list(folder.glob("*.lock")) == []
    assert rows(store_path, "SELECT alive, released FROM worker") == [(0, 1), (0, 1)]


def test_a_worker_lock_outlives_a_forked_child(tmp_path):
    lock = _locks.WorkerLock(tmp_path, "w")
    child = os.fork()
    if child == 0:
        os._exit(0)

    os.waitpid(child, 0)
    assert not _locks.is_dead(lock.path)
    lock.release()
    lock.release()
    assert _locks.is_dead(lock.path)


def test_a_note_of_a_worker_that_ends_goes_into_no_other_file(tmp_path, monkeypatch):
    lock = _locks.WorkerLock(tmp_path / "workers", "w")
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    close, noting = os.close, threading.Thread(target=lock.wait)
    opened_anew = []

    def close_and_reuse(fd):
        close(fd)
        opened_anew.append(os.open(precious, os.O_RDWR))
        assert opened_anew == [fd], "the number is used again"
        noting.start()
        noting.join(0.2)

    monkeypatch.setattr(_locks.os, "close", close_and_reuse)
    lock.release()
    monkeypatch.undo()
    noting.join()
    os.close(*opened_anew)
    assert precious.read_bytes() == b"precious"
