"""Workflows that use asyncio in every way that workflow code may, with what they return.

`FLOWS` holds each by name with its result when activities end in the order in which they were asked
for. Run as a script, this replays the records that it gets on standard input, one JSON object a
line, and prints for each what `witness` saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from durable_core import activity, workflow
from durable_core.exceptions import ActivityError

from support.engine_runs import Driver, flow

__all__ = ["FLOWS", "echo", "fail", "main", "slow", "witness"]


@activity.defn
async def echo(value: Any) -> Any:
    return value


@activity.defn
def fail(text: str) -> None:
    raise ValueError(text)


@activity.defn
def slow(value: Any) -> Any:
    return value


@activity.defn
def cleanup(value: Any) -> Any:
    return value


FLOWS: dict[str, tuple[type, Any]] = {}


def call(value: Any) -> Any:
    return workflow.execute_activity(echo, value)


def returns(expected: Any) -> Callable[[Callable[..., Any]], type]:
    """Enter a workflow with the result that it has when activities end in order."""

    def enter(code: Callable[..., Any]) -> type:
        target = flow(code, name=code.__name__)
        FLOWS[code.__name__] = (target, expected)
        return target

    return enter


@returns([1, 2, 3])
async def sequential() -> Any:
    return [await call(n) for n in (1, 2, 3)]


@returns(["a", ["b", "c"]])
async def gather() -> Any:
    return await asyncio.gather(call("a"), asyncio.gather(call("b"), call("c")))


@returns(["a", "ValueError", "c"])
async def gather_with_exceptions() -> Any:
    found = await asyncio.gather(
        call("a"), workflow.execute_activity(fail, "b"), call("c"), return_exceptions=True
    )
    return [type(f.cause).__name__ if isinstance(f, ActivityError) else f for f in found]


@returns([["a", "c"], "ValueError", "d"])
async def gather_that_fails() -> Any:
    done = []

    async def keep(value: str) -> None:
        done.append(await call(value))

    try:
        await asyncio.gather(keep("a"), workflow.execute_activity(fail, "b"), keep("c"))
    except ActivityError as error:
        cause = type(error.cause).__name__
    else:
        cause = ""

    # gather leaves the others running.
    last = await call("d")
    return [sorted(done), cause, last]


@returns([1, 4, 9, 16])
async def task_group() -> Any:
    async def square(n: int) -> int:
        return await call(n) * await call(n)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(square(n)) for n in (1, 2, 3, 4)]

    return [t.result() for t in tasks]


@returns([["bad"], ["a", "cancelled c", "cancelled slow"]])
async def task_group_that_fails() -> Any:
    seen = []

    async def watched(value: str, kind: Any = echo) -> None:
        try:
            seen.append(await workflow.execute_activity(kind, value))
        except asyncio.CancelledError:
            seen.append(f"cancelled {value}")
            raise

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(watched("a"))
            group.create_task(watched("bad", fail))
            group.create_task(watched("c"))
            group.create_task(watched("slow", slow))
    except* ActivityError as errors:
        causes = [str(e.cause) for e in errors.exceptions]

    # A group cancels its tasks in the order of a set.
    return [causes, sorted(seen)]


@returns([["a"], ["b"], ["c"], ["d"]])
async def wait_first_completed() -> Any:
    waiting = {asyncio.create_task(call(v)) for v in "abcd"}
    order = []
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        # The order of the set is part of what must repeat.
        order.append([t.result() for t in done])

    return order


@returns(None)
async def wait_over_a_set_then_call_in_its_order() -> Any:
    tasks = {asyncio.create_task(call(v)) for v in range(12)}
    done, _ = await asyncio.wait(tasks)
    for task in done:
        await call(["again", task.result()])


@returns([1, 2])
async def wait_first_exception() -> Any:
    tasks = [
        asyncio.create_task(call("a")),
        asyncio.create_task(workflow.execute_activity(fail, "b")),
        asyncio.create_task(workflow.execute_activity(slow, "c")),
    ]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in waiting:
        task.cancel()

    await asyncio.gather(*tasks, return_exceptions=True)
    return [len(waiting), len(done)]


@returns([["a"], 1, "late"])
async def wait_with_a_timeout() -> Any:
    quick = asyncio.create_task(call("a"))
    late = asyncio.create_task(workflow.execute_activity(slow, "late"))
    done, waiting = await asyncio.wait([quick, late], timeout=30)
    return [[t.result() for t in done], len(waiting), await late]


@returns("a")
async def wait_for_in_time() -> Any:
    return await asyncio.wait_for(call("a"), 30)


@returns(["timeout", "after"])
async def wait_for_too_long() -> Any:
    try:
        await asyncio.wait_for(workflow.execute_activity(slow, "a"), 30)
    except TimeoutError:
        return ["timeout", await call("after")]


@returns(["timeout", "after"])
async def wait_for_a_handle() -> Any:
    try:
        await asyncio.wait_for(workflow.start_activity(slow, "a"), 30)
    except TimeoutError:
        return ["timeout", await call("after")]


@returns(["inner", "outer", True])
async def nested_timeouts() -> Any:
    seen = []
    try:
        async with asyncio.timeout(60) as outer:
            try:
                async with asyncio.timeout(10):
                    await workflow.execute_activity(slow, 1)
            except TimeoutError:
                seen.append("inner")

            await workflow.execute_activity(slow, 2)
    except TimeoutError:
        seen.append("outer")

    return [*seen, outer.expired()]


@returns([1, 2])
async def timeout_that_is_rescheduled() -> Any:
    seen: list[Any] = []
    try:
        async with asyncio.timeout(5) as limit:
            seen.append(await call(1))
            limit.reschedule(asyncio.get_running_loop().time() + 50)
            seen.append(await call(2))
    except TimeoutError:
        seen.append("timeout")

    return seen


@returns(["a", "b", "c"])
async def as_completed() -> Any:
    tasks = [asyncio.create_task(call(v)) for v in "abc"]
    return [await f for f in asyncio.as_completed(tasks)]


@returns(["a", "b", "timeout"])
async def as_completed_with_a_timeout() -> Any:
    handles = [
        workflow.start_activity(kind, v) for kind, v in ((echo, "a"), (slow, "c"), (echo, "b"))
    ]
    seen = []
    try:
        for f in asyncio.as_completed(handles, timeout=20):
            value = await f
            seen.append(value)
    except TimeoutError:
        seen.append("timeout")

    return seen


@returns([[0, 0], [1, 1], [0, 2], [1, 3], [0, 4], [1, 5]])
async def queue() -> Any:
    jobs: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
    done = []

    async def work(name: int) -> None:
        while True:
            job = await jobs.get()
            done.append([name, await call(job)])
            jobs.task_done()

    workers = [asyncio.create_task(work(n)) for n in range(2)]
    for job in range(6):
        await jobs.put(job)

    await jobs.join()
    for worker in workers:
        worker.cancel()

    await asyncio.gather(*workers, return_exceptions=True)
    return done


@returns(["set by a", "seen by b", "seen by c"])
async def event() -> Any:
    ready = asyncio.Event()
    seen = []

    async def wait(name: str) -> None:
        await ready.wait()
        seen.append(f"seen by {await call(name)}")

    waiting = [asyncio.create_task(wait(n)) for n in "bc"]
    seen.append(f"set by {await call('a')}")
    ready.set()
    await asyncio.gather(*waiting)
    return seen


@returns(["a1", "a2", "b1", "b2", "c1", "c2"])
async def lock() -> Any:
    one = asyncio.Lock()
    seen = []

    async def hold(name: str) -> None:
        async with one:
            seen.extend([await call(f"{name}1"), await call(f"{name}2")])

    await asyncio.gather(*map(hold, "abc"))
    return seen


@returns([2, ["a", "b", "c", "d"]])
async def semaphore() -> Any:
    slots = asyncio.Semaphore(2)
    inside = most = 0
    seen = []

    async def enter(name: str) -> None:
        nonlocal inside, most
        async with slots:
            inside += 1
            most = max(most, inside)
            seen.append(await call(name))
            inside -= 1

    await asyncio.gather(*map(enter, "abcd"))
    return [most, seen]


@returns(["first", "second"])
async def condition() -> Any:
    changed = asyncio.Condition()
    state: list[str] = []

    async def wait() -> list[str]:
        async with changed:
            await changed.wait_for(lambda: len(state) == 2)
            return list(state)

    waiting = asyncio.create_task(wait())
    for value in ("first", "second"):
        state.append(await call(value))
        async with changed:
            changed.notify_all()

    return await waiting


@returns(["cancelled", "kept"])
async def shield() -> Any:
    kept = asyncio.create_task(workflow.execute_activity(slow, "kept"))
    try:
        await asyncio.wait_for(asyncio.shield(kept), 5)
    except TimeoutError:
        return ["cancelled", await kept]


@returns([0, 1, "closed"])
async def async_generator() -> Any:
    seen: list[Any] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for n in range(5):
                yield await call(n)
        finally:
            seen.append(await workflow.execute_activity(cleanup, "closed"))

    async with contextlib.aclosing(numbers()) as source:
        async for n in source:
            seen.append(n)
            if n == 1:
                break

    return seen


@returns([0, 0, 1, 1])
async def async_generators_side_by_side() -> Any:
    seen = []

    async def numbers() -> AsyncIterator[int]:
        for n in range(2):
            yield await call(n)

    async def read() -> None:
        async for n in numbers():
            value = n
            seen.append(value)

    await asyncio.gather(read(), read())
    return seen


@returns(["inner undone", "outer undone"])
async def nested_cancellation() -> Any:
    undone = []

    async def undo(name: str) -> None:
        try:
            await workflow.execute_activity(slow, name)
        finally:
            undone.append(await workflow.execute_activity(cleanup, f"{name} undone"))

    async def outer() -> None:
        try:
            await asyncio.gather(undo("inner"))
        finally:
            undone.append(await workflow.execute_activity(cleanup, "outer undone"))

    task = asyncio.create_task(outer())
    await call("go")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    return undone


@returns(["slow", "CancelledError"])
async def handle_cancelled_elsewhere() -> Any:
    handle = workflow.start_activity(slow, 1)

    async def cancel() -> None:
        await call("go")
        handle.cancel()

    task = asyncio.create_task(cancel())
    try:
        await handle
    except ActivityError as error:
        await task
        return [error.activity_type, type(error.cause).__name__]


@returns([3.0, "woken"])
async def timers() -> Any:
    begin = workflow.now()
    await asyncio.gather(asyncio.sleep(3), workflow.sleep(1), asyncio.sleep(0))
    passed = (workflow.now() - begin).total_seconds()
    never = asyncio.create_task(asyncio.sleep(500))
    await call("x")
    never.cancel()
    return [passed, "woken"]


@returns(["a", "timeout", "b"])
async def race_of_timers_and_calls() -> Any:
    async def limited(kind: Any, value: str, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                return await workflow.execute_activity(kind, value)
        except TimeoutError:
            return "timeout"

    return await asyncio.gather(
        limited(echo, "a", 5), limited(slow, "slow", 3), limited(echo, "b", 7)
    )


@returns(None)
async def witness() -> Any:
    """Return everything that could differ between two processes."""
    info = workflow.info()
    tasks = {asyncio.create_task(call(n)) for n in range(10)}
    futures = {asyncio.get_running_loop().create_future() for _ in range(10)}
    seen: list[Any] = [
        [info.workflow_id, info.run_id, info.workflow_type, info.start_time.isoformat()],
        [workflow.now().isoformat(), asyncio.get_running_loop().time()],
        [workflow.random().random(), workflow.random().sample(range(100), 5)],
        [str(workflow.uuid4()) for _ in range(3)],
        [hash(t) for t in tasks],
        [t.get_name() for t in tasks],
        [hash(f) for f in futures],
    ]
    done, _ = await asyncio.wait(tasks)
    seen.append([t.result() for t in done])
    seen.append([workflow.random().random(), str(workflow.uuid4()), workflow.now().isoformat()])
    return seen


def main() -> None:
    for line in sys.stdin:
        saved = json.loads(line)
        target, _ = FLOWS[saved["flow"]]
        driver = Driver.load(saved, target)
        driver.check_replays()
        fresh = Driver(target).run_to_end("first").result
        print(json.dumps({"flow": saved["flow"], "outcome": driver.outcome, "fresh": fresh}))


if __name__ == "__main__":
    main()
