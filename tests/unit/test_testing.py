"""What users test with: environments, time that skips, activities alone, replaying histories."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import threading
import time
from datetime import timedelta

import pytest
from durable_core import RetryPolicy, Worker, activity, workflow
from durable_core.client import WorkflowHistory
from durable_core.exceptions import (
    ApplicationError,
    NonDeterminismError,
    NotRegisteredError,
    StoreCorruptError,
    WorkflowFailureError,
)
from durable_core.testing import ActivityEnvironment, WorkflowEnvironment
from durable_core.worker import Replayer

ran: list[str] = []
DAY = timedelta(days=1)


@activity.defn
async def note(text: str) -> str:
    ran.append(text)
    return text.upper()


@activity.defn
def slow(text: str) -> str:
    time.sleep(0.05)
    ran.append(text)
    return text


@activity.defn(retry_policy=RetryPolicy(initial_interval=timedelta(hours=1)))
async def unsteady() -> int:
    attempt = activity.info().attempt
    ran.append(f"attempt {attempt}")
    if attempt < 4:
        raise ConnectionError("no route")

    return attempt


@workflow.defn
async def patient(days: int) -> list[object]:
    begun = workflow.now()
    await asyncio.sleep(days * 86_400)
    text = await note("awake")
    return [text, (workflow.now() - begun).days]


@workflow.defn
async def retrying() -> int:
    return await unsteady()


@workflow.defn
class Approval:
    def __init__(self) -> None:
        self.by: str | None = None

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.wait_condition(lambda: self.by is not None, timeout=7 * DAY)
        except TimeoutError:
            return "nobody"

        return f"approved by {self.by}"

    @workflow.signal
    def approve(self, by: str) -> None:
        self.by = by


@workflow.defn
async def busy() -> str:
    """A timer that must not fire while the activity runs."""
    try:
        async with asyncio.timeout(3600):
            return await workflow.execute_activity(slow, "done")
    except TimeoutError:
        return "too late"


WORKFLOWS = [patient, retrying, Approval, busy]
ACTIVITIES = [note, slow, unsteady]


@pytest.fixture(autouse=True)
def _fresh():
    ran.clear()


def in_environment(code, *, start=WorkflowEnvironment.start_time_skipping, **options):
    async def main():
        async with await start() as env:
            options_ = {"workflows": WORKFLOWS, "activities": ACTIVITIES, **options}
            async with Worker(env.client, task_queue="q", **options_):
                return await code(env)

    return asyncio.run(asyncio.wait_for(main(), 20))


# Time


def test_a_year_of_sleep_is_over_at_once():
    async def code(env):
        return await env.client.execute_workflow(patient, 365, id="w", task_queue="q")

    began = time.monotonic()
    assert in_environment(code) == ["AWAKE", 365]
    assert time.monotonic() - began < 10


@workflow.defn
async def generations(days: list[object]) -> list[object]:
    """Wait for children that sleep, then go on as a new run."""
    if len(days) == 3:
        return days

    _, last = await workflow.execute_child_workflow(patient, 365)
    workflow.continue_as_new([*days, last])


def test_the_sleep_of_children_and_of_new_runs_is_skipped():
    async def code(env):
        return await env.client.execute_workflow(generations, [], id="w", task_queue="q")

    began = time.monotonic()
    found = in_environment(code, workflows=[*WORKFLOWS, generations])
    assert found == [365] * 3
    assert time.monotonic() - began < 10


def test_backoffs_are_skipped():
    async def code(env):
        before = await env.get_current_time()
        result = await env.client.execute_workflow(retrying, id="w", task_queue="q")
        return result, (await env.get_current_time()) - before

    result, passed = in_environment(code)
    assert result == 4
    assert timedelta(hours=7) <= passed < timedelta(hours=7, minutes=1)
    assert ran == ["attempt 1", "attempt 2", "attempt 3", "attempt 4"]


def test_time_does_not_skip_while_an_activity_runs():
    async def code(env):
        return await env.client.execute_workflow(busy, id="w", task_queue="q")

    assert in_environment(code) == "done"


def test_a_test_moves_time_itself_and_talks_in_between():
    async def code(env):
        first = await env.client.start_workflow(Approval.run, id="a", task_queue="q")
        second = await env.client.start_workflow(Approval.run, id="b", task_queue="q")
        await env.sleep(3 * DAY)
        await first.signal(Approval.approve, "ann")
        approved = await first.result()
        await env.sleep(5 * DAY)
        assert (await second.describe()).status.value == "completed"
        return approved, await second.result()

    assert in_environment(code) == ("approved by ann", "nobody")


def test_runs_that_left_memory_wake_in_skipped_time():
    async def code(env):
        handles = [
            await env.client.start_workflow(patient, days, id=f"w{days}", task_queue="q")
            for days in range(1, 6)
        ]
        return [await handle.result() for handle in handles]

    assert in_environment(code, max_cached_workflows=1) == [["AWAKE", d] for d in range(1, 6)]


def test_time_stands_still_for_whoever_wants_it():
    async def code(env):
        handle = await env.client.start_workflow(patient, 1, id="w", task_queue="q")
        with env.auto_time_skipping_disabled(), pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handle.result(), 0.1)

        return await handle.result()

    assert in_environment(code) == ["AWAKE", 1]


def test_an_environment_without_skipping_has_the_time_of_the_wall():
    async def code(env):
        assert not env.supports_time_skipping
        handle = await env.client.start_workflow(patient, 1, id="w", task_queue="q")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handle.result(), 0.1)

        return abs((await env.get_current_time()).timestamp() - time.time())

    assert in_environment(code, start=WorkflowEnvironment.start_local) < 5


def test_every_activation_may_replay_from_the_start():
    async def code(env):
        return await env.client.execute_workflow(patient, 2, id="w", task_queue="q")

    assert in_environment(code, max_cached_workflows=0) == ["AWAKE", 2]


@pytest.mark.counts_executions
def test_code_that_is_not_deterministic_is_found_by_replaying_always():
    calls = []

    @workflow.defn
    async def drifting() -> None:
        calls.append(1)
        for n in range(3):
            await note(f"{n} of execution {len(calls)}")

    async def code(env):
        handle = await env.client.start_workflow(drifting, id="w", task_queue="q")
        try:
            await handle.result(on_stall="raise")
        except Exception as error:
            return type(error).__name__, str(error)

    assert in_environment(code, workflows=[drifting]) is None
    calls.clear()
    name, text = in_environment(code, workflows=[drifting], max_cached_workflows=0)
    assert name == "WorkflowStalledError"
    assert "NonDeterminismError" in text


# Activities alone


def test_an_activity_runs_alone_with_facts_of_the_tests_choice():
    @activity.defn
    async def facts() -> tuple[int, str]:
        await asyncio.sleep(0)
        return activity.info().attempt, activity.info().idempotency_key

    @activity.defn
    def uses(text: str) -> str:
        return f"{text} {activity.resource('client')} {activity.in_activity()}"

    env = ActivityEnvironment(resources={"client": "c"})
    assert env.run(uses, "a") == "a c True"
    assert not activity.in_activity()

    async def main():
        env.info = dataclasses.replace(env.info, attempt=3)
        return await env.run(facts)

    assert asyncio.run(main()) == (3, "test-key")


# Histories


def recorded(code, *args, **options):
    async def run(env):
        handle = await env.client.start_workflow(code, args=args, id="w", task_queue="q")
        try:
            await handle.result()
        except WorkflowFailureError:
            pass

        return await handle.fetch_history()

    return in_environment(run, **options)


@workflow.defn(name="versioned")
async def version_1() -> float:
    await note("a")
    await note("b")
    return math.inf


@workflow.defn(name="versioned")
async def version_2() -> float:
    await note("a")
    await note("other")
    return math.inf


@workflow.defn(name="versioned")
async def broken_version() -> float:
    await note("a")
    raise KeyError("a bug")


def test_a_history_replays_against_the_code_that_made_it():
    history = recorded(version_1, workflows=[version_1])
    result = asyncio.run(Replayer(workflows=[version_1]).replay_workflow(history))

    assert result.replay_failure is None
    assert result.history is history
    assert ran == ["a", "b"], "a replay executes nothing"


def test_a_history_goes_through_json_without_loss():
    history = recorded(version_1, workflows=[version_1])
    again = WorkflowHistory.from_json(history.to_json())

    assert again == history
    assert WorkflowHistory.from_json(json.loads(history.to_json())) == history
    assert json.loads(history.to_json())["activations"][0]["commands"][0]["args"] == ["a"]
    asyncio.run(Replayer(workflows=[version_1]).replay_workflow(again))


def test_code_that_asks_for_something_else_is_found():
    history = recorded(version_1, workflows=[version_1])
    replayer = Replayer(workflows=[version_2])
    with pytest.raises(NonDeterminismError, match="'b'|\\$\\[0\\]"):
        asyncio.run(replayer.replay_workflow(history))

    result = asyncio.run(replayer.replay_workflow(history, raise_on_replay_failure=False))
    assert isinstance(result.replay_failure, NonDeterminismError)


def test_many_histories_are_replayed_and_told_apart():
    history = recorded(version_1, workflows=[version_1])

    async def several():
        yield history
        yield history

    results = asyncio.run(Replayer(workflows=[broken_version]).replay_workflows(several()))
    assert {type(e) for e in results.replay_failures.values()} == {KeyError}
    assert list(results.replay_failures) == [history.run_id]
    fine = asyncio.run(Replayer(workflows=[version_1]).replay_workflows([history]))
    assert fine.replay_failures == {}


def test_a_workflow_that_was_not_given_is_named():
    history = recorded(version_1, workflows=[version_1])
    with pytest.raises(NotRegisteredError, match="'versioned'"):
        asyncio.run(Replayer(workflows=[patient]).replay_workflow(history))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"workflow_id": "w"}', '{"workflow_id": 1, "run_id": 2, "start": 3}']
)
def test_what_is_no_history_is_said_to_be_none(text):
    with pytest.raises(StoreCorruptError, match="no history|no Start"):
        WorkflowHistory.from_json(text)


@workflow.defn
async def failing() -> None:
    try:
        await workflow.execute_activity(
            fails, retry_policy=RetryPolicy(maximum_attempts=2, initial_interval=timedelta(hours=1))
        )
    finally:
        await asyncio.sleep(1)


@activity.defn
async def fails() -> None:
    raise ApplicationError("no", {"why": [1, None, 2.5]}, type="No")


def test_failures_timers_and_attempts_go_through_json_too():
    history = recorded(failing, workflows=[failing], activities=[fails])

    assert WorkflowHistory.from_json(history.to_json()) == history
    asyncio.run(Replayer(workflows=[failing]).replay_workflow(history))


def test_environments_leave_no_thread_behind():
    before = set(threading.enumerate())
    test_a_year_of_sleep_is_over_at_once()

    assert set(threading.enumerate()) - before == set()
