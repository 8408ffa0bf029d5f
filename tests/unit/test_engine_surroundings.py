"""What surrounds workflow code: time, randomness, context, and what is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import gc
import sys
import uuid

import pytest
from durable_core import activity, workflow
from durable_core import exceptions as ex
from durable_core.history import (
    CompleteRun,
    ScheduleActivity,
)
from support.engine_asking import answer, ask, begun, call, other, start
from support.engine_runs import Driver, flow, new_start

# Time, randomness, identity


def test_time_stands_still_within_an_activation():
    async def code():
        times = [workflow.now(), asyncio.get_running_loop().time()]
        await asyncio.sleep(0)
        times += [workflow.now(), asyncio.get_running_loop().time()]
        return [times[0] == times[2], times[1] == times[3], times[0].timestamp() == times[1]]

    assert begun(code).result == [True, True, True]


def test_randomness_is_equal_on_replay_and_differs_between_runs():
    seen = []

    async def code():
        found = [workflow.random().random(), str(workflow.uuid4())]
        await call("a")
        found += [workflow.random().random(), str(workflow.uuid4())]
        seen.append(found)
        return found

    driver = begun(code)
    answer(driver, "a")
    driver.check_replays()

    assert all(found == seen[0] for found in seen)
    assert len(set(seen[0])) == 4
    another = Driver(flow(code), start=new_start("Flow", seed="another"))
    another.begin()
    answer(another, "a")
    assert set(another.result).isdisjoint(driver.result)


def test_the_ids_depend_on_the_seed_and_not_on_the_run_id():
    async def code():
        return str(workflow.uuid4())

    results = set()
    for run_id in ("one", "two"):
        driver = Driver(flow(code), start=new_start("Flow", run_id=run_id))
        driver.begin()
        results.add(driver.result)

    assert len(results) == 1


def test_a_uuid_is_a_random_one():
    async def code():
        return str(workflow.uuid4())

    assert uuid.UUID(begun(code).result).version == 4


def test_idempotency_keys_differ_between_activities_and_are_equal_on_replay():
    async def code():
        for name in ("a", "a", "b"):
            start(name)
        workflow.start_activity(other, "a")
        await call("c")

    driver = begun(code)
    keys = [p.idempotency_key for p in driver.run.pending.values()]
    again = driver.replay()

    assert len(set(keys)) == len(keys)
    assert [p.idempotency_key for p in again.run.pending.values()] == keys


def test_facts_about_the_run_are_those_of_its_start():
    async def code():
        info = workflow.info()
        return [info.workflow_id, info.run_id, info.workflow_type, info.task_queue, info.namespace]

    assert begun(code).result == ["workflow-1", "run-1", "Flow", "queue", "default"]


def test_the_input_is_decoded_by_its_annotations():
    @workflow.defn
    class Typed:
        @workflow.run
        async def run(self, when: dt.datetime, tags: set[str]) -> list[str]:
            return [type(when).__name__, type(tags).__name__]

    driver = Driver(Typed, dt.datetime(2024, 1, 1), {"a"})
    driver.begin()

    assert driver.result == ["datetime", "set"]


def test_an_annotation_that_cannot_be_resolved_does_not_spoil_the_others():
    @workflow.defn
    class Typed:
        @workflow.run
        async def run(self, tags: set[str], unknown: NotThere, when: dt.datetime) -> NotThere:  # noqa: F821
            return [type(tags).__name__, type(unknown).__name__, type(when).__name__]

    driver = Driver(Typed, {"a"}, {"b"}, dt.datetime(2024, 1, 1))
    driver.begin()

    assert driver.result == ["set", "list", "datetime"]


def test_live_and_replayed_code_see_the_same_decoded_value():
    types = []

    @activity.defn(name="pair")
    async def pair() -> tuple[int, str]:
        return (1, "a")

    async def code():
        found = await workflow.execute_activity(pair)
        types.append(type(found))
        return found == (1, "a")

    driver = begun(code)
    driver.run_to_end()
    driver.check_replays()

    assert driver.result is True
    assert set(types) == {tuple}


# Surroundings


def test_the_outer_loop_its_hooks_and_the_collector_are_put_back():
    async def main():
        outer, hooks = asyncio.get_running_loop(), sys.get_asyncgen_hooks()

        async def code():
            assert asyncio.get_running_loop() is not outer
            assert not gc.isenabled()
            await call("a")
            raise KeyError("a bug")

        driver = begun(code)
        assert asyncio.get_running_loop() is outer
        assert sys.get_asyncgen_hooks() == hooks
        assert gc.isenabled()
        with pytest.raises(KeyError):
            answer(driver, "a")

        assert asyncio.get_running_loop() is outer
        assert sys.get_asyncgen_hooks() == hooks
        assert gc.isenabled()
        driver.run.close()
        assert asyncio.get_running_loop() is outer

    asyncio.run(main())


def test_a_disabled_collector_stays_disabled():
    gc.disable()
    try:

        async def code():
            return "x"

        assert begun(code).result == "x"
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_ten_thousand_tasks_do_not_pile_up():
    async def code():
        async def one(number):
            await asyncio.sleep(0)
            return number

        total = 0
        for round_ in range(100):
            total += sum(await asyncio.gather(*(one(i) for i in range(100))))
            await call(round_)

        return total

    driver = begun(code)
    driver.run_to_end()

    assert driver.result == 495_000
    assert len(driver.run._loop._tasks) < 1000


# What is refused


@pytest.mark.parametrize(
    ("use", "named"),
    [
        (lambda: asyncio.to_thread(print), r"thread \(print"),
        (lambda: asyncio.get_running_loop().run_in_executor(None, print), r"thread \(print"),
        (
            lambda: asyncio.get_running_loop().run_in_executor(None, functools.partial(print, 1)),
            r"thread \(print",
        ),
        (lambda: asyncio.open_connection("localhost", 1), "create_connection"),
        (lambda: asyncio.start_server(print, "localhost", 1), "create_server"),
        (lambda: asyncio.open_unix_connection("/x"), "create_unix_connection"),
        (lambda: asyncio.create_subprocess_exec("true"), "subprocess_exec"),
        (lambda: asyncio.create_subprocess_shell("true"), "subprocess_shell"),
        (lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1), "getaddrinfo"),
        (lambda: asyncio.get_running_loop().add_signal_handler(2, print), "add_signal_handler"),
        (lambda: asyncio.get_running_loop().add_reader(0, print), "add_reader"),
        (lambda: asyncio.get_running_loop().run_until_complete(None), "run_until_complete"),
        (lambda: asyncio.get_running_loop().stop(), "stop"),
    ],
)
def test_threads_sockets_and_processes_are_refused_with_what_to_do_instead(use, named):
    async def code():
        found = use()
        if hasattr(found, "__await__"):
            await found

    with pytest.raises(ex.NotSupported, match=named) as caught:
        begun(code)

    assert "activity" in str(caught.value)
    assert "workflow code" in str(caught.value)


def test_a_thread_that_calls_into_the_loop_is_refused():
    loops = []

    async def code():
        loops.append(asyncio.get_running_loop())
        await call("a")

    begun(code)

    with pytest.raises(ex.NotSupported, match=r"workflow \(print\).*Do the work in an activity"):
        loops[0].call_soon_threadsafe(print)


def test_what_wakes_workflow_code_from_outside_of_it_is_refused():
    events = []

    async def code():
        events.append(asyncio.Event())
        await events[0].wait()

    driver = begun(code)

    with pytest.raises(ex.NotSupported, match=r"called into a workflow .*Do the work in an activ"):
        events[0].set()  # as the body of an activity might, which does not run at a replay

    with pytest.raises(ex.NotSupported, match="called into a workflow"):
        driver.activate()


def test_code_that_never_rests_is_stopped_with_a_hint():
    async def code():
        while True:
            await asyncio.sleep(0)

    with pytest.raises(
        ex.SpinError, match=r"100,000 times within one activation.*asyncio\.sleep\(0\)"
    ):
        begun(code)


def test_code_that_swallows_cancellation_in_a_loop_is_stopped_too():
    async def code():
        async def stubborn():
            while True:
                try:
                    await call("a")
                except asyncio.CancelledError:
                    asyncio.current_task().cancel()

        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(ex.SpinError):
        begun(code)


def test_functions_of_a_workflow_are_refused_outside_of_one():
    for use in (workflow.now, workflow.info, workflow.random, workflow.uuid4, lambda: start("a")):
        with pytest.raises(ex.NotInWorkflowError, match="not inside a workflow"):
            use()

    assert not workflow.in_workflow()


def test_an_undecorated_function_is_refused_with_the_remedy():
    async def plain(question):
        return question

    async def code():
        await workflow.execute_activity(plain, "a")

    with pytest.raises(ex.CallError, match=r"plain.*decorate it with @activity\.defn"):
        begun(code)


def test_an_argument_that_cannot_be_recorded_is_refused_where_it_is_passed():
    async def code():
        try:
            await call({"lock": object()})
        except ex.EncodeError as error:
            return str(error)

    message = begun(code).result

    assert "the arguments of activity 'ask'" in message
    assert "$[0].lock" in message


def test_an_unknown_name_is_refused():
    async def code():
        await workflow.execute_activity("unheard of")

    with pytest.raises(ex.NotRegisteredError, match="unheard of"):
        begun(code)


def test_an_activity_can_be_called_by_its_name():
    async def code():
        return await workflow.execute_activity("ask", "a", result_type=str)

    driver = Driver(flow(code), activities=[ask])
    driver.begin()
    driver.run_to_end()

    assert driver.result == "answer to a"
    assert isinstance(driver.activations[0].commands[0], ScheduleActivity)
    assert isinstance(driver.activations[-1].commands[-1], CompleteRun)
