"""Threads of sync bodies: a body that does not return must hold up nobody but itself."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading

import durable_core
import pytest
from durable_core import activity, workflow
from durable_core.exceptions import NotInActivityError
from durable_core.testing import ActivityEnvironment
from durable_core.worker._threads import Threads
from support.waiting import eventually


@pytest.fixture
def gate():
    """An event on which stuck functions wait; it opens at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def test_a_function_runs_in_another_thread_and_its_result_comes_back():
    async def main():
        threads = Threads(4)
        try:
            return await threads.run(threading.get_ident)
        finally:
            threads.close()

    assert asyncio.run(main()) != threading.get_ident()


def test_an_exception_comes_back_as_itself():
    async def main():
        threads = Threads(4)
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)

        with pytest.raises(RuntimeError, match="StopIteration"):
            await threads.run(lambda: next(iter([])))

        threads.close()

    asyncio.run(main())


def test_functions_run_side_by_side_up_to_the_limit(gate):
    async def main():
        threads = Threads(3)
        running = []

        def stay():
            running.append(threading.current_thread().name)
            gate.wait()

        futures = [threads.run(stay) for _ in range(5)]
        await eventually(lambda: len(running) == 3, "three threads")
        assert len(set(running)) == 3
        gate.set()
        await asyncio.gather(*futures)
        assert len(set(running)) == 3
        threads.close()

    asyncio.run(main())


def test_one_thread_serves_functions_that_come_one_after_the_other():
    async def main():
        threads = Threads(8)
        used = {await threads.run(threading.get_ident) for _ in range(20)}
        threads.close()
        return used

    assert len(asyncio.run(main())) == 1


def test_a_function_that_was_given_up_does_not_hold_up_the_next(gate):
    async def main():
        threads = Threads(4)
        started = threading.Event()
        stuck = threads.run(lambda: (started.set(), gate.wait()))
        await eventually(started.is_set, "the function to begin")
        stuck.cancel()
        async with asyncio.timeout(5):
            for _ in range(3):
                assert await threads.run(lambda: "next") == "next"

        threads.close()

    asyncio.run(main())


def test_a_function_that_was_given_up_while_it_waited_for_a_thread_never_runs(gate):
    async def main():
        threads = Threads(1)
        ran = []
        first = threads.run(gate.wait)
        given_up = threads.run(lambda: ran.append("given up"))
        last = threads.run(lambda: ran.append("last"))
        given_up.cancel()
        gate.set()
        await asyncio.gather(first, last)
        threads.close()
        return ran

    assert asyncio.run(main()) == ["last"]


def test_a_result_that_comes_after_it_was_given_up_is_dropped(gate):
    async def main():
        threads = Threads(2)
        started, done = threading.Event(), threading.Event()

        def late():
            started.set()
            gate.wait()
            done.set()
            raise ValueError("too late")

        future = threads.run(late)
        await eventually(started.is_set, "the function to begin")
        future.cancel()
        gate.set()
        await eventually(done.is_set, "the function to end")
        assert await threads.run(lambda: 1) == 1
        assert future.cancelled()
        threads.close()

    asyncio.run(main())
    gc.collect()


def test_threads_end_when_they_are_closed():
    async def main():
        threads = Threads(4)
        used = await asyncio.gather(*(threads.run(threading.current_thread) for _ in range(4)))
        threads.close()
        await eventually(lambda: not any(t.is_alive() for t in used), "the threads to end")

    asyncio.run(main())


def test_a_stuck_function_keeps_neither_the_loop_nor_the_interpreter_alive(processes):
    code = """
import asyncio, threading
from durable_core.worker._threads import Threads

async def main():
    threads = Threads(2)
    started = threading.Event()
    threads.run(lambda: (started.set(), threading.Event().wait()))
    await asyncio.to_thread(started.wait)
    threads.close()

asyncio.run(main())
print("ended")
"""

    assert processes.run(code, limit=10).checked().output == "ended\n"


# Asked for by the body of an activity


mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark")


def where(text):
    return text, mark.get(), activity.info().activity_type, threading.current_thread().name


def test_an_async_body_calls_a_function_in_a_thread_of_its_worker():
    @activity.defn
    async def calls() -> list[str]:
        mark.set("here")
        return list(await activity.to_thread(where, text="a"))

    @workflow.defn
    async def calling() -> list[str]:
        return await calls()

    found = asyncio.run(durable_core.execute_workflow(calling, id="calling", url="memory://"))
    assert found[:3] == ["a", "here", "calls"]
    assert found[3].startswith("durable-activity-")


def test_a_body_without_a_worker_calls_it_in_a_thread_of_the_event_loop():
    async def calls():
        mark.set("here")
        return await activity.to_thread(where, "a")

    async def main():
        return await ActivityEnvironment().run(calls)

    found = asyncio.run(main())
    assert found[:3] == ("a", "here", "test")
    assert found[3].startswith("asyncio_")


def test_a_task_that_outlives_its_worker_calls_it_in_a_thread_of_its_own():
    left = []

    @activity.defn
    async def leaves_a_task() -> None:
        async def late():
            await gone.wait()
            return await activity.to_thread(threading.current_thread)

        left.append(asyncio.ensure_future(late()))

    @workflow.defn
    async def leaving() -> None:
        await leaves_a_task()

    async def main():
        await durable_core.execute_workflow(leaving, id="leaving", url="memory://")
        await durable_core.embedded.close()
        gone.set()
        return (await left[0]).name

    gone = asyncio.Event()
    assert asyncio.run(main()) == "durable-apart"


def test_only_a_body_has_a_worker_with_threads():
    with pytest.raises(NotInActivityError, match="not inside an activity"):
        asyncio.run(activity.to_thread(where, "a"))
