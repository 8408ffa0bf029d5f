"""Calling an id again, in every state that its run may be in; cancelling the call."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from durable_core import Client, RetryPolicy, activity, embedded, workflow
from durable_core.client import WorkflowExecutionStatus
from durable_core.embedded import execute_workflow
from durable_core.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    TerminatedError,
    WorkflowFailureError,
)
from durable_core.history import SignalReceived
from durable_core.worker import Worker
from support.waiting import eventually

ran: list[str] = []


class World:
    """What the activities below find."""

    def __init__(self):
        self.renew()

    def renew(self):
        self.broken: set[str] = set()
        self.gate: asyncio.Event | None = None
        self.limit = 10


world = World()


@pytest.fixture(autouse=True)
def _fresh(store_url, monkeypatch):
    monkeypatch.setenv("DURABLE_URL", store_url)
    ran.clear()
    world.renew()


@activity.defn
async def step(name: str) -> str:
    ran.append(name)
    if name in world.broken:
        raise ApplicationError(f"{name} is broken", non_retryable=True)

    return name.upper()


@activity.defn
async def wait(name: str) -> str:
    ran.append(f"{name} begins")
    try:
        if world.gate is not None:
            await world.gate.wait()
    except asyncio.CancelledError:
        ran.append(f"{name} is cancelled")
        raise

    ran.append(f"{name} ends")
    return name


@workflow.defn
async def two_steps() -> list[str]:
    first = await step("first")
    second, third = await asyncio.gather(step("second"), step("third"))
    return [first, second, third, await step("fourth")]


@workflow.defn
async def counted() -> int:
    for n in range(10):
        if n >= world.limit:
            raise ApplicationError(f"more than {world.limit}")

        await step(f"step {n}")

    return 10


@workflow.defn
async def waits_long() -> str:
    try:
        return await wait("long")
    finally:
        await step("clean up")


@workflow.defn
async def waits() -> str:
    await step("before")
    return await wait("body")


@workflow.defn
async def runs_out_of_time() -> str:
    await step("before")
    async with asyncio.timeout(0.2):
        return await wait("body")


@workflow.defn
async def gives_up_late() -> str:
    """The failure is told of only after a pause, in which another activity ends."""
    other = asyncio.ensure_future(wait("other"))
    try:
        await step("breaks")
    except ApplicationError:
        await asyncio.sleep(0.1)
        raise

    return await other


@workflow.defn
async def grouped() -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(step(n)) for n in ("a", "b")]

    return [t.result() for t in tasks]


def entries(id="w"):
    async def fetch():
        async with await Client.connect() as client:
            return (await client.get_workflow_handle(id).fetch_history()).timeline()

    return asyncio.run(fetch())


def call(code, *, id="w", **options):
    return asyncio.run(execute_workflow(code, id=id, **options))


def failure(code, **options):
    with pytest.raises(WorkflowFailureError) as raised:
        call(code, **options)

    return raised.value.cause


# Runs that failed


def test_a_failed_run_continues_with_the_failing_call_and_nothing_else_is_done_again():
    world.broken = {"second"}
    error = failure(two_steps)
    assert str(error) == "second is broken"
    assert sorted(ran) == ["first", "second", "third"]
    world.broken.clear()

    assert call(two_steps, on_failed="resume") == ["FIRST", "SECOND", "THIRD", "FOURTH"]
    assert sorted(ran) == ["first", "fourth", "second", "second", "third"]


def test_the_earlier_failure_stays_in_the_history():
    world.broken = {"second"}
    failure(two_steps)
    failure(two_steps, on_failed="resume")
    world.broken.clear()
    call(two_steps, on_failed="resume")
    found = entries()

    assert [e.status for e in found if e.kind == "closed"] == ["failed", "failed", "completed"]
    assert [e.kind for e in found].count("rewound") == 2
    activities = [e for e in found if e.kind == "activity"]
    assert [(e.status, len(e.attempts)) for e in activities] == [
        ("completed", 1),
        ("completed", 3),
        ("completed", 1),
        ("completed", 1),
    ]


def test_a_failure_of_the_code_itself_continues_before_the_step_that_failed():
    world.limit = 2
    assert "more than 2" in str(failure(counted))
    assert "more than 2" in str(failure(counted, on_failed="resume"))
    world.limit = 5
    assert "more than 5" in str(failure(counted, on_failed="resume"))
    world.limit = 10

    assert call(counted, on_failed="resume") == 10
    assert ran == [f"step {n}" for n in range(10)]


def test_a_run_that_went_on_after_a_failure_replays_from_its_record():
    world.limit = 3
    failure(counted)
    world.limit = 10
    call(counted, on_failed="resume")
    ran.clear()

    assert call(counted) == 10
    assert ran == []


def test_a_failure_is_raised_again_if_the_caller_says_so_and_by_default():
    world.broken = {"second"}
    first = failure(two_steps)
    world.broken.clear()

    for options in ({}, {"on_failed": "raise"}):
        again = failure(two_steps, **options)
        assert (type(again), str(again)) == (type(first), str(first))

    assert sorted(ran) == ["first", "second", "third"]


def test_a_failed_run_is_started_anew_if_the_caller_says_so():
    world.broken = {"second"}
    failure(two_steps)
    world.broken.clear()

    assert call(two_steps, on_failed="restart") == ["FIRST", "SECOND", "THIRD", "FOURTH"]
    assert ran.count("first") == 2
    assert call(two_steps, on_failed="restart")[0] == "FIRST"
    assert ran.count("first") == 2, "a completed run is not started again"


def test_what_came_in_between_the_failure_and_the_end_is_kept():
    async def main():
        world.gate = asyncio.Event()
        world.broken = {"breaks"}
        task = asyncio.ensure_future(execute_workflow(gives_up_late, id="w"))
        await eventually(lambda: "breaks" in ran, "the failing step")
        world.gate.set()
        with pytest.raises(WorkflowFailureError):
            await task

        world.broken.clear()
        return await execute_workflow(gives_up_late, id="w", on_failed="resume")

    assert asyncio.run(main()) == "other"
    assert sorted(ran) == ["breaks", "breaks", "other begins", "other ends"]


@activity.defn(retry_policy=RetryPolicy(maximum_attempts=1))
async def connect() -> str:
    if "connect" in world.broken:
        raise ConnectionError("refused")

    return "connected"


@workflow.defn
async def connects() -> str:
    await step("first")
    return await connect()


@workflow.defn
async def wraps() -> str:
    await step("first")
    try:
        return await connect()
    except ConnectionError as error:
        raise LookupError("no server") from error


@workflow.defn
async def mishandles() -> str:
    await step("first")
    try:
        return await connect()
    except ConnectionError:
        return {}["no such key"]


@pytest.mark.parametrize(("code", "kind"), [(connects, "ConnectionError"), (wraps, "LookupError")])
def test_the_failure_of_a_recorded_call_fails_the_run_whatever_its_class(code, kind):
    world.broken.add("connect")
    assert type(failure(code)).__name__ == kind
    world.broken.clear()
    assert type(failure(code)).__name__ == kind, "it stands until it is to be tried again"
    assert call(code, on_failed="resume") == "connected"
    assert ran == ["first"]


def test_a_bug_in_the_handling_of_a_failure_stalls_the_run():
    world.broken.add("connect")
    with pytest.raises(KeyError, match="no such key"):
        call(mishandles)


def test_every_failure_of_a_group_is_tried_again():
    world.broken = {"a", "b"}
    failure(grouped)
    world.broken.clear()

    assert call(grouped, on_failed="resume") == ["A", "B"]
    assert sorted(ran) == ["a", "a", "b", "b"]


def test_what_ran_out_of_time_gets_its_time_again():
    async def main():
        world.gate = asyncio.Event()
        with pytest.raises(WorkflowFailureError):
            await execute_workflow(runs_out_of_time, id="w")

        world.gate.set()
        return await execute_workflow(runs_out_of_time, id="w", on_failed="resume")

    assert asyncio.run(main()) == "body"
    assert ran == ["before", "body begins", "body is cancelled", "body begins", "body ends"]


def test_a_kill_between_the_claim_and_the_first_step_changes_nothing(monkeypatch):
    """The row says that the run is open again, while its record still ends with the failure."""
    world.broken = {"second"}
    failure(two_steps)
    world.broken.clear()

    async def revive():
        async with await Client.connect() as client:
            row = await client.store.find("default", "w")
            await client.store.revive(row.run_id, reopen=True)

    asyncio.run(revive())
    assert call(two_steps) == ["FIRST", "SECOND", "THIRD", "FOURTH"]
    assert sorted(ran) == ["first", "fourth", "second", "second", "third"]


def test_an_attempt_under_way_when_a_run_failed_runs_again():
    async def main():
        world.gate = asyncio.Event()
        world.broken = {"breaks"}

        @workflow.defn
        async def together() -> list[str]:
            return list(await asyncio.gather(wait("body"), step("breaks")))

        with pytest.raises(WorkflowFailureError):
            await execute_workflow(together, id="w")

        world.broken.clear()
        world.gate.set()
        return await execute_workflow(together, id="w", on_failed="resume")

    assert asyncio.run(main()) == ["body", "BREAKS"]
    assert ran.count("body ends") == 1


# Cancelling


async def out_of_patience(call):
    """Cancel a call as soon as its body waits."""
    calling = asyncio.ensure_future(call)
    await eventually(lambda: any(text.endswith("begins") for text in ran), "the body")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(calling, 0.001)


def test_cancelling_the_call_cancels_the_run_and_waits_for_its_cleaning_up():
    async def main():
        world.gate = asyncio.Event()
        await out_of_patience(execute_workflow(waits_long, id="w"))

        assert ran == ["long begins", "long is cancelled", "clean up"]

    asyncio.run(main())
    (end,) = [e for e in entries() if e.kind == "closed"]
    assert end.status == "canceled"


def test_a_run_that_its_caller_cancelled_continues_when_called_again():
    async def main():
        world.gate = asyncio.Event()
        await out_of_patience(execute_workflow(waits, id="w"))

        world.gate.set()
        return await execute_workflow(waits, id="w", on_failed="resume")

    assert asyncio.run(main()) == "body"
    assert ran == ["before", "body begins", "body is cancelled", "body begins", "body ends"]


def test_a_detached_run_goes_on_and_can_be_joined():
    async def main():
        world.gate = asyncio.Event()
        await out_of_patience(execute_workflow(waits, id="w", on_cancel="detach"))

        world.gate.set()
        return await execute_workflow(waits, id="w")

    assert asyncio.run(main()) == "body"
    assert ran == ["before", "body begins", "body ends"]


def test_only_the_last_of_several_callers_cancels_the_run():
    async def main():
        world.gate = asyncio.Event()
        first, second, third = (
            asyncio.ensure_future(execute_workflow(waits, id="w")) for _ in range(3)
        )
        await eventually(lambda: "body begins" in ran, "the body")
        for call in (first, second):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        assert "body is cancelled" not in ran
        world.gate.set()
        assert await third == "body"

    asyncio.run(main())


def test_a_call_that_is_cancelled_while_it_starts_leaves_nothing_behind():
    async def main():
        await execute_workflow(counted, id="first")
        world.gate = asyncio.Event()
        for pause in (0, 1, 2, 3, 5, 8, 13):
            task = asyncio.ensure_future(execute_workflow(waits, id=f"w{pause}"))
            for _ in range(pause):
                await asyncio.sleep(0)

            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        (here,) = embedded._loops.opened_here()
        await eventually(lambda: not here.worker._owned, "the end of every run")

    asyncio.run(main())


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_what_somebody_else_ended_is_not_taken_up_by_a_call(how):
    async def main():
        world.gate = asyncio.Event()
        task = asyncio.ensure_future(execute_workflow(waits, id="w"))
        await eventually(lambda: "body begins" in ran, "the body")
        async with await Client.connect() as client:
            handle = client.get_workflow_handle("w")
            await (handle.cancel() if how == "cancel" else handle.terminate())
            with pytest.raises(WorkflowFailureError):
                await task

            world.gate.set()
            for _ in range(2):
                with pytest.raises(WorkflowFailureError) as raised:
                    await execute_workflow(waits, id="w", on_failed="resume")

                wanted = CancelledError if how == "cancel" else TerminatedError
                assert isinstance(raised.value.cause, wanted)

            assert await execute_workflow(waits, id="w", on_failed="restart") == "body"

    asyncio.run(main())


def test_a_signal_is_kept_when_a_run_is_taken_up_again():
    @workflow.defn
    class Collecting:
        def __init__(self):
            self.got: list[int] = []

        @workflow.run
        async def run(self) -> list[int]:
            await workflow.wait_condition(lambda: len(self.got) == 2)
            await step("after")
            return self.got

        @workflow.signal
        def put(self, n: int) -> None:
            self.got.append(n)

    async def main():
        world.broken = {"after"}
        task = asyncio.ensure_future(execute_workflow(Collecting.run, id="w"))
        async with await Client.connect() as client:
            handle = client.get_workflow_handle("w")
            for n in (1, 2):
                while True:
                    with contextlib.suppress(LookupError):
                        await handle.signal(Collecting.put, n)
                        break

                    await asyncio.sleep(0)

            with pytest.raises(WorkflowFailureError):
                await task

            world.broken.clear()
            assert await execute_workflow(Collecting.run, id="w", on_failed="resume") == [1, 2]
            recorded = await handle.fetch_history()
            events = [e for a in recorded.activations for e in a.events]
            assert sum(isinstance(e, SignalReceived) for e in events) == 2

    asyncio.run(main())


def test_a_signal_that_is_delivered_again_to_code_with_a_bug_is_kept_once():
    @workflow.defn
    class Patient:
        def __init__(self):
            self.got: list[int] = []

        @workflow.run
        async def run(self) -> list[int]:
            try:
                await connect()
            except ConnectionError:
                await workflow.wait_condition(lambda: bool(self.got))
                raise

            await workflow.wait_condition(lambda: bool(self.got))
            return self.got

        @workflow.signal
        def put(self, n: int) -> None:
            if "put" in world.broken:
                raise KeyError("a bug")

            self.got.append(n)

    async def main():
        world.broken = {"connect"}
        task = asyncio.ensure_future(execute_workflow(Patient.run, id="w"))
        async with await Client.connect() as client:
            handle = client.get_workflow_handle("w")
            while True:
                with contextlib.suppress(LookupError):
                    if len((await handle.fetch_history()).activations) == 2:
                        break

                await asyncio.sleep(0.005)

            await handle.signal(Patient.put, 1)
            with pytest.raises(WorkflowFailureError):
                await task

            world.broken = {"put"}
            with pytest.raises(KeyError):
                await execute_workflow(Patient.run, id="w", on_failed="resume")

            world.broken = set()
            return await execute_workflow(Patient.run, id="w", on_failed="resume")

    assert asyncio.run(main()) == [1]


# Runs of a worker


def test_a_worker_takes_a_revived_run_up_before_its_failure():
    async def main():
        world.broken = {"second"}
        async with (
            await Client.connect() as client,
            Worker(client, task_queue="q", workflows=[two_steps], activities=[step]),
        ):
            handle = await client.start_workflow(two_steps, id="w", task_queue="q")
            with pytest.raises(WorkflowFailureError):
                await handle.result()

            world.broken.clear()
            row = await client.store.find("default", "w")
            await client.store.revive(row.run_id, reopen=True)
            assert await handle.result() == ["FIRST", "SECOND", "THIRD", "FOURTH"]
            assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED

    asyncio.run(main())
    assert sorted(ran) == ["first", "fourth", "second", "second", "third"]


def test_an_activity_error_is_blamed_on_its_activity():
    @workflow.defn
    async def by_execute() -> str:
        await step("before")
        return await workflow.execute_activity(step, "breaks")

    world.broken = {"breaks"}
    assert isinstance(failure(by_execute), ActivityError)
    world.broken.clear()

    assert call(by_execute, on_failed="resume") == "BREAKS"
    assert ran == ["before", "breaks", "breaks"]


def test_a_run_without_an_id_is_logged(caplog):
    async def main():
        return await embedded.run(two_steps)

    with caplog.at_level(logging.INFO, "durable_core.embedded"):
        finished = asyncio.run(main())

    assert f"run without an id: {finished.workflow_id}" in caplog.text
