"""Heartbeats, what they tell the next attempt, and how bodies learn of their end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from datetime import timedelta

import pytest
from durable_core import _defaults, activity, workflow
from durable_core.common import RetryPolicy
from durable_core.exceptions import ActivityError, CancelledError, TimeoutType
from durable_core.testing import ActivityEnvironment
from durable_core.workflow import ActivityCancellationType
from support.talking import begin, working
from support.waiting import eventually

SOON = RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=3)
BRIEF = timedelta(seconds=0.3)
seen: list[object] = []


@pytest.fixture(autouse=True)
def _fresh():
    seen.clear()


@activity.defn(retry_policy=SOON)
async def counting(until: int) -> int:
    info = activity.info()
    reached = info.heartbeat_details[0] if info.heartbeat_details else 0
    seen.append(reached)
    for number in range(reached + 1, until + 1):
        activity.heartbeat(number, {"so": "far"})
        if number == info.attempt * 2:
            raise ConnectionError(f"after {number}")

    return reached


@activity.defn(retry_policy=SOON)
def counting_in_a_thread(until: int) -> int:
    info = activity.info()
    reached = info.heartbeat_details[0] if info.heartbeat_details else 0
    seen.append(reached)
    activity.heartbeat(reached + 1)
    if reached + 1 < until:
        time.sleep(0.05)
        raise ConnectionError("again")

    return reached


@activity.defn(heartbeat_timeout=BRIEF, retry_policy=RetryPolicy(maximum_attempts=1))
async def silent(how: str) -> str:
    for _ in range(5):
        await asyncio.sleep(0.1)
        if how == "speaks":
            activity.heartbeat()

    return how


@activity.defn(heartbeat_timeout=BRIEF, retry_policy=RetryPolicy(maximum_attempts=1))
def silent_in_a_thread(how: str) -> str:
    seen.append("begun")
    activity.wait_for_cancelled_sync(10)
    seen.append(activity.is_cancelled())
    try:
        activity.heartbeat()
    except CancelledError as error:
        seen.append(str(error))

    return how


@activity.defn(retry_policy=SOON)
async def lingering(how: str) -> str:
    seen.append("begun")
    try:
        await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        seen.append("told to end")
        assert activity.is_cancelled()
        if how == "insists":
            return "all the same"

        if how == "breaks":
            raise ValueError("in its own way") from None

        raise

    seen.append("ended")
    return how


@workflow.defn
async def calling(name: str, arg: object) -> object:
    found = {a.__name__: a for a in (counting, counting_in_a_thread, silent, silent_in_a_thread)}[
        name
    ]
    return await workflow.execute_activity(found, arg)


@workflow.defn
async def cancelling(kind: int, how: str) -> str:
    handle = workflow.start_activity(
        lingering, how, cancellation_type=ActivityCancellationType(kind)
    )
    await asyncio.sleep(0.05)
    handle.cancel()
    try:
        return await handle
    except ActivityError as error:
        return f"{type(error.cause).__name__} at once" if "ended" not in seen else "late"


ACTIVITIES = [counting, counting_in_a_thread, silent, silent_in_a_thread, lingering]


def opened(store_url):
    return working(store_url, workflows=[calling, cancelling], activities=ACTIVITIES)


@pytest.mark.parametrize("name", ["counting", "counting_in_a_thread"])
def test_the_next_attempt_finds_what_the_last_heartbeat_said(store_url, name):
    async def main():
        async with opened(store_url) as client:
            handle = await begin(client, calling, name, 3 if "thread" in name else 5)
            return await handle.result()

    if name == "counting":
        assert asyncio.run(main()) == 4
        assert seen == [0, 2, 4]
    else:
        assert asyncio.run(main()) == 2
        assert seen == [0, 1, 2]


def test_another_worker_finds_what_was_recorded(store_url, monkeypatch):
    monkeypatch.setattr(_defaults, "HEARTBEAT_EVERY", 0.05)

    @activity.defn
    async def going(until: int) -> int:
        reached = list(activity.info().heartbeat_details)
        seen.append(reached)
        if reached:
            return reached[0]

        for number in range(until):
            activity.heartbeat(number)
            await asyncio.sleep(0.01)

        await asyncio.Event().wait()
        return -1

    @workflow.defn
    async def flow() -> int:
        return await going(20)

    async def main():
        async with working(store_url, workflows=[flow], activities=[going]) as client:
            await begin(client, flow)
            await eventually(lambda: seen, "the body")
            await asyncio.sleep(0.5)
            row = await client.store.find("default", "w")
            (pending,) = (await client.store.load(row)).pending
            assert b"[19]" in pending.data

        async with working(store_url, workflows=[flow], activities=[going]) as client:
            return await client.get_workflow_handle("w").result()

    assert asyncio.run(main()) == 19
    assert seen == [[], [19]]


@pytest.mark.parametrize("name", ["silent", "silent_in_a_thread"])
def test_an_attempt_that_falls_silent_has_failed(store_url, name):
    async def main():
        async with opened(store_url) as client:
            handle = await begin(client, calling, name, "says nothing")
            with pytest.raises(Exception) as caught:
                await handle.result()

            error = caught.value.cause.cause
            assert type(error).__module__ == "durable_core.exceptions"
            assert error.type is TimeoutType.HEARTBEAT
            assert "said nothing for its heartbeat timeout of 0.3 s" in str(error)
            if name == "silent_in_a_thread":
                await eventually(lambda: len(seen) == 3, "the thread")
                assert seen[1] is True
                assert "asked to end" in seen[2]

    asyncio.run(main())


def test_details_that_cannot_be_recorded_are_refused_where_they_are_said(store_url):
    @activity.defn(retry_policy=RetryPolicy(maximum_attempts=1))
    async def odd() -> None:
        activity.heartbeat(object())

    @workflow.defn
    async def flow() -> None:
        await odd()

    async def main():
        async with working(store_url, workflows=[flow], activities=[odd]) as client:
            with pytest.raises(Exception, match="the details of a heartbeat"):
                await (await begin(client, flow)).result()

    asyncio.run(main())


def test_what_a_body_leaves_behind_is_not_heard_any_more(store_url, monkeypatch):
    monkeypatch.setattr(_defaults, "HEARTBEAT_EVERY", 0.0)

    def beat():
        time.sleep(0.1)
        try:
            activity.heartbeat("late")
        except CancelledError as error:
            seen.append(str(error))

    @activity.defn
    async def leaving() -> None:
        activity.heartbeat("first")
        threading.Thread(target=contextvars.copy_context().run, args=(beat,)).start()

    @workflow.defn
    async def flow() -> None:
        await leaving()
        await asyncio.sleep(0.5)

    async def main():
        async with working(store_url, workflows=[flow], activities=[leaving]) as client:
            handle = await begin(client, flow)
            await eventually(lambda: seen, "the late heartbeat")
            await asyncio.sleep(0.1)
            loaded = await client.store.load(await client.store.find("default", "w"))
            assert [row.kind for row in loaded.pending] == ["timer"]
            await handle.result()

    asyncio.run(main())
    assert "nobody waits for it any more" in seen[0]


def test_an_attempt_that_speaks_lives_on(store_url):
    async def main():
        async with opened(store_url) as client:
            return await (await begin(client, calling, "silent", "speaks")).result()

    assert asyncio.run(main()) == "speaks"


@pytest.mark.parametrize(
    ("kind", "how", "result", "after"),
    [
        (ActivityCancellationType.TRY_CANCEL, "yields", "CancelledError at once", "told to end"),
        (ActivityCancellationType.TRY_CANCEL, "breaks", "CancelledError at once", "told to end"),
        (
            ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            "breaks",
            "ValueError at once",
            "told to end",
        ),
        (ActivityCancellationType.ABANDON, "yields", "CancelledError at once", "ended"),
        (
            ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            "insists",
            "all the same",
            "told to end",
        ),
        (
            ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            "yields",
            "CancelledError at once",
            "told to end",
        ),
    ],
)
def test_cancelling_does_what_its_type_says(store_url, kind, how, result, after):
    async def main():
        async with opened(store_url) as client:
            handle = await begin(client, cancelling, int(kind), how)
            assert await handle.result() == result
            await eventually(lambda: seen[-1:] == [after], "the body")
            # Long enough for another attempt.
            await asyncio.sleep(0.1)
            assert seen == ["begun", after]

    asyncio.run(main())


def test_an_abandoned_body_leaves_no_row(store_url, monkeypatch):
    monkeypatch.setattr(_defaults, "HEARTBEAT_EVERY", 0.0)

    @activity.defn(retry_policy=SOON)
    async def beating() -> None:
        seen.append("begun")
        for _ in range(20):
            activity.heartbeat("alive")
            await asyncio.sleep(0.01)

        seen.append("ended")

    @workflow.defn
    async def flow() -> None:
        handle = workflow.start_activity(
            beating, cancellation_type=ActivityCancellationType.ABANDON
        )
        await asyncio.sleep(0.05)
        handle.cancel()
        await asyncio.sleep(1)

    async def main():
        async with working(store_url, workflows=[flow], activities=[beating]) as client:
            handle = await begin(client, flow)
            await eventually(lambda: "ended" in seen, "the body")
            loaded = await client.store.load(await client.store.find("default", "w"))
            assert [row.kind for row in loaded.pending] == ["timer"]
            await handle.result()

    asyncio.run(main())
    assert seen == ["begun", "ended"]


def test_a_test_hears_what_a_body_says():
    environment = ActivityEnvironment()
    said = []
    environment.on_heartbeat = lambda *details: said.append(details)

    def body() -> None:
        activity.heartbeat(1, "x")

    environment.run(body)
    assert said == [(1, "x")]


def test_a_body_by_itself_can_be_asked_to_end():
    async def waits() -> str:
        await activity.wait_for_cancelled()
        return "told"

    async def main():
        environment = ActivityEnvironment()
        task = asyncio.ensure_future(environment.run(waits))
        await asyncio.sleep(0)
        environment.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        thread: list[bool] = []

        def sync() -> None:
            activity.wait_for_cancelled_sync(timedelta(seconds=5))
            thread.append(activity.is_cancelled())

        other = ActivityEnvironment()
        running = threading.Thread(target=other.run, args=(sync,))
        running.start()
        other.cancel()
        running.join()
        assert thread == [True]

    asyncio.run(main())
