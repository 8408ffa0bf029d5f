"""Queries of a process that does not know the code: a worker of another process answers them.

This process must not import `support.asked_app`, or it would know the code itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from durable_core import Client, _faults
from durable_core.exceptions import (
    WorkflowNotFoundError,
    WorkflowQueryFailedError,
    WorkflowQueryUnansweredError,
)
from support.rows import rows
from support.waiting import until

APP = Path(__file__).resolve().parents[1] / "support" / "asked_app.py"
SHORT = timedelta(seconds=0.3)
RECORD = ("run", "activation", "inbox", "pending", "reply", "item")


@pytest.fixture
def serve(processes, store_url):
    """Return what starts a worker in a process of its own."""

    def started(*, cached=1000, fault=""):
        process = processes.start(APP, cached, fault=fault, DURABLE_URL=store_url)
        until(lambda: "serving" in process.output or not process.running, "the worker")
        return process

    return started


def recorded(path):
    """Return everything of the tables that hold what runs are, but not who owns them."""
    found = {table: rows(path, f"SELECT * FROM {table}") for table in RECORD}
    assert "support.asked_app" not in sys.modules
    return found


@pytest.mark.parametrize("cached", [1000, 0], ids=["kept", "replayed"])
def test_a_worker_of_another_process_answers_and_nothing_is_recorded(
    serve, store_url, store_path, cached
):
    async def main():
        worker = serve(cached=cached)
        async with await Client.connect(store_url) as client:
            handle = client.get_workflow_handle("w")
            assert await handle.query("counted_so_far") == [0]
            await handle.signal("count")
            while await handle.query("counted_so_far", 2) != [1, 1]:
                await asyncio.sleep(0.01)

            before = recorded(store_path)
            assert await handle.query("large") == "x" * 1_000_000
            for name, told in (
                ("nothing", "has no query 'nothing'; it has 'broken', 'counted_so_far', 'large'"),
                ("broken", "query 'broken' of run 'w' failed: ValueError: it is broken"),
            ):
                with pytest.raises(WorkflowQueryFailedError, match=told):
                    await handle.query(name)

            with pytest.raises(WorkflowQueryFailedError, match="takes"):
                await handle.query("counted_so_far", args=[1, 2, 3])

            answers = await asyncio.gather(*(handle.query("counted_so_far", n) for n in range(50)))
            assert answers == [[1] * n for n in range(50)]
            assert recorded(store_path) == before
            assert rows(store_path, "SELECT count(*) FROM question") == [(0,)]
            await handle.signal("end")
            assert await handle.result() == 1
            # By a replay: nobody owns it any more.
            assert await handle.query("counted_so_far") == [1]

        assert worker.running

    asyncio.run(main())


def test_without_a_worker_that_knows_the_code_the_error_says_what_to_do(
    serve, store_url, store_path
):
    async def main():
        serve().kill()
        async with await Client.connect(store_url) as client:
            handle = client.get_workflow_handle("w")
            began = time.monotonic()
            with pytest.raises(WorkflowQueryUnansweredError) as raised:
                await handle.query("counted_so_far", rpc_timeout=SHORT)

            assert time.monotonic() - began >= 0.3
            for part in ("'Asked'", "'asked'", "'counted_so_far'", "'w'", "0.3 s", "import the"):
                assert part in str(raised.value)

            assert rows(store_path, "SELECT count(*) FROM question") == [(0,)]
            with pytest.raises(WorkflowNotFoundError):
                await client.get_workflow_handle("other").query("counted_so_far")

            for wrong, error in ((3, TypeError), (timedelta(0), ValueError)):
                with pytest.raises(error, match="rpc_timeout"):
                    await handle.query("counted_so_far", rpc_timeout=wrong)

    asyncio.run(main())


def test_a_question_waits_for_a_worker_that_starts_later(serve, store_url):
    async def main():
        serve().kill()
        async with await Client.connect(store_url) as client:
            handle = client.get_workflow_handle("w")
            asking = asyncio.ensure_future(
                handle.query("counted_so_far", rpc_timeout=timedelta(seconds=30))
            )
            await asyncio.sleep(0.05)
            assert not asking.done()
            await asyncio.to_thread(serve)
            assert await asking == [0]

    asyncio.run(main())


@pytest.mark.parametrize("point", ["store.commit.before", "store.commit.after"])
def test_a_worker_that_is_killed_while_it_answers_leaves_the_question_to_the_next(
    serve, store_url, store_path, point
):
    """At each of its commits, of which the last is that of the answer."""
    assert point in _faults.POINTS

    async def main():
        serve().kill()
        killed = 0
        async with await Client.connect(store_url) as client:
            handle = client.get_workflow_handle("w")
            for n in range(1, 6):
                wait = timedelta(seconds=30)
                asking = asyncio.ensure_future(handle.query("counted_so_far", rpc_timeout=wait))
                # That it is there before the worker looks.
                while rows(store_path, "SELECT count(*) FROM question") == [(0,)]:
                    await asyncio.sleep(0.005)

                worker = await asyncio.to_thread(serve, fault=f"{point}:{n}")
                while worker.running and not asking.done():
                    await asyncio.sleep(0.005)

                killed += not worker.running
                if not asking.done():
                    await asyncio.to_thread(serve)

                assert await asking == [0]
                assert rows(store_path, "SELECT count(*) FROM question") == [(0,)]

        return killed

    assert asyncio.run(main()) >= 2


def test_who_asks_and_is_killed_leaves_a_question_that_goes_with_a_later_one(
    processes, serve, store_url, store_path
):
    worker = serve()
    worker.kill()
    asker = processes.start(
        """
import asyncio, sys
from durable_core import Client

async def main():
    async with await Client.connect() as client:
        await client.get_workflow_handle("w").query("counted_so_far", rpc_timeout=__import__("datetime").timedelta(seconds=0.5))

asyncio.run(main())
""",
        DURABLE_URL=store_url,
    )
    until(lambda: rows(store_path, "SELECT count(*) FROM question") == [(1,)], "the question")
    asker.kill()
    assert rows(store_path, "SELECT count(*) FROM question") == [(1,)]

    async def main():
        async with await Client.connect(store_url) as client:
            handle = client.get_workflow_handle("w")
            with pytest.raises(WorkflowQueryUnansweredError):
                await handle.query("counted_so_far", rpc_timeout=timedelta(seconds=0.6))

            with pytest.raises(WorkflowQueryUnansweredError):
                await handle.query("counted_so_far", rpc_timeout=SHORT)

    asyncio.run(main())
    assert rows(store_path, "SELECT count(*) FROM question") == [(0,)]


def test_the_command_line_asks_too(processes, serve, store_url):
    serve()
    command = "from durable_core.cli import main; main()"
    asked = processes.run(command, "query", "w", "counted_so_far", "3", "--url", store_url)
    assert (asked.code, json.loads(asked.output)) == (0, [0, 0, 0])
    asked = processes.run(command, "query", "w", "nothing", "--url", store_url)
    assert asked.code == 1
    assert "has no query 'nothing'" in asked.output
    asked = processes.run(command, "query", "w", "counted_so_far", "oops", "--url", store_url)
    assert asked.code == 2
    assert "'oops' is no JSON" in asked.output
    asked = processes.run(command, "query", "x", "counted_so_far", "--url", store_url)
    assert asked.code == 1
    assert "there is no run with the workflow id 'x'" in asked.output
