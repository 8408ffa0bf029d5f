"""Runs that have ended are kept for a while, and the file shrinks when they go."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import apsw
import pytest
from durable_core import Client, Worker, _clock, _defaults, embedded, workflow
from durable_core.exceptions import WorkflowNotFoundError
from durable_core.stores.sqlite import SqliteStore
from support.rows import first

DAY = 86400.0


@workflow.defn
async def double(n: int) -> int:
    return n * 2


@workflow.defn
async def wait(name: str) -> None:
    await workflow.wait_condition(lambda: False)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(_defaults, "PURGE_FIRST", 0.01)
    monkeypatch.setattr(_defaults, "PURGE_EVERY", 0.01)


async def leave(store_url, *, ended: float) -> None:
    """Leave a run that ended so many days ago, and one that is open since then."""
    real = _clock.now
    _clock.now = lambda: real() - ended * DAY
    try:
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue="q", workflows=[double, wait], retention=None),
        ):
            await client.execute_workflow(double, 1, id="ended", task_queue="q")
            await client.start_workflow(wait, "x", id="open", task_queue="q")
    finally:
        _clock.now = real


async def statuses(client) -> dict[str, str]:
    return {run.id: run.status.name async for run in client.list_workflows()}


@pytest.mark.parametrize(
    ("days", "options", "variable", "kept"),
    [
        (31, {}, None, False),
        (29, {}, None, True),
        (29, {"retention": timedelta(days=28)}, None, False),
        (31, {"retention": timedelta.max}, None, True),
        (400, {"retention": None}, None, True),
        (29, {}, "7", False),
        (31, {}, "60", True),
        (400, {}, "forever", True),
    ],
)
def test_a_run_is_kept_for_so_many_days_after_its_end(
    days, options, variable, kept, store_url, monkeypatch
):
    if variable is not None:
        monkeypatch.setenv("DURABLE_RETENTION_DAYS", variable)

    async def main():
        await leave(store_url, ended=days)
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue="q", workflows=[double, wait], **options),
        ):
            if kept:
                await asyncio.sleep(0.1)
            else:
                handle = client.get_workflow_handle("ended")
                deadline = asyncio.get_running_loop().time() + 20
                while "ended" in await statuses(client):
                    assert asyncio.get_running_loop().time() < deadline
                    await asyncio.sleep(0.01)

                with pytest.raises(WorkflowNotFoundError):
                    await handle.result()

            found = await statuses(client)
            assert found.pop("open") == "RUNNING", "an open run is kept however old it is"
            assert found == ({"ended": "COMPLETED"} if kept else {})

    asyncio.run(main())


def test_runs_from_plain_code_are_forgotten_too(store_url, monkeypatch):
    monkeypatch.setenv("DURABLE_URL", store_url)

    async def main():
        await leave(store_url, ended=31)
        real = _clock.now
        monkeypatch.setattr(_clock, "now", lambda: real() - 31 * DAY)
        await embedded.execute_workflow(double, 1, id="plain")
        monkeypatch.setattr(_clock, "now", real)
        await embedded.execute_workflow(double, 1, id="now")
        (opened,) = embedded._loops.opened_here()
        async with asyncio.timeout(20):
            while set(await statuses(opened.client)) != {"now", "open", "ended"}:
                await asyncio.sleep(0.01)

        assert await embedded.execute_workflow(double, 5, id="plain") == 10, "its id is free"

    asyncio.run(main())


@pytest.mark.parametrize("said", ["soon", "-1", "", "1e99"])
def test_a_retention_that_is_no_time_is_refused(said, store_url, monkeypatch):
    monkeypatch.setenv("DURABLE_RETENTION_DAYS", said)

    async def main():
        async with await Client.connect(store_url) as client:
            Worker(client, task_queue="q", workflows=[double])

    with pytest.raises(ValueError, match=r"number of days|must not be negative"):
        asyncio.run(main())


def test_the_file_shrinks_little_by_little(store_path):
    async def main():
        store = await SqliteStore.open(store_path)
        worker = await store.register_worker("me")
        for n in range(40):
            big = {f"item-{k}": bytes(100_000) + bytes([n, k]) for k in range(10)}
            append = first(f"r{n}", worker)
            append.status, append.items = "completed", big
            await store.append(append)

        before = pages()
        forgotten = [await store.purge("default", "queue", 5.0, limit=10) for _ in range(5)]
        await store.close()
        return before, forgotten

    def pages() -> int:
        connection = apsw.Connection(str(store_path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return connection.pragma("page_count")
        finally:
            connection.close()

    before, forgotten = asyncio.run(main())
    assert forgotten == [10, 10, 10, 10, 0]
    assert before > 8000
    assert pages() < before / 4
    assert store_path.stat().st_size == pages() * 4096
