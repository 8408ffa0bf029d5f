"""Signals, queries, cancellation and the end of runs from outside; ids that are in use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from datetime import timedelta

import pytest
from durable_core import Client, RetryPolicy, Worker, _defaults, activity, workflow
from durable_core.client import WorkflowExecutionStatus
from durable_core.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from durable_core.exceptions import (
    CancelledError,
    NotRegisteredError,
    TerminatedError,
    TimeoutError,  # noqa: A004  # the one that is meant
    TimeoutType,
    WorkflowAlreadyStartedError,
    WorkflowFailureError,
    WorkflowNotFoundError,
    WorkflowQueryFailedError,
    WorkflowStalledError,
)
from support.talking import (
    QUEUE,
    Inbox,
    Note,
    begin,
    both,
    hang,
    hanging,
    note,
    ran,
    sleeper,
    working,
)
from support.waiting import eventually

# Signals and queries


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_signal_and_a_query_reach_the_run_wherever_they_come_from(store_url, where):
    async def main():
        async with both(store_url) as (near, far):
            await begin(near, Inbox.run, "ann")
            handle = (near if where == "near" else far).get_workflow_handle("w")
            await handle.signal(Inbox.take, Note("a", 1))
            await handle.signal("take", {"text": "b", "size": 2})
            # A signal to another process is durable before it is handled.
            texts = []
            while len(texts) < 2:
                texts = await handle.query(Inbox.texts)

            assert texts == ["a", "b"]
            assert await handle.query(Inbox.texts, 2) == ["b"]
            assert await handle.query(Inbox.first) == Note("a", 1)
            assert await handle.query("first") == {"text": "a", "size": 1}
            assert await handle.query("first", result_type=Note) == Note("a", 1)
            await handle.signal(Inbox.end)
            assert await handle.result() == [
                {"text": "a", "size": 1},
                {"text": "b", "size": 2},
            ]
            assert await handle.query(Inbox.texts) == ["a", "b"]
            signals = [e for e in (await handle.fetch_history()).timeline() if e.kind == "signal"]
            assert (signals[0].name, signals[0].args) == ("take", [{"text": "a", "size": 1}])
            sender = "far" if where == "far" else "worker's client"
            assert signals[0].detail == f"from {sender}"

    asyncio.run(main())


def test_signals_of_one_sender_are_handled_in_the_order_of_sending(store_url):
    async def main():
        async with both(store_url) as (near, far):
            await begin(near, Inbox.run, "ann")
            handles = [near.get_workflow_handle("w"), far.get_workflow_handle("w")]

            async def send(handle, name):
                for n in range(40):
                    await handle.signal(Inbox.take, Note(f"{name}{n:03}"))

            await asyncio.gather(*(send(h, n) for h, n in zip(handles, "ab", strict=True)))
            await handles[1].signal(Inbox.end)
            got = [n["text"] for n in await handles[0].result()]
            for name in "ab":
                mine = [t for t in got if t.startswith(name)]
                assert mine == [f"{name}{n:03}" for n in range(40)]

    asyncio.run(main())


def test_a_signal_at_the_end_is_handled_or_refused_and_never_lost(store_url):
    """Many runs are ended while others go on to send: what was accepted is in the result."""

    async def main():
        async with both(store_url) as (near, far):

            async def one(n):
                id = f"w{n}"
                await begin(near, Inbox.run, "ann", id=id)
                accepted = []

                async def send(client, name):
                    handle = client.get_workflow_handle(id)
                    for k in range(50):
                        text = f"{name}{k}"
                        try:
                            await handle.signal(Inbox.take, Note(text))
                        except WorkflowNotFoundError:
                            return

                        accepted.append(text)

                sending = [asyncio.ensure_future(send(c, c.identity[0])) for c in (near, far)]
                await asyncio.sleep(0.002 * (n % 7))
                await far.get_workflow_handle(id).signal(Inbox.end)
                got = [x["text"] for x in await near.get_workflow_handle(id).result()]
                await asyncio.gather(*sending)
                assert sorted(got) == sorted(accepted)
                return len(accepted)

            assert sum(await asyncio.gather(*(one(n) for n in range(12)))) > 12

    asyncio.run(main())


def test_a_signal_to_a_run_that_no_worker_has_waits_for_one(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            await handle.signal(Inbox.take, Note("early"))
            await handle.signal(Inbox.end)
            assert [e.status for e in (await handle.fetch_history()).timeline()][1:] == [
                "waiting",
                "waiting",
            ]
            async with Worker(client, task_queue=QUEUE, workflows=[Inbox], activities=[note]):
                assert await handle.result() == [Note("early")]

    asyncio.run(main())


def test_a_large_signal_is_stored_as_an_item(store_url):
    text = "x" * 20_000

    async def main():
        async with both(store_url) as (near, far):
            await begin(near, Inbox.run, "ann")
            for client in (near, far):
                await client.get_workflow_handle("w").signal(Inbox.take, Note(text))

            await far.get_workflow_handle("w").signal(Inbox.end)
            result = await near.get_workflow_handle("w").result()
            assert [len(n["text"]) for n in result] == [20_000, 20_000]

    asyncio.run(main())


def test_talking_to_nobody_says_so(store_url):
    async def main():
        async with working(store_url) as client:
            nobody = client.get_workflow_handle("nobody")
            for talk in (
                nobody.signal("take", Note("a")),
                nobody.query("texts"),
                nobody.cancel(),
                nobody.terminate(),
            ):
                with pytest.raises(WorkflowNotFoundError, match="'nobody'"):
                    await talk

            handle = await begin(client, sleeper, 0.0)
            await handle.result()
            for talk in (handle.signal("x"), handle.cancel(), handle.terminate()):
                with pytest.raises(
                    WorkflowNotFoundError, match=r"has ended \(completed\).*durable show w"
                ):
                    await talk

    asyncio.run(main())


def test_a_query_in_a_process_that_does_not_know_the_code_says_so(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = await begin(client, "Elsewhere", 1)
            with pytest.raises(NotRegisteredError, match="import the module that defines it"):
                await handle.query("anything")

            known = await begin(client, Inbox.run, "ann", id="known")
            with pytest.raises(WorkflowQueryFailedError, match="no query 'nothing'"):
                await known.query("nothing")

    asyncio.run(main())


# Cancellation and termination


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_cancelled_run_cleans_up_and_is_canceled(store_url, where):
    async def main():
        async with both(store_url) as (near, far):
            handle = await begin(near, Inbox.run, "ann")
            client = near if where == "near" else far
            await client.get_workflow_handle("w").cancel(reason="too late")
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()

            assert isinstance(raised.value.cause, CancelledError)
            assert ran == ["cleaned up"]
            assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
            assert await handle.query(Inbox.texts) == ["cancelled: too late"]
            (asked,) = [e for e in (await handle.fetch_history()).timeline() if e.kind == "cancel"]
            assert "too late" in asked.detail

    asyncio.run(main())


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_terminated_run_ends_at_once_and_its_bodies_are_cancelled(store_url, where):
    async def main():
        async with both(store_url) as (near, far):
            handle = await begin(near, hanging)
            await eventually(lambda: "begun body" in ran, "the body")
            client = near if where == "near" else far
            await client.get_workflow_handle("w").terminate("why", 7, reason="enough")
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()

            assert isinstance(raised.value.cause, TerminatedError)
            assert str(raised.value.cause) == "enough"
            await eventually(lambda: "ended body" in ran, "the end of the body")
            assert (await handle.describe()).status is WorkflowExecutionStatus.TERMINATED
            recorded = await handle.fetch_history()
            assert recorded.timeline()[-1].status == "terminated"
            assert recorded.pending == {}

    asyncio.run(main())


def test_a_run_that_was_terminated_can_still_be_asked(store_url):
    async def main():
        async with working(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            await handle.signal(Inbox.take, Note("a"))
            await handle.terminate()
            assert await handle.query(Inbox.texts) == ["a"]

    asyncio.run(main())


# Ids in use


def test_an_id_that_is_open_is_refused_used_or_ended_as_the_policy_says(store_url):
    async def main():
        async with both(store_url) as (near, far):
            first = await begin(near, Inbox.run, "ann")
            for client in (near, far):
                with pytest.raises(WorkflowAlreadyStartedError, match="another id_conflict_policy"):
                    await begin(client, Inbox.run, "bob")

                same = await begin(
                    client,
                    Inbox.run,
                    "bob",
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                )
                assert same.run_id == first.run_id

            second = await begin(
                far,
                Inbox.run,
                "bob",
                id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
            )
            assert second.run_id != first.run_id
            assert (await first.describe()).status is WorkflowExecutionStatus.TERMINATED
            assert (await second.describe()).status is WorkflowExecutionStatus.RUNNING

    asyncio.run(main())


def test_an_id_that_was_used_is_free_or_not_as_the_policy_says(store_url):
    policy = WorkflowIDReusePolicy

    async def main():
        async with both(store_url) as (near, far):
            for client in (near, far):
                done, failed = f"done {client.identity}", f"failed {client.identity}"
                await (await begin(client, sleeper, 0.0, id=done)).result()
                handle = await begin(client, Inbox.run, "ann", id=failed)
                await handle.terminate()
                for id, given, free in (
                    (done, policy.ALLOW_DUPLICATE_FAILED_ONLY, False),
                    (done, policy.REJECT_DUPLICATE, False),
                    (failed, policy.REJECT_DUPLICATE, False),
                    (failed, policy.ALLOW_DUPLICATE_FAILED_ONLY, True),
                    (done, policy.ALLOW_DUPLICATE, True),
                ):
                    if free:
                        await begin(client, Inbox.run, "bob", id=id, id_reuse_policy=given)
                        continue

                    with pytest.raises(WorkflowAlreadyStartedError, match="was used"):
                        await begin(client, Inbox.run, "bob", id=id, id_reuse_policy=given)

    asyncio.run(main())


# Timeouts


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


# Eviction


def owned_runs(client):
    return list(client.workers[0]._owned)


def test_a_run_that_only_waits_leaves_memory_and_wakes_in_time(store_url, monkeypatch):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.2)

    async def main():
        async with working(store_url) as client:
            handle = await begin(client, sleeper, 1.5)
            await eventually(lambda: not owned_runs(client), "an eviction")
            row = await client.store.find("default", "w")
            assert row.owner is None
            assert row.wake > 0
            assert await handle.result() == "slept"
            assert ran == ["awake"]

    asyncio.run(main())


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_run_out_of_memory_is_woken_by_a_signal(store_url, monkeypatch, where):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.1)

    async def main():
        async with both(store_url) as (near, far):
            handle = await begin(near, Inbox.run, "ann")
            await eventually(lambda: not owned_runs(near), "an eviction")
            talker = (near if where == "near" else far).get_workflow_handle("w")
            await talker.signal(Inbox.take, Note("a"))
            await talker.signal(Inbox.end)
            assert await handle.result() == [Note("a")]

    asyncio.run(main())


def test_what_is_over_the_limit_leaves_memory_at_once(store_url):
    async def main():
        async with working(store_url, max_cached_workflows=3) as client:
            for n in range(8):
                await begin(client, sleeper, 600.0, id=f"w{n}")

            await eventually(lambda: len(owned_runs(client)) <= 3, "evictions")
            handle = client.get_workflow_handle("w0")
            await handle.cancel()
            with pytest.raises(WorkflowFailureError):
                await handle.result()

    asyncio.run(main())


def test_a_run_whose_body_runs_stays(store_url, monkeypatch):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.05)

    async def main():
        async with working(store_url, max_cached_workflows=1) as client:
            await begin(client, hanging)
            await eventually(lambda: "begun body" in ran, "the body")
            await begin(client, sleeper, 600.0, id="other")
            await eventually(lambda: len(owned_runs(client)) == 1, "an eviction")
            assert [o.row.workflow_id for o in client.workers[0]._owned.values()] == ["w"]
            assert "ended body" not in ran

    asyncio.run(main())


# Stalls


@workflow.defn
async def broken() -> None:
    await note("before the bug")
    raise ZeroDivisionError("a bug")


def test_a_stalled_run_is_waited_for_or_raises_as_the_caller_says(store_url, caplog):
    async def main():
        async with working(store_url, workflows=[broken]) as client:
            handle = await begin(client, broken)
            with pytest.raises(
                WorkflowStalledError, match="ZeroDivisionError: a bug.*durable show w"
            ):
                while True:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(handle.result(on_stall="raise"), 0.05)

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(handle.result(), 0.05)

            assert ran == ["before the bug"]

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(main())


def test_a_worker_that_does_not_know_a_workflow_says_so_once(store_url, caplog):
    async def main():
        async with working(store_url, workflows=[sleeper]) as client:
            for n in range(3):
                await begin(client, "Elsewhere", id=f"w{n}")

            await eventually(lambda: "does not know it" in caplog.text, "a warning")
            await client.changes.wait(timeout=0.3, interval=0.05)

    asyncio.run(main())
    said = [r for r in caplog.records if "does not know it" in r.getMessage()]
    assert len(said) == 1
    assert "'Elsewhere'" in said[0].getMessage()
    assert "Worker(workflows=[…])" in said[0].getMessage()
