"""Workflow code that holds up its event loop is reported, with the line at which it is."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading

import durable_core
import pytest
from durable_core import workflow
from durable_core.worker import _watchdog, _worker
from support.talking import begin, hang, note, ran, working
from support.waiting import eventually

REPORTED = threading.Event()
BLOCKS = [True]


@workflow.defn
async def blocking() -> str:
    if BLOCKS:
        hold_up()

    await note("went on")
    return "went on"


@workflow.defn
async def blocking_later() -> str:
    await note("first")
    if BLOCKS:
        hold_up()

    await hang("after it")
    return "went on"


@workflow.defn
class BlockingQuery:
    @workflow.query
    def look(self) -> str:
        hold_up()
        return "looked"

    @workflow.run
    async def run(self) -> None:
        await hang("during the query")


def hold_up() -> None:
    assert REPORTED.wait(20), "nobody reported it"


@pytest.fixture
def reports(monkeypatch, caplog):
    """Report early; the code goes on when it has been reported."""
    monkeypatch.setattr(_worker, "Watchdog", functools.partial(_watchdog.Watchdog, 0.1))
    handler = logging.Handler()
    handler.emit = lambda record: "held up" in record.getMessage() and REPORTED.set()
    logger = logging.getLogger("durable_core.worker")
    logger.addHandler(handler)
    REPORTED.clear()
    BLOCKS[:] = [True]
    yield caplog
    logger.removeHandler(handler)


def test_a_blocked_activation_is_reported_with_its_line_and_goes_on(reports, store_url):
    run = durable_core.execute_workflow(blocking, id="slow", url=store_url)
    assert asyncio.run(run) == "went on"

    (report,) = [r for r in reports.records if "held up the event loop" in r.getMessage()]
    assert report.levelno == logging.ERROR
    said = report.getMessage()
    assert "run 'slow'" in said
    assert "belongs in an activity" in said
    assert "durable show slow" in said
    assert f'File "{__file__}", line {hold_up.__code__.co_firstlineno + 1}, in hold_up' in said


def test_a_blocked_replay_is_reported_too(reports, store_url):
    async def main() -> None:
        BLOCKS.clear()
        async with working(store_url, workflows=[blocking_later]) as client:
            await begin(client, blocking_later)
            await eventually(lambda: "begun after it" in ran, "the activity")

        BLOCKS.append(True)
        async with working(store_url, workflows=[blocking_later]) as client:
            await eventually(lambda: "begun after it" in ran, "the activity again")

    asyncio.run(main())
    assert "in hold_up" in reports.text


def test_a_blocked_query_is_reported_too(reports, store_url):
    async def main() -> None:
        async with working(store_url, workflows=[BlockingQuery]) as client:
            handle = await begin(client, BlockingQuery)
            await eventually(lambda: "begun during the query" in ran, "the activity")
            assert await handle.query("look") == "looked"

    asyncio.run(main())
    assert "in hold_up" in reports.text


def test_the_watchdogs_thread_ends_with_its_worker(store_url):
    async def main() -> None:
        async with working(store_url, workflows=[blocking]):
            assert names().count("durable-watchdog") == 1

    asyncio.run(main())
    assert "durable-watchdog" not in names()


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]
