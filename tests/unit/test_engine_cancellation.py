"""Cancellation and asyncio's other tools inside a workflow: as everywhere, live and on replay."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import pytest
from durable_core import exceptions as ex
from durable_core.history import (
    CancelActivity,
)
from support.engine_asking import answer, args_of, begun, call, kinds, patient, start

# Cancellation


def test_cancelling_the_waiting_task_raises_cancelled_error_at_once():
    async def code():
        seen = []

        async def work():
            try:
                await call("a")
            except asyncio.CancelledError as error:
                seen.append(type(error).__name__)
                raise

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

        return [seen, task.cancelled()]

    driver = begun(code)

    assert driver.result == [["CancelledError"], True]
    assert kinds(driver.activations[0]) == ["ScheduleActivity", "CancelActivity", "CompleteRun"]
    driver.check_replays()


def test_cancelling_the_handle_raises_an_activity_error_where_it_is_awaited():
    async def code():
        handle = start("a")

        async def cancel():
            handle.cancel()

        asyncio.create_task(cancel())
        try:
            await handle
        except ex.ActivityError as error:
            return [type(error.cause).__name__, error.activity_type, error.retry_state.name]

    driver = begun(code)

    assert driver.result == ["CancelledError", "ask", "CANCEL_REQUESTED"]
    driver.check_replays()


def test_cancelling_a_handle_whose_outcome_is_known_does_nothing():
    async def code():
        handle = start("a")
        await handle
        return [handle.cancel(), await handle]

    driver = begun(code)
    last = answer(driver, "a")

    assert driver.result == [False, "answer to a"]
    assert kinds(last) == ["CompleteRun"]


def test_cancelling_twice_asks_once():
    async def code():
        handle = start("a")
        return [handle.cancel(), handle.cancel()]

    driver = begun(code)

    assert driver.result == [True, False]
    assert kinds(driver.activations[0]).count("CancelActivity") == 1


def test_a_cancelled_activity_takes_no_outcome_any_more():
    async def code():
        handle = start("a")
        await asyncio.sleep(0)
        handle.cancel()
        await call("b")
        return handle.cancelled()

    driver = begun(code)
    late = driver.completed(1, "late")
    driver.activate(late)
    answer(driver, "b")

    assert driver.result is True
    driver.check_replays()


def test_an_activity_that_others_cancelled_fails_with_a_cancelled_error():
    async def code():
        try:
            await call("a")
        except ex.ActivityError as error:
            return type(error.cause).__name__

    driver = begun(code)
    driver.activate(driver.cancelled(1))

    assert driver.result == "CancelledError"
    driver.check_replays()


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
def test_a_unit_may_ask_to_wait_for_its_outcome_when_cancelled(outcome):
    async def code():
        task = asyncio.ensure_future(patient("a"))
        await call("other")
        task.cancel()
        try:
            return await task
        except ValueError as error:
            return str(error)
        except ex.ActivityError as error:
            return type(error.cause).__name__

    driver = begun(code)
    last = answer(driver, "other")
    assert [c.wait for c in last.commands if isinstance(c, CancelActivity)] == [True]
    assert driver.run.closed is None
    driver.activate(
        {
            "completed": lambda: driver.completed(1, "done all the same"),
            "failed": lambda: driver.failed(1, ValueError("broke")),
            "cancelled": lambda: driver.cancelled(1),
        }[outcome]()
    )

    assert (
        driver.result
        == {
            "completed": "done all the same",
            "failed": "broke",
            "cancelled": "CancelledError",
        }[outcome]
    )
    driver.check_replays()


def test_shield_keeps_an_activity_from_being_cancelled():
    async def code():
        inner = start("a")
        try:
            async with asyncio.timeout(1):
                await asyncio.shield(inner)
        except TimeoutError:
            return await inner

    driver = begun(code)
    last = driver.fire()
    assert kinds(last) == []
    answer(driver, "a")

    assert driver.result == "answer to a"
    driver.check_replays()


def test_a_run_that_cancels_itself_is_cancelled():
    async def code():
        asyncio.current_task().cancel()
        await call("a")

    driver = begun(code)

    assert driver.run.status == "canceled"
    assert type(driver.failure) is ex.CancelledError
    driver.check_replays()


def test_cleanup_after_a_cancellation_may_call_activities():
    async def code():
        try:
            async with asyncio.timeout(1):
                try:
                    await call("a")
                finally:
                    await call("clean up")
        except TimeoutError:
            return "cleaned up"

    driver = begun(code)
    driver.fire()
    assert args_of(driver) == ["clean up"]
    answer(driver, "clean up")

    assert driver.result == "cleaned up"
    driver.check_replays()


# Asyncio's other tools


def test_a_queue_hands_over_in_order():
    async def code():
        queue, got = asyncio.Queue(maxsize=2), []

        async def produce():
            for name in "abcde":
                await queue.put(await call(name))

        async def consume():
            for _ in range(5):
                got.append(await queue.get())
                queue.task_done()

        await asyncio.gather(produce(), consume())
        await queue.join()
        return got

    driver = begun(code)
    for name in "abcde":
        answer(driver, name)

    assert driver.result == [f"answer to {name}" for name in "abcde"]
    driver.check_replays()


def test_an_event_wakes_everybody_in_order_of_waiting():
    async def code():
        event, order = asyncio.Event(), []

        async def wait(name):
            await event.wait()
            order.append(name)

        tasks = [asyncio.create_task(wait(name)) for name in "abc"]
        await call("go")
        event.set()
        await asyncio.gather(*tasks)
        return order

    driver = begun(code)
    answer(driver, "go")

    assert driver.result == ["a", "b", "c"]
    driver.check_replays()


def test_a_lock_is_given_in_order_of_asking():
    async def code():
        lock, order = asyncio.Lock(), []

        async def hold(name):
            async with lock:
                order.append(await call(name))

        await asyncio.gather(*(hold(name) for name in "abc"))
        return order

    driver = begun(code)
    for name in "abc":
        assert args_of(driver) == [name]
        answer(driver, name)

    assert driver.result == [f"answer to {name}" for name in "abc"]
    driver.check_replays()


def test_a_semaphore_bounds_what_runs_at_once():
    async def code():
        limit = asyncio.Semaphore(2)

        async def one(name):
            async with limit:
                return await call(name)

        return await asyncio.gather(*(one(name) for name in "abcd"))

    driver = begun(code)
    assert args_of(driver) == ["a", "b"]
    answer(driver, "b")
    assert args_of(driver) == ["a", "c"]
    driver.run_to_end()

    assert len(driver.result) == 4
    driver.check_replays()


def test_a_condition_wakes_those_whose_predicate_holds():
    async def code():
        condition, state = asyncio.Condition(), []

        async def wait(number):
            async with condition:
                await condition.wait_for(lambda: len(state) >= number)
                return number

        tasks = [asyncio.create_task(wait(number)) for number in (2, 1)]
        for name in "ab":
            state.append(await call(name))
            async with condition:
                condition.notify_all()

        return await asyncio.gather(*tasks)

    driver = begun(code)
    answer(driver, "a")
    answer(driver, "b")

    assert driver.result == [2, 1]
    driver.check_replays()


def test_a_barrier_lets_all_through_together():
    async def code():
        barrier = asyncio.Barrier(3)

        async def one(name):
            await call(name)
            return await barrier.wait()

        return sorted(await asyncio.gather(*(one(name) for name in "abc")))

    driver = begun(code)
    driver.run_to_end()

    assert driver.result == [0, 1, 2]
    driver.check_replays()


def test_context_variables_are_kept_apart_between_tasks():
    variable = contextvars.ContextVar("variable", default="none")

    async def code():
        async def one(name):
            variable.set(name)
            await call(name)
            return variable.get()

        return [*await asyncio.gather(one("a"), one("b")), variable.get()]

    driver = begun(code)
    answer(driver, "b")
    answer(driver, "a")

    assert driver.result == ["a", "b", "none"]
    assert variable.get() == "none"
    driver.check_replays()


def test_callbacks_of_the_loop_run_in_order():
    async def code():
        loop, order = asyncio.get_running_loop(), []
        loop.call_later(2, order.append, "later")
        loop.call_soon(order.append, "soon")
        loop.call_soon_threadsafe(order.append, "safe")
        loop.call_at(loop.time() - 1, order.append, "past")
        cancelled = loop.call_soon(order.append, "cancelled")
        cancelled.cancel()
        await asyncio.sleep(3)
        return order

    driver = begun(code)
    driver.fire()
    driver.fire()

    assert driver.result == ["soon", "safe", "past", "later"]
    driver.check_replays()
