"""A disk that is really full: the error says so, nothing acknowledged is lost, and it goes on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from datetime import timedelta

import apsw
import durable_core
import pytest
from agents import function_tool
from durable_core import Client, RetryPolicy, Worker, _defaults, _faults, activity, workflow
from durable_core.exceptions import StoreError, WorkflowNotFoundError
from durable_core.stores.sqlite import SqliteStore, _open
from support.agents_bench import ECHO, agent, call
from support.small_disk import mounted
from support.waiting import eventually

pytest_plugins = ["support.agents_fixtures"]
pytestmark = pytest.mark.needs_a_store

MESSAGE = r"the disk of .*{name} is full \(.*\)\. Free space; nothing acknowledged is lost"
CALLS = 16


@pytest.fixture
def disk(tmp_path):
    with mounted(tmp_path / "disk", "16m") as found:
        yield found


@activity.defn
async def double(number: int) -> int:
    return 2 * number


@workflow.defn
async def doubling(number: int) -> int:
    return await double(number)


def run_once(url, id="w"):
    return asyncio.run(durable_core.execute_workflow(doubling, 4, id=id, url=url))


# An agent


class Pages:
    """Results that take space, and what became of them."""

    def __init__(self) -> None:
        self.returned: list[tuple[int, str]] = []

        @function_tool
        async def page(n: int) -> str:
            text = os.urandom(60_000).hex()
            self.returned.append((n, text))
            return text

        self.agent = agent("Reader", *(call("page", n=n) for n in range(CALLS)), ECHO, tools=[page])

    def run(self, bench):
        return bench.run(self.agent, workflow_id="run", max_turns=CALLS + 1)

    async def recorded(self, url):
        """Return the results that are durable, which nothing may change any more."""
        async with await Client.connect(url) as client:
            timeline = (await client.get_workflow_handle("run").fetch_history()).timeline()

        tools = [entry for entry in timeline if entry.name == "openai_agents.tool"]
        durable = sum(entry.status == "completed" for entry in tools)
        return [dict(self.returned)[n] for n in range(durable)]

    def check(self, result, recorded):
        """Everything that was recorded was used, and only what was under way was made again."""
        assert 2 < len(recorded) < CALLS
        assert json.loads(result.final_output)[: len(recorded)] == recorded
        numbers = [n for n, _ in self.returned]
        assert set(numbers) == set(range(CALLS))
        assert {n for n in numbers if numbers.count(n) > 1} <= {len(recorded)}


def test_an_agent_that_fills_the_disk_says_so_and_goes_on_when_there_is_space(
    bench, disk, monkeypatch
):
    monkeypatch.setenv("DURABLE_URL", disk.url)
    pages = Pages()

    async def main():
        disk.fill(leave=500)
        found = []
        for _ in range(2):
            with pytest.raises(StoreError, match=MESSAGE.format(name="store.db")) as caught:
                await pages.run(bench)

            assert "run the script again, it continues" in caught.value.__notes__[0]
            found.append(await pages.recorded(disk.url))
            disk.fill()

        assert found[0] == found[1]
        disk.free()
        pages.check(await pages.run(bench), found[0])

    asyncio.run(main())


def test_a_store_that_may_not_grow_keeps_what_is_recorded_for_the_next_loop(bench, monkeypatch):
    # As far as SQLite can tell the disk is full, and for that nobody needs to be root.
    connect, limit = _open.connect, [250]

    def limited(path):
        connection = connect(path)
        connection.pragma("max_page_count", limit[0])
        return connection

    monkeypatch.setattr(_open, "connect", limited)
    pages = Pages()
    with pytest.raises(StoreError, match=MESSAGE.format(name="store.db")):
        asyncio.run(pages.run(bench))

    limit[0] = 1_000_000
    recorded = asyncio.run(pages.recorded(bench.store_url))
    pages.check(asyncio.run(pages.run(bench)), recorded)


def test_a_run_that_could_not_be_taken_on_a_full_disk_is_taken_later(store_url, monkeypatch):
    full = [False]

    def reach(point):
        if point == "store.commit.before" and full[0]:
            raise apsw.FullError("database or disk is full")

    @activity.defn
    async def fills() -> str:
        full[0] = not done.is_set()
        done.set()
        return "filled"

    @workflow.defn
    async def filling() -> str:
        return await fills()

    async def main():
        for _ in range(3):
            # The outcome of the activity, and after it the claim of the run by the next call.
            with pytest.raises(StoreError, match=MESSAGE.format(name="store.db")):
                await durable_core.execute_workflow(filling, id="w", url=store_url)

        full[0] = False
        async with asyncio.timeout(10):
            return await durable_core.execute_workflow(filling, id="w", url=store_url)

    done = asyncio.Event()
    monkeypatch.setattr(_faults, "reach", reach)
    assert asyncio.run(main()) == "filled"


# Opening


@pytest.mark.parametrize("leave", [0, 2, 10, 40])
def test_a_new_store_on_a_full_disk_says_so_and_is_made_when_there_is_space(disk, leave):
    disk.fill(leave=leave)
    with pytest.raises(StoreError, match=MESSAGE.format(name="store.db")):
        run_once(disk.url)

    disk.free()
    assert run_once(disk.url) == 8


@pytest.mark.parametrize("leave", [0, 4, 8])
def test_a_store_that_is_opened_on_a_full_disk_says_so_and_keeps_what_it_has(disk, leave):
    assert run_once(disk.url) == 8
    disk.fill(leave=leave)
    with pytest.raises(StoreError, match=MESSAGE.format(name="store.db")):
        run_once(disk.url, id="other")

    disk.free()
    assert run_once(disk.url) == run_once(disk.url, id="other") == 8


def test_the_default_store_on_a_full_disk_says_so_and_is_ignored_by_git_afterwards(
    disk, monkeypatch
):
    monkeypatch.chdir(disk.path)
    disk.fill()
    with pytest.raises(StoreError, match=MESSAGE.format(name=r"\.durable")):
        run_once(None)

    disk.free()
    (disk.path / ".durable").mkdir(exist_ok=True)
    disk.fill()
    with pytest.raises(StoreError, match=MESSAGE.format(name=r"\.durable")):
        run_once(None)

    disk.free()
    assert run_once(None) == 8
    assert (disk.path / ".durable/.gitignore").read_text() == "*\n"


# A worker


@activity.defn(retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10)))
async def page(run: int, number: int) -> str:
    made.append((run, number))
    return os.urandom(20_000).hex()


made: list[tuple[int, int]] = []


@workflow.defn
class Reading:
    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)

    @workflow.run
    async def run(self, number: int) -> list[str]:
        for n in range(8):
            await page(number, n)

        return self.notes


def test_a_worker_outlives_a_full_disk_and_its_runs_go_on_when_there_is_space(
    disk, monkeypatch, caplog
):
    append, appends, accepted = SqliteStore.append, [], []
    monkeypatch.setattr(SqliteStore, "append", lambda s, a: appends.append(a) or append(s, a))
    monkeypatch.setattr(_defaults, "STALL_RETRY_FIRST", 0.1)
    caplog.set_level(logging.WARNING)
    made.clear()

    async def main():
        async with await Client.connect(disk.url) as client:
            worker = Worker(client, task_queue="q", workflows=[Reading], activities=[page])
            async with worker:
                start = lambda n: client.start_workflow(  # noqa: E731
                    Reading.run, n, id=f"r{n}", task_queue="q"
                )
                disk.fill(leave=100)
                handles = [await start(n) for n in range(3)]
                await eventually(lambda: "is full" in caplog.text, "the log")
                with pytest.raises(StoreError, match=MESSAGE.format(name="store.db")):
                    while True:
                        await handles[0].signal(Reading.note, "x" * 10_000)
                        accepted.append("x" * 10_000)

                disk.fill()
                with pytest.raises(StoreError, match=MESSAGE.format(name="store.db")):
                    await start(9)

                with pytest.raises(WorkflowNotFoundError):
                    await client.get_workflow_handle("r9").describe()

                appends.clear()
                caplog.clear()
                await asyncio.sleep(1.5)
                assert len(appends) < 60, "it tries again, and does not spin"
                assert len(caplog.records) < 60
                assert {(await handle.describe()).status.name for handle in handles} == {"RUNNING"}

                disk.free()
                async with asyncio.timeout(15):
                    return [await handle.result() for handle in handles]

    results = asyncio.run(main())
    assert set(made) == {(run, n) for run in range(3) for n in range(8)}
    assert results == [accepted, [], []]
