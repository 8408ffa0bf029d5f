"""Runs that stand still because somebody wants them to, and attempts that are not waited for."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from datetime import timedelta

import pytest
from durable_core import Client, Worker, activity, execute_workflow, workflow
from durable_core.common import RetryPolicy
from durable_core.exceptions import (
    ApplicationError,
    CallError,
    WorkflowFailureError,
    WorkflowNotFoundError,
)
from support.talking import ACTIVITIES, QUEUE, Inbox, Note, begin, both, ran, sleeper, working
from support.waiting import eventually

gate = threading.Event()


@activity.defn
async def slow(text: str) -> str:
    ran.append(f"begun {text}")
    while not gate.is_set():  # of any loop
        await asyncio.sleep(0.01)

    ran.append(f"ended {text}")
    return text


@activity.defn
async def flaky(text: str) -> str:
    """Fail until the gate is open."""
    ran.append(f"tried {text}")
    if not gate.is_set():
        raise ApplicationError("not yet")

    return text


@activity.defn
async def fails_once() -> str:
    """Fail, then wait for the gate."""
    if activity.info().attempt == 1:
        ran.append("fails")
        raise ApplicationError("the first time")

    ran.append("begun")
    while not gate.is_set():  # of any loop
        await asyncio.sleep(0.01)

    return "done"


HOURS = RetryPolicy(initial_interval=timedelta(hours=2))
SOON = RetryPolicy(
    initial_interval=timedelta(milliseconds=20), maximum_interval=timedelta(milliseconds=20)
)


@workflow.defn
async def two_steps() -> list[str]:
    return [await slow("first"), await slow("second")]


@workflow.defn
async def retrying(hours: bool) -> str:  # an argument of a workflow
    return await workflow.execute_activity(flaky, "a", retry_policy=HOURS if hours else SOON)


@workflow.defn
async def failing_once() -> str:
    return await workflow.execute_activity(fails_once, retry_policy=HOURS)


@workflow.defn
async def two_retrying() -> list[str]:
    tries = [workflow.start_activity(flaky, text, retry_policy=HOURS) for text in ("a", "b")]
    return [await handle for handle in tries]


CODE = {
    "workflows": [Inbox, sleeper, two_steps, retrying, failing_once, two_retrying],
    "activities": [*ACTIVITIES, slow, flaky, fails_once],
}


@pytest.fixture(autouse=True)
def closed_gate():
    gate.clear()


@pytest.fixture(params=["near", "far", "memory", "replayed"])
def clients(request, store_url):
    """Open a worker's client, and one that speaks to it from elsewhere, or the same one."""
    url = f"memory://{uuid.uuid4()}" if request.param == "memory" else store_url
    more = {"max_cached_workflows": 0} if request.param == "replayed" else {}
    return lambda: both(url, **CODE, **more), request.param == "far"


def handle_of(opened, is_far, id="w"):
    near, far = opened
    return (far if is_far else near).get_workflow_handle(id)


async def known(handle, count):
    """Wait until failed attempts of so many activities are recorded."""
    while len((await handle.fetch_history()).pending) < count:
        await asyncio.sleep(0.01)


async def waits(seconds=0.3):
    """Let time pass in which something that must not happen would."""
    await asyncio.sleep(seconds)


def test_what_comes_for_a_paused_run_waits_in_order(clients):
    opening, is_far = clients

    async def main():
        async with opening() as opened:
            await begin(opened[0], Inbox.run, "ann")
            handle = handle_of(opened, is_far)
            assert await handle.execute_update(Inbox.add, Note("a")) == 1
            await handle.pause(reason="looks odd")
            assert (await handle.describe()).paused == "looks odd"
            await handle.signal(Inbox.take, Note("b"))
            update = asyncio.ensure_future(handle.execute_update(Inbox.add, Note("c")))
            await waits()
            assert not update.done()
            assert await handle.query(Inbox.texts) == ["a"]
            await handle.signal(Inbox.take, Note("d"))
            await handle.unpause()
            # It waits for nothing, and yet lets others go first.
            assert await update == 4
            assert (await handle.describe()).paused is None
            await handle.signal(Inbox.end)
            assert [n["text"] for n in await handle.result()] == ["a", "b", "d", "c"]
            (entry,) = [e for e in (await handle.fetch_history()).timeline() if e.kind == "paused"]
            assert entry.detail.endswith(": looks odd")
            assert entry.ended - entry.time >= 0.3

    asyncio.run(main())


def test_a_body_that_runs_comes_to_its_end_and_the_next_one_waits(clients):
    opening, is_far = clients

    async def main():
        async with opening() as opened:
            await begin(opened[0], two_steps)
            await eventually(lambda: ran == ["begun first"], "the first body")
            handle = handle_of(opened, is_far)
            await handle.pause()
            await waits()
            gate.set()
            await eventually(lambda: ran[1:] == ["ended first"], "its end")
            await waits()
            assert ran == ["begun first", "ended first"]
            await handle.unpause()
            assert await handle.result() == ["first", "second"]
            assert ran == ["begun first", "ended first", "begun second", "ended second"]

    asyncio.run(main())


def test_no_attempt_begins_while_a_run_is_paused(clients):
    opening, is_far = clients

    async def main():
        async with opening() as opened:
            await begin(opened[0], retrying, False)
            await eventually(lambda: len(ran) > 1, "some attempts")
            handle = handle_of(opened, is_far)
            await handle.pause()
            await waits(0.2)
            tried = len(ran)
            await waits()
            assert len(ran) == tried
            gate.set()
            await waits(0.1)
            assert len(ran) == tried
            await handle.unpause()
            assert await handle.result() == "a"
            (entry,) = [
                e for e in (await handle.fetch_history()).timeline() if e.kind == "activity"
            ]
            assert [a.number for a in entry.attempts] == list(range(1, tried + 2))

    asyncio.run(main())


def test_a_timer_that_is_due_meanwhile_fires_afterwards(clients):
    opening, is_far = clients

    async def main():
        async with opening() as opened:
            await begin(opened[0], sleeper, 0.2)
            handle = handle_of(opened, is_far)
            await handle.pause()
            await waits(0.5)
            assert ran == []
            await handle.unpause()
            assert await handle.result() == "slept"

    asyncio.run(main())


def test_a_paused_run_may_be_asked_to_end_and_be_ended(clients):
    opening, is_far = clients

    async def main():
        async with opening() as opened:
            for id in ("asked", "ended"):
                await begin(opened[0], Inbox.run, "ann", id=id)
                await handle_of(opened, is_far, id).pause()

            asked, ended = (handle_of(opened, is_far, id) for id in ("asked", "ended"))
            await asked.cancel(reason="why")
            await waits()
            assert ran == []
            await ended.terminate(reason="enough")
            with pytest.raises(WorkflowFailureError, match="enough"):
                await ended.result()

            assert (await ended.describe()).paused is None
            await asked.unpause()
            with pytest.raises(WorkflowFailureError, match="canceled"):
                await asked.result()

            assert ran == ["cleaned up"]

    asyncio.run(main())


def test_a_run_stays_paused_over_restarts(store_url):
    async def main():
        async with working(store_url, **CODE) as client:
            handle = await begin(client, two_steps)
            await eventually(lambda: bool(ran), "its body")
            await handle.pause()
            # The body that runs is cut off.

        async with working(store_url, **CODE) as client:
            handle = client.get_workflow_handle("w")
            await waits()
            assert ran == []
            assert (await handle.describe()).paused == ""
            gate.set()
            await handle.unpause()
            assert await handle.result() == ["first", "second"]
            assert ran == ["begun first", "ended first", "begun second", "ended second"]

    asyncio.run(main())


def test_the_call_of_a_paused_run_waits_and_goes_on(store_url, caplog):
    @workflow.defn
    async def called() -> list[str]:
        return [await slow("first"), await slow("second")]

    async def main():
        ran.clear()
        call = asyncio.create_task(execute_workflow(called, id="w", url=store_url))
        await eventually(lambda: ran == ["begun first"], "the first body")
        async with await Client.connect(store_url, identity="ann") as client:
            handle = client.get_workflow_handle("w")
            await handle.pause()
            await waits()
            gate.set()
            await eventually(lambda: "its call waits" in caplog.text, "a word about it")
            await waits()
            assert not call.done()
            assert ran == ["begun first", "ended first"]
            await handle.unpause()
            assert await call == ["first", "second"]
            assert ran == ["begun first", "ended first", "begun second", "ended second"]
            assert caplog.text.count("its call waits") == 1

    asyncio.run(main())


# Not waiting for the next attempt


def test_an_attempt_that_is_hours_away_begins_now(clients):
    opening, is_far = clients

    async def main():
        async with opening() as opened:
            await begin(opened[0], retrying, True)
            handle = handle_of(opened, is_far)
            await eventually(lambda: len(ran) == 1, "the first attempt")
            await known(handle, 1)
            await handle.retry_now()
            await eventually(lambda: len(ran) == 2, "the second attempt")
            gate.set()
            while True:
                try:
                    await handle.retry_now("1")
                    break
                except CallError:
                    await asyncio.sleep(0.02)

            assert await handle.result() == "a"
            assert len(ran) == 3
            asked = [e for e in (await handle.fetch_history()).timeline() if e.kind == "retry"]
            assert [e.key for e in asked] == ["", "1"]

    asyncio.run(main())


def test_that_an_attempt_is_not_waited_for_is_recorded_before_it_begins(clients):
    """Else a process that dies in the middle of it would leave it hours away."""
    opening, is_far = clients

    async def main():
        async with opening() as opened:
            await begin(opened[0], failing_once)
            handle = handle_of(opened, is_far)
            await known(handle, 1)
            assert (await handle.fetch_history()).pending[1].retry_at > time.time() + 3600
            await handle.retry_now()
            await eventually(lambda: ran == ["fails", "begun"], "the second attempt")
            assert (await handle.fetch_history()).pending[1].retry_at <= time.time()
            gate.set()
            assert await handle.result() == "done"

    asyncio.run(main())


def test_one_of_several_is_tried_again_and_one_whose_run_was_let_go(store_url):
    async def main():
        async with working(store_url, **CODE, max_cached_workflows=1) as client:
            handle = await begin(client, two_retrying)
            await eventually(lambda: len(ran) == 2, "the first attempts")
            # Its place in memory goes to another run.
            await begin(client, Inbox.run, "ann", id="other")
            await known(handle, 2)
            await eventually(lambda: client.owned("w", None) is None, "it to leave memory")
            gate.set()
            await handle.retry_now("2")
            await eventually(lambda: ran[2:] == ["tried b"], "the second activity")
            await waits()
            assert ran[2:] == ["tried b"]
            await handle.retry_now()
            assert await handle.result() == ["a", "b"]

    asyncio.run(main())


# Bad input


def test_what_cannot_be_paused_or_tried_again_says_why(store_url):
    async def main():
        async with working(store_url, **CODE) as client:
            handle = await begin(client, Inbox.run, "ann")
            with pytest.raises(CallError, match="'w' is not paused"):
                await handle.unpause()

            with pytest.raises(CallError, match="no activity of run 'w' waits .*none does"):
                await handle.retry_now()

            await handle.pause(reason="because")
            with pytest.raises(
                CallError, match="'w' is paused already, by worker's client: because.*unpause w"
            ):
                await handle.pause()

            await handle.unpause()
            await handle.signal(Inbox.end)
            await handle.result()
            with pytest.raises(WorkflowNotFoundError, match=r"has ended \(completed\)"):
                await handle.pause()

            with pytest.raises(CallError, match="is not paused"):
                await handle.unpause()

            with pytest.raises(WorkflowNotFoundError, match="no run"):
                await client.get_workflow_handle("nobody").pause()

            handle = await begin(client, two_retrying, id="r")
            await known(handle, 2)
            with pytest.raises(CallError, match="no activity '7' of run 'r' .*: 1, 2"):
                await handle.retry_now("7")

    asyncio.run(main())


def test_a_worker_that_meets_a_paused_run_leaves_it_alone(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            await handle.pause()
            async with Worker(client, task_queue=QUEUE, **CODE):
                await handle.signal(Inbox.end)
                await waits()
                assert (await handle.describe()).history_length == 0
                await handle.unpause()
                assert await handle.result() == []

    asyncio.run(main())
