"""Timeouts of activities: in the queue of a worker, over the attempts, and within one."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from durable_core import RetryPolicy, _defaults, activity, workflow
from durable_core.exceptions import (
    TimeoutError,  # noqa: A004  # the one that is meant
    TimeoutType,
    WorkflowFailureError,
)
from support.talking import begin, hang, note, ran, working

released = threading.Event()


@pytest.fixture
def _released():
    """Lets blocked threads go on when the test ends."""
    released.clear()
    yield
    released.set()


@activity.defn
def block(text: str) -> str:
    ran.append(text)
    released.wait(30)
    return text


@workflow.defn
async def bounded(what: str) -> object:
    match what:
        case "schedule_to_start":
            first = asyncio.ensure_future(workflow.execute_activity(block, "first"))
            await asyncio.sleep(0)
            limit = timedelta(seconds=0.2)
            try:
                await workflow.execute_activity(block, "second", schedule_to_start_timeout=limit)
            finally:
                await note("release")
                first.cancel()
        case "schedule_to_close":
            await workflow.execute_activity(
                fails,
                schedule_to_close_timeout=timedelta(seconds=0.3),
                retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.05)),
            )
        case "schedule_to_close of one attempt":
            await workflow.execute_activity(
                hang, "long", schedule_to_close_timeout=timedelta(seconds=0.2)
            )


@activity.defn
async def fails() -> None:
    ran.append("fails")
    raise ConnectionError("no route")


def failed_with(url, what):
    async def main():
        async with working(
            url, workflows=[bounded], activities=[note, hang, block, fails]
        ) as client:
            handle = await begin(client, bounded, what)
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()

            return raised.value.cause.cause, await handle.fetch_history()

    return asyncio.run(main())


@pytest.mark.usefixtures("_released")
def test_an_activity_that_finds_no_slot_in_time_fails_without_having_run(store_url, monkeypatch):
    monkeypatch.setattr(_defaults, "THREADS", 1)
    error, _ = failed_with(store_url, "schedule_to_start")

    assert isinstance(error, TimeoutError)
    assert error.type is TimeoutType.SCHEDULE_TO_START
    assert "did not start within its schedule-to-start timeout of 0.2 s" in str(error)
    assert ran == ["first", "release"]


def test_no_retry_begins_after_the_schedule_to_close_timeout(store_url):
    error, recorded = failed_with(store_url, "schedule_to_close")

    assert isinstance(error, ConnectionError)
    assert 2 <= len(ran) <= 5
    (entry,) = [e for e in recorded.timeline() if e.kind == "activity"]
    assert len(entry.attempts) == len(ran)


def test_a_body_that_runs_past_the_schedule_to_close_timeout_is_cut_off(store_url):
    error, _ = failed_with(store_url, "schedule_to_close of one attempt")

    assert isinstance(error, TimeoutError)
    assert error.type is TimeoutType.SCHEDULE_TO_CLOSE
    assert ran == ["begun long", "ended long"]
