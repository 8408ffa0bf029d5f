"""What asyncio code sees inside a workflow: as everywhere, live and on every replay."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt

import pytest
from durable_core import exceptions as ex
from durable_core import workflow
from durable_core.history import (
    CancelActivity,
    CancelTimer,
    StartTimer,
)
from support.engine_asking import answer, args_of, ask, begun, call, kinds, start

# One after the other, and side by side


def test_activities_run_one_after_the_other():
    async def code():
        return [await call("a"), await call("b")]

    driver = begun(code)
    assert args_of(driver) == ["a"]
    answer(driver, "a")
    assert args_of(driver) == ["b"]
    answer(driver, "b")

    assert driver.result == ["answer to a", "answer to b"]
    assert [kinds(a) for a in driver.activations] == [
        ["ScheduleActivity"],
        ["ScheduleActivity"],
        ["CompleteRun"],
    ]
    driver.check_replays()


def test_gather_gives_results_in_order_of_asking_whatever_the_order_of_ends():
    async def code():
        return await asyncio.gather(call("a"), call("b"), call("c"))

    driver = begun(code)
    assert args_of(driver) == ["a", "b", "c"]
    for name in ("c", "a", "b"):
        answer(driver, name)

    assert driver.result == ["answer to a", "answer to b", "answer to c"]
    driver.check_replays()


def test_gather_can_return_failures():
    async def code():
        found = await asyncio.gather(start("a"), start("b"), return_exceptions=True)
        return [type(part).__name__ for part in found]

    driver = begun(code)
    driver.activate(driver.failed(1, ValueError("no")), driver.completed(2, "x"))

    assert driver.result == ["ActivityError", "str"]
    driver.check_replays()


def test_the_failure_of_one_task_cancels_the_others_of_its_group():
    async def code():
        try:
            async with asyncio.TaskGroup() as group:
                for name in ("a", "b", "c"):
                    group.create_task(call(name))
        except* ex.ActivityError as errors:
            found = str(errors.exceptions[0].cause)

        return found

    driver = begun(code)
    last = driver.fail(2, ValueError("no"))

    assert [c.seq for c in last.commands if isinstance(c, CancelActivity)] == [1, 3]
    assert driver.result == "no"
    driver.check_replays()


def test_wait_returns_at_the_first_that_ends():
    async def code():
        tasks = {asyncio.create_task(call(name)) for name in "abcdefgh"}
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()

        return [task.result() for task in done]

    driver = begun(code)
    last = answer(driver, "c")

    assert driver.result == ["answer to c"]
    assert len([c for c in last.commands if isinstance(c, CancelActivity)]) == 7
    driver.check_replays()


def test_wait_with_a_timeout_returns_what_is_done():
    async def code():
        done, pending = await asyncio.wait({start("a"), start("b")}, timeout=5)
        return [len(done), len(pending)]

    driver = begun(code)
    answer(driver, "a")
    driver.fire()

    assert driver.result == [1, 1]
    assert driver.time == driver.start.time + 5
    driver.check_replays()


def test_as_completed_yields_in_recorded_order():
    async def code():
        tasks = [asyncio.create_task(call(name)) for name in "abcd"]
        return [await next_ for next_ in asyncio.as_completed(tasks)]

    driver = begun(code)
    for name in "dbac":
        answer(driver, name)

    assert driver.result == [f"answer to {name}" for name in "dbac"]
    driver.check_replays()


def test_the_workflows_own_as_completed_starts_coroutines_in_their_order():
    async def code():
        return [await f for f in workflow.as_completed([call(name) for name in "abcdefghij"])]

    driver = begun(code)
    assert args_of(driver) == list("abcdefghij")
    for name in "jihgfedcba":
        answer(driver, name)

    assert driver.result == [f"answer to {name}" for name in "jihgfedcba"]
    driver.check_replays()


def test_the_workflows_own_as_completed_has_a_timeout():
    async def code():
        first, second = workflow.as_completed([call("a"), call("b")], timeout=5)
        found = await first
        with pytest.raises(TimeoutError):
            await second

        return found

    driver = begun(code)
    answer(driver, "b")
    driver.fire()

    assert driver.result == "answer to b"
    driver.check_replays()


def test_the_workflows_own_wait_returns_lists_in_the_order_in_which_they_were_given():
    async def code():
        handles = [start(name) for name in "abcd"]
        done, pending = await workflow.wait(handles, timeout=5)
        assert type(done) is type(pending) is list
        return [[handles.index(handle) for handle in found] for found in (done, pending)]

    driver = begun(code)
    answer(driver, "d")
    answer(driver, "b")
    driver.fire()

    assert driver.result == [[1, 3], [0, 2]]
    driver.check_replays()


@pytest.mark.parametrize(
    ("waited", "error"), [([], ValueError), ([call], TypeError)], ids=["nothing", "a coroutine"]
)
def test_the_workflows_own_wait_refuses_what_asyncios_does(waited, error):
    async def code():
        coros = [fn("a") for fn in waited]
        with pytest.raises(error):
            await workflow.wait(coros)

        for coro in coros:
            coro.close()

    begun(code).check_replays()


@pytest.mark.parametrize("timeout", [0, -1])
def test_wait_for_without_any_time_starts_nothing(timeout):
    async def code():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call("a"), timeout)

        return await asyncio.wait_for(call("b"), None)

    driver = begun(code)
    assert args_of(driver) == ["b"]
    answer(driver, "b")
    driver.check_replays()


def test_wait_for_without_any_time_gives_what_is_known_already():
    async def code():
        futures = [asyncio.get_running_loop().create_future() for _ in range(2)]
        futures[0].set_result("known")
        futures[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(futures[1], 0)

        return await asyncio.wait_for(futures[0], 0)

    assert begun(code).result == "known"


def test_what_the_loop_replaces_is_as_ever_outside_of_workflows():
    async def code():
        return await asyncio.wait_for(call("a"), 5)

    async def outside():
        async def one(name):
            await asyncio.sleep(0)
            return name

        found = [await f for f in asyncio.as_completed({one("a")})]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)

        both = asyncio.gather(one("b"), one("c"))
        assert hash(both) == object.__hash__(both)
        return [*found, *await both, await asyncio.wait_for(one("d"), 1)]

    begun(code).close()
    assert asyncio.run(outside()) == ["a", "b", "c", "d"]


def test_gathered_futures_in_a_set_have_the_same_order_on_every_replay():
    async def code():
        for both in {asyncio.gather(start(a), start(a + a)) for a in "abcdefghij"}:
            await workflow.execute_activity(ask, f"about {(await both)[0]}")

    driver = begun(code)
    driver.run_to_end("first")
    driver.check_replays()
    driver.close()


def test_events_of_one_activation_are_applied_in_their_order():
    async def code():
        order = []

        async def one(name):
            await call(name)
            order.append(name)

        await asyncio.gather(*(one(name) for name in "abc"))
        return order

    driver = begun(code)
    driver.activate(*(driver.completed(seq) for seq in (3, 1, 2)))

    assert driver.result == ["c", "a", "b"]
    driver.check_replays()


# Time


def test_sleep_is_a_timer_of_its_length():
    async def code():
        before = workflow.now()
        await asyncio.sleep(90)
        return (workflow.now() - before).total_seconds()

    driver = begun(code)
    (timer,) = driver.activations[0].commands
    assert (timer.delay, timer.due) == (90, driver.start.time + 90)
    driver.fire()

    assert driver.result == 90
    driver.check_replays()


def test_the_workflows_own_sleep_takes_a_timedelta_and_refuses_a_negative_one():
    async def code():
        await workflow.sleep(dt.timedelta(minutes=1))
        try:
            await workflow.sleep(-1)
        except ValueError as error:
            return str(error)

    driver = begun(code)
    driver.fire()

    assert "must not be negative" in driver.result


def test_sleeping_for_no_time_takes_no_timer():
    async def code():
        await asyncio.sleep(0)
        await asyncio.sleep(-1)
        return "on"

    driver = begun(code)

    assert driver.result == "on"
    assert kinds(driver.activations[0]) == ["CompleteRun"]


def test_timers_fire_in_order_of_their_times():
    async def code():
        order = []

        async def nap(seconds):
            await asyncio.sleep(seconds)
            order.append(seconds)

        await asyncio.gather(nap(3), nap(1), nap(2))
        return order

    driver = begun(code)
    for _ in range(3):
        driver.fire()

    assert driver.result == [1, 2, 3]
    driver.check_replays()


def test_a_timer_made_and_cancelled_in_one_activation_leaves_nothing():
    async def code():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                pass

        loop = asyncio.get_running_loop()
        loop.call_later(5, print).cancel()
        await asyncio.sleep(7)

    driver = begun(code)
    (timer,) = driver.activations[0].commands
    assert isinstance(timer, StartTimer)
    assert (timer.delay, timer.seq, timer.occurrence) == (7, 1, 1)
    driver.fire()
    driver.check_replays()


def test_wait_for_gives_the_result_and_withdraws_its_timer():
    async def code():
        return await asyncio.wait_for(call("a"), 10)

    driver = begun(code)
    last = answer(driver, "a")

    assert driver.result == "answer to a"
    assert any(isinstance(c, CancelTimer) for c in last.commands)
    assert driver.run.timers == {}
    driver.check_replays()


@pytest.mark.parametrize("how", ["wait_for a coroutine", "wait_for a handle", "timeout"])
def test_a_timeout_raises_at_once_and_cancels_the_activity(how):
    async def code():
        try:
            if how == "wait_for a coroutine":
                await asyncio.wait_for(call("a"), 10)
            elif how == "wait_for a handle":
                await asyncio.wait_for(start("a"), 10)
            else:
                async with asyncio.timeout(10):
                    await call("a")
        except TimeoutError:
            return "timed out"

    driver = begun(code)
    last = driver.fire()

    assert driver.result == "timed out"
    assert [c.seq for c in last.commands if isinstance(c, CancelActivity)] == [1]
    driver.check_replays()


def test_a_timeout_can_be_moved():
    async def code():
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10) as scope:
            await call("a")
            scope.reschedule(loop.time() + 100)
            await call("b")
        return scope.expired()

    driver = begun(code)
    last = answer(driver, "a")
    assert [c.delay for c in last.commands if isinstance(c, StartTimer)] == [100]
    assert [type(c) for c in last.commands].count(CancelTimer) == 1
    answer(driver, "b")

    assert driver.result is False
    driver.check_replays()


def test_a_timeout_that_nobody_catches_fails_the_run():
    async def code():
        async with asyncio.timeout(1):
            await asyncio.sleep(100)

    driver = begun(code)
    driver.fire()

    assert type(driver.failure) is TimeoutError
    driver.check_replays()
