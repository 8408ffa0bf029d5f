"""A disk that is really full: the error says so, nothing acknowledged is lost, and it goes on."""

from __future__ import annotations

import asyncio
import json
import os

import durable_core
import pytest
from agents import function_tool
from durable_core import Client, activity, workflow
from durable_core.exceptions import StoreError
from durable_core.stores.sqlite import _open
from support.agents_bench import ECHO, agent, call
from support.small_disk import mounted

pytest_plugins = ["support.agents_fixtures"]
pytestmark = pytest.mark.needs_a_store

MESSAGE = r"the disk of .*{name} is full \(.*\)\. Free space; nothing acknowledged is lost"
CALLS = 8


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
