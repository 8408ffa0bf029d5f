"""How generators and runs end: in their own loop, without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import sys
import threading

import anyio
import pytest
from durable_core import exceptions as ex
from durable_core import workflow
from durable_core.adapter import outside
from durable_core.history import (
    CancelActivity,
    TimerFired,
)
from support.engine_asking import answer, begun, call, kinds, other, patient, start
from support.engine_runs import Driver, flow
from support.waiting import until

# Generators


def test_an_async_generator_works_and_is_closed_by_its_user():
    async def code():
        trace = []

        async def numbers():
            try:
                for name in "abc":
                    yield await call(name)
            finally:
                trace.append("closed")

        async with contextlib.aclosing(numbers()) as found:
            async for value in found:
                trace.append(value)
                break

        return trace

    driver = begun(code)
    answer(driver, "a")

    assert driver.result == ["answer to a", "closed"]
    driver.check_replays()


def test_a_generator_that_is_left_open_is_closed_with_the_run_in_its_own_loop():
    loops = []

    async def code():
        async def numbers():
            try:
                yield 1
                yield 2
            finally:
                loops.append(asyncio.get_running_loop())

        async for _ in numbers():
            break

        gc.collect()
        await call("a")

    driver = begun(code)
    assert loops == [], "collection has no fixed time, so nothing may happen then"
    driver.run.close()

    assert [loop.durable_engine for loop in loops] == [driver.run]


def test_dropping_a_run_closes_its_coroutines_in_their_own_loop():
    closed = []

    async def code():
        async def child():
            try:
                await call("a")
            finally:
                closed.append(("child", asyncio.get_running_loop()))

        asyncio.create_task(child())
        never_started = asyncio.create_task(child())
        never_started.set_name("never started")
        try:
            await asyncio.sleep(100)
        finally:
            closed.append(("main", asyncio.get_running_loop()))

    driver = begun(code)
    driver.run.close()
    gc.collect()

    assert sorted(name for name, _ in closed) == ["child", "child", "main"]
    assert {loop.durable_engine for _, loop in closed} == {driver.run}


def test_dropping_a_run_whose_cleanup_misbehaves_raises_nothing():
    async def code():
        async def generator():
            try:
                yield
            finally:
                await asyncio.sleep(1)

        async for _ in generator():
            try:
                await call("a")
            except BaseException:
                await call("b")
                raise RuntimeError("in cleanup") from None

    driver = begun(code)

    driver.run.close()
    gc.collect()


def test_dropping_a_run_goes_through_all_cleanup_that_waits(monkeypatch):
    unraisable, passed = [], []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    async def code():
        try:
            await call("a")
        finally:
            try:
                await asyncio.sleep(1)
            finally:
                try:
                    await call("b")
                finally:
                    passed.append("all")

    driver = begun(code)
    driver.run.close()
    assert passed == ["all"]
    del driver, code
    gc.collect()
    assert unraisable == []


def test_dropping_a_run_goes_through_cleanup_below_generators_and_timeouts(monkeypatch):
    unraisable, passed = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda u: unraisable.append(u.exc_value))
    variable = contextvars.ContextVar("variable")

    async def code():
        async def outer():
            async for number in inner():
                yield number

        async def inner():
            try:
                token = variable.set("set")
                try:
                    yield await call("a")
                finally:
                    variable.reset(token)
                    passed.append("undo")
                    async with asyncio.timeout(5):
                        await call("undo")
            finally:
                passed.append(asyncio.current_task().get_name())
                await call("undo more")

        async for number in outer():
            passed.append(number)

    begun(code).run.close()
    gc.collect()
    assert passed == ["undo", "workflow"]
    assert unraisable == []


@pytest.mark.parametrize("group", ["crew", "scope"])
def test_a_task_group_below_a_cancelled_scope_of_anyio_may_wait_for_an_outcome(group):
    async def code():
        async def wait():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(hold())

        async def hold():
            return await patient("a")

        if group == "scope":
            with anyio.move_on_after(5):
                await wait()
        else:
            async with anyio.create_task_group() as crew:
                crew.start_soon(wait)
                await asyncio.sleep(5)
                crew.cancel_scope.cancel()

        return "ended"

    driver = begun(code)
    assert kinds(driver.fire())[-1] == "CancelActivity"
    driver.complete("ask", "late")

    assert driver.result == "ended"
    driver.check_replays()


def test_dropping_a_run_whose_cleanup_never_ends_gives_up(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    async def code():
        while True:
            with contextlib.suppress(GeneratorExit):
                await call("a")

    begun(code).run.close()
    gc.collect()


def test_tasks_that_cleanup_starts_while_a_run_is_dropped_are_closed_too():
    async def code():
        async def undo(name):
            await call(name)

        try:
            await call("a")
        finally:
            await asyncio.gather(undo("b"), undo("c"))

    driver = begun(code)

    driver.run.close()
    gc.collect()  # warns about coroutines that nobody awaited, if there are any


# anyio


def test_anyios_task_groups_work_as_everywhere():
    async def code():
        found = {}

        async def one(name):
            found[name] = await call(name)

        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(one, name)

        return list(found)

    driver = begun(code)
    for name in "cab":
        answer(driver, name)

    assert driver.result == ["c", "a", "b"]
    driver.check_replays()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_of_anyio_that_outlives_its_run_ends(monkeypatch):
    go = threading.Event()
    threads = []
    start = threading.Thread.start
    # As if the guard did not refuse it: what is there was started outside.
    monkeypatch.setattr(threading.Thread, "start", lambda thread: outside(start, thread))

    def work():
        threads.append(threading.current_thread())
        go.wait(10)

    async def code():
        await anyio.to_thread.run_sync(work)

    driver = begun(code)
    driver.run.close()
    go.set()
    until(lambda: threads, "the thread to begin")
    # It is no daemon: the process could not exit as long as it waits for more work.
    threads[0].join(5)
    ended = not threads[0].is_alive()
    threads[0].queue.put(None)  # so that at least this process can
    assert ended


def test_anyios_deadlines_are_timers():
    async def code():
        with anyio.move_on_after(5) as scope:
            await call("a")

        with anyio.fail_after(7):
            await call("b")

        return scope.cancelled_caught

    driver = begun(code)
    driver.fire()
    answer(driver, "b")

    assert driver.result is True
    driver.check_replays()


@pytest.mark.parametrize("outcome", ["completed", "cancelled"])
def test_a_scope_of_anyio_that_waits_for_a_cancelled_activity_does_not_spin(outcome):
    async def code():
        with anyio.move_on_after(5) as scope:
            await patient("a")

        return scope.cancelled_caught

    driver = begun(code)
    last = driver.fire()
    assert kinds(last) == ["CancelActivity"]
    driver.activate(TimerFired(seq=99))  # something else that happens meanwhile
    driver.activate(driver.completed(1, "late") if outcome == "completed" else driver.cancelled(1))

    assert driver.run.closed is not None
    driver.check_replays()


def test_cleanup_below_a_cancelled_scope_of_anyio_may_wait_behind_a_shield():
    async def code():
        with anyio.move_on_after(5):
            try:
                await call("a")
            finally:
                with anyio.CancelScope(shield=True):
                    await call("undo a")
                    await anyio.sleep(3)
                    await asyncio.shield(call("undo b"))

        return await call("end")

    driver = begun(code)
    driver.fire()
    answer(driver, "undo a")
    driver.fire()
    answer(driver, "undo b")
    answer(driver, "end")

    assert driver.result == "answer to end"
    driver.check_replays()


def test_a_failure_in_anyios_task_group_cancels_the_others():
    async def code():
        async def one(name):
            await call(name)

        try:
            async with anyio.create_task_group() as group:
                for name in "abc":
                    group.start_soon(one, name)
        except* ex.ActivityError as errors:
            found = len(errors.exceptions)

        return found

    driver = begun(code)
    last = driver.fail(2, ValueError("no"))

    # anyio keeps scopes in a set, so in any order.
    assert sorted(c.seq for c in last.commands if isinstance(c, CancelActivity)) == [1, 3]
    assert driver.result == 1
    driver.replay()


def test_the_order_in_which_anyios_scopes_are_cancelled_is_the_same_on_every_replay():
    async def code():
        async def one(name):
            with anyio.CancelScope():
                try:
                    await anyio.sleep_forever()
                finally:
                    with anyio.CancelScope(shield=True):
                        await workflow.execute_activity(other, name)

        async with anyio.create_task_group() as group:
            for name in range(20):
                group.start_soon(one, name)

            await call("go")
            group.cancel_scope.cancel()

    driver = begun(code)
    answer(driver, "go")
    assert len(driver.run.pending) == 20
    driver.check_replays()


def test_anyios_streams_events_and_locks_work_as_everywhere():
    async def code():
        send, receive = anyio.create_memory_object_stream[str](1)
        event, lock, got = anyio.Event(), anyio.Lock(), []

        async def produce():
            async with send:
                for name in "abc":
                    async with lock:
                        await send.send(await call(name))

            event.set()

        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            async with receive:
                async for value in receive:
                    got.append(value)

            await event.wait()

        return got

    driver = begun(code)
    for name in "abc":
        answer(driver, name)

    assert driver.result == [f"answer to {name}" for name in "abc"]
    driver.check_replays()


# How a run ends


class DeclaredError(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ex.ApplicationError("no", type="No"),
        ex.TerminatedError("gone"),
        TimeoutError("late"),
        ex.TimeoutError("late"),
        DeclaredError("declared"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_failures_and_declared_exceptions_fail_the_run(error):
    async def code():
        await call("a")
        raise copy.copy(error)

    driver = Driver(flow(code, failure_exception_types=[DeclaredError]))
    driver.begin()
    driver.host.failures.allow_module(__name__)
    answer(driver, "a")

    assert type(driver.failure) is type(error)
    assert str(driver.failure) == str(error)
    assert driver.run.status == "failed"
    driver.check_replays()


def test_an_activity_that_fails_for_good_fails_the_run_with_its_cause():
    async def code():
        await call("a")

    driver = begun(code)
    driver.fail("ask", ValueError("bad"))

    assert type(driver.failure) is ex.ActivityError
    assert repr(driver.failure.cause) == "ValueError('bad')"
    assert driver.failure.attempts == 1
    driver.check_replays()


def test_failures_of_a_task_group_fail_the_run():
    async def code():
        async with asyncio.TaskGroup() as group:
            group.create_task(call("a"))
            group.create_task(call("b"))

    driver = begun(code)
    driver.fail(1, ValueError("bad"))

    assert driver.run.status == "failed"


def test_any_other_exception_is_a_bug_that_leaves_the_engine():
    async def code():
        await call("a")
        raise KeyError("a bug")

    driver = begun(code)

    with pytest.raises(KeyError, match="a bug"):
        answer(driver, "a")


def test_a_result_that_cannot_be_recorded_is_a_bug():
    async def code():
        return object()

    with pytest.raises(ex.EncodeError, match="the result of workflow 'Flow'"):
        begun(code)


def test_an_exception_in_a_callback_is_a_bug():
    async def code():
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await call("a")

    with pytest.raises(ZeroDivisionError):
        begun(code)


def test_an_exception_that_nobody_awaits_changes_nothing_when_it_is_collected():
    async def code():
        async def broken():
            raise KeyError("unseen")

        asyncio.create_task(broken())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        start("fails unseen")
        await call("a")

    driver = begun(code)
    driver.activate(driver.failed(1, ValueError("unseen")))
    gc.collect()
    answer(driver, "a")
    driver.run.close()
    gc.collect()

    assert driver.run.status == "completed"


def test_the_end_is_the_last_command_and_cancels_nothing_that_is_left():
    async def code():
        start("a")
        asyncio.get_running_loop().call_later(5, print)
        return "done"

    driver = begun(code)

    assert kinds(driver.activations[0]) == ["ScheduleActivity", "StartTimer", "CompleteRun"]
    driver.check_replays()
