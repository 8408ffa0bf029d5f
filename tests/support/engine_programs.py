"""Random asyncio programs: data, and the workflow that interprets it.

A program is a tree of lists, the first part of each being the name of a step. What happens is noted
in a trace, which is the run's result, so that two executions that differ in anything are told apart.
`happened` counts what programs of this process did, and what was cancelled how.

Run as a script, this replays the records in the file that it is given, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
from durable_core import activity, workflow
from durable_core.adapter import Unit, UnitOptions, current_engine
from durable_core.exceptions import ActivityError, NotSupported

from support.engine_runs import Driver

__all__ = ["CANCELLATIONS", "STEPS", "Program", "happened", "main"]

happened: Counter[str] = Counter()
CANCELLATIONS = (
    "a task was cancelled",
    "a handle was cancelled",
    "a cancelled activity was waited for",
    "cleanup was cancelled",
    "a cancellation was swallowed",
    "a timeout expired",
    "wait_for expired",
    "a shielded task went on",
    "losers of a race were cancelled",
    "members of a failed group were cancelled",
    "members of anyio's failed group were cancelled",
    "a scope of anyio expired",
    "a group of anyio was cancelled",
    "a deadline of anyio expired",
    "anyio's shield held",
    "the run was cancelled",
)


class BrokenError(Exception):
    """Ends whatever does not catch it."""


@activity.defn
async def echo(value: Any) -> Any:
    return value


@activity.defn
async def fail(value: Any) -> None:
    raise ValueError(str(value))


@activity.defn
async def slow(value: Any) -> Any:
    return value


@workflow.defn
class Program:
    """Interprets its input."""

    def __init__(self) -> None:
        self.trace: list[Any] = []
        self.locks = [asyncio.Lock() for _ in range(2)]
        self.semaphore = asyncio.Semaphore(2)
        self.event = asyncio.Event()

    @workflow.run
    async def run(self, program: Any) -> list[Any]:
        try:
            await self.step(program)
        except* BrokenError:
            self.trace.append("broken")

        self.trace.append(workflow.random().randrange(1000))
        return self.trace

    async def step(self, node: list[Any]) -> None:
        kind, *rest = node
        happened[kind] += 1
        try:
            await getattr(self, f"do_{kind}")(*rest)
        except ActivityError as error:
            self.trace.append([kind, type(error.cause).__name__, workflow.now().timestamp()])
        except TimeoutError:
            self.trace.append([kind, "timed out", workflow.now().timestamp()])
        except asyncio.CancelledError:
            self.trace.append([kind, "cancelled"])
            raise

    def tasks(self, nodes: list[Any]) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.step(node)) for node in nodes]

    # Steps that ask for something

    async def do_call(self, value: int) -> None:
        self.trace.append(await workflow.execute_activity(echo, value))

    async def do_fail(self, value: int) -> None:
        await workflow.execute_activity(fail, value)

    async def do_slow(self, value: int) -> None:
        self.trace.append(await workflow.execute_activity(slow, value))

    async def do_sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.trace.append(["slept", seconds])

    async def do_break(self, value: int) -> None:
        await workflow.execute_activity(echo, value)
        raise BrokenError

    async def do_patient(self, value: int) -> None:
        options = UnitOptions(cancellation="wait_cancellation_completed")
        unit = Unit(name="slow", body=slow, args=(value,), options=options)
        handle = current_engine().schedule(unit)
        try:
            self.trace.append(await handle)
        finally:
            happened["a cancelled activity was waited for"] += handle.cancel_sent

    async def do_thread(self, value: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            await (asyncio.to_thread(abs, value) if value else loop.run_in_executor(None, abs, 1))
        except NotSupported:
            self.trace.append("no threads")

    async def do_random(self) -> None:
        self.trace.append([workflow.random().randrange(1000), str(workflow.uuid4())])

    async def do_withdraw(self, value: int) -> None:
        handle = workflow.start_activity(slow, value)
        asyncio.get_running_loop().call_later(3, handle.cancel)
        try:
            await handle
        except ActivityError:
            happened["a handle was cancelled"] += 1
            raise

    # Steps that are made of others

    async def do_seq(self, nodes: list[Any]) -> None:
        for node in nodes:
            await self.step(node)

    async def do_gather(self, nodes: list[Any]) -> None:
        await asyncio.gather(*(self.step(node) for node in nodes))

    async def do_group(self, nodes: list[Any]) -> None:
        tasks = []
        try:
            async with asyncio.TaskGroup() as group:
                for node in nodes:
                    tasks.append(group.create_task(self.step(node)))
        except* BrokenError:
            self.trace.append(["broken group", len(tasks)])
            happened["members of a failed group were cancelled"] += _cancelled(tasks)

    async def do_crew(self, nodes: list[Any]) -> None:
        begun, ended = [], []

        async def member(number: int, node: list[Any]) -> None:
            begun.append(number)
            await self.step(node)
            ended.append(number)

        try:
            async with anyio.create_task_group() as group:
                for number, node in enumerate(nodes):
                    group.start_soon(member, number, node)
        except* BrokenError:
            self.trace.append(["broken crew", begun, ended])
            happened["members of anyio's failed group were cancelled"] += len(begun) > 1 + len(
                ended
            )

    async def do_dismiss(self, nodes: list[Any], meanwhile: list[Any]) -> None:
        async with anyio.create_task_group() as group:
            for node in nodes:
                group.start_soon(self.step, node)

            await self.step(meanwhile)
            group.cancel_scope.cancel()

        happened["a group of anyio was cancelled"] += group.cancel_scope.cancelled_caught

    async def do_scope(self, seconds: float, node: list[Any]) -> None:
        with anyio.move_on_after(seconds) as scope:
            await self.step(node)

        self.trace.append(["scope", scope.cancelled_caught])
        happened["a scope of anyio expired"] += scope.cancelled_caught

    async def do_deadline(self, seconds: float, node: list[Any]) -> None:
        try:
            with anyio.fail_after(seconds):
                await self.step(node)
        except TimeoutError:
            happened["a deadline of anyio expired"] += 1
            raise

    async def do_armour(self, seconds: float, node: list[Any]) -> None:
        with anyio.move_on_after(seconds) as scope:
            with anyio.CancelScope(shield=True):
                await self.step(node)

            self.trace.append(["armour", scope.cancel_called])
            happened["anyio's shield held"] += scope.cancel_called
            await anyio.lowlevel.checkpoint()

    async def do_race(self, nodes: list[Any]) -> None:
        tasks = set(self.tasks(nodes))
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()

        happened["losers of a race were cancelled"] += len(others) > 0
        self.trace.append(["race", len(done)])
        await asyncio.gather(*others, return_exceptions=True)

    async def do_wait(self, seconds: float, nodes: list[Any]) -> None:
        tasks = self.tasks(nodes)
        done, others = await asyncio.wait(tasks, timeout=seconds)
        self.trace.append(["waited", len(done), len(others)])
        await asyncio.gather(*others)

    async def do_completed(self, nodes: list[Any]) -> None:
        for number, next_ in enumerate(asyncio.as_completed(self.tasks(nodes))):
            await next_
            self.trace.append(["completed", number])

    async def do_started(self, nodes: list[Any]) -> None:
        """As `do_completed`, with coroutines that are no tasks yet."""
        for next_ in asyncio.as_completed([self.step(node) for node in nodes]):
            await next_
            self.trace.append("one of them")

    async def do_lists(self, nodes: list[Any]) -> None:
        tasks = self.tasks(nodes)
        done, others = await workflow.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        self.trace.append([[tasks.index(t) for t in found] for found in (done, others)])
        for next_ in workflow.as_completed(tasks):
            await next_

    async def do_timeout(self, seconds: float, node: list[Any]) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.step(node)
        except TimeoutError:
            happened["a timeout expired"] += 1
            raise

    async def do_wait_for(self, seconds: float, node: list[Any]) -> None:
        try:
            await asyncio.wait_for(self.step(node), seconds)
        except TimeoutError:
            happened["wait_for expired"] += 1
            raise

    async def do_shield(self, seconds: float, node: list[Any]) -> None:
        (task,) = self.tasks([node])
        try:
            await asyncio.wait_for(asyncio.shield(task), seconds)
        except TimeoutError:
            happened["a shielded task went on"] += not task.done()
            await task

    async def do_cancel(self, node: list[Any], meanwhile: list[Any]) -> None:
        (task,) = self.tasks([node])
        await self.step(meanwhile)
        happened["a task was cancelled"] += task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def do_twice(self, node: list[Any], cleanup: list[Any]) -> None:
        cleaning = []

        async def body() -> None:
            try:
                await self.step(node)
            finally:
                cleaning.append(True)
                await self.step(cleanup)
                cleaning.clear()

        task = asyncio.create_task(body())
        await self.step(["call", 1])
        task.cancel()
        await self.step(["call", 2])
        happened["cleanup was cancelled"] += bool(cleaning) and task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def do_swallow(self, node: list[Any]) -> None:
        try:
            await self.step(node)
        except asyncio.CancelledError:
            happened["a cancellation was swallowed"] += 1
            self.trace.append("swallowed")

    async def do_finally(self, node: list[Any], cleanup: list[Any]) -> None:
        try:
            await self.step(node)
        finally:
            await self.step(cleanup)

    async def do_lock(self, number: int, node: list[Any]) -> None:
        async with self.locks[number]:
            # Within the lock nothing may wait for it again.
            await self.step(["call", number])

        await self.step(node)

    async def do_permit(self, value: int, node: list[Any]) -> None:
        async with self.semaphore:
            await self.step(["call", value])

        await self.step(node)

    async def do_condition(self, count: int, node: list[Any]) -> None:
        condition, ready = asyncio.Condition(), []

        async def waiter(number: int) -> None:
            async with condition:
                await condition.wait_for(lambda: ready)

            self.trace.append(["woken", number])

        async def notifier() -> None:
            try:
                await self.step(node)
            finally:
                ready.append(True)
                async with condition:
                    condition.notify_all()

        await asyncio.gather(notifier(), *(waiter(number) for number in range(count)))

    async def do_workers(self, count: int, nodes: list[Any]) -> None:
        jobs: asyncio.Queue[Any] = asyncio.Queue()
        for node in nodes:
            jobs.put_nowait(node)

        async def work(name: int) -> None:
            while not jobs.empty():
                node = await jobs.get()
                await self.step(node)
                self.trace.append(["worker", name])

        await asyncio.gather(*(work(name) for name in range(count)))

    async def do_signal(self, node: list[Any]) -> None:
        async def waiter() -> None:
            await self.event.wait()
            await self.step(node)

        task = asyncio.create_task(waiter())
        await self.step(["call", 0])
        self.event.set()
        await task

    async def do_spawn(self, node: list[Any]) -> None:
        self.tasks([node])

    async def do_generator(self, nodes: list[Any]) -> None:
        async def steps() -> Any:
            try:
                for number, node in enumerate(nodes):
                    await self.step(node)
                    yield number
            finally:
                self.trace.append("generator closed")

        async with contextlib.aclosing(steps()) as source:
            async for number in source:
                if number == 1:
                    break

    async def do_left(self, nodes: list[Any]) -> None:
        """Leave a generator open: it is closed with the run."""

        async def steps() -> Any:
            try:
                for node in nodes:
                    await self.step(node)
                    yield node
            finally:
                self.trace.append("left generator closed")

        async for _ in steps():
            break


def _cancelled(tasks: list[asyncio.Task[None]]) -> bool:
    return any(task.cancelled() for task in tasks)


STEPS = tuple(name.removeprefix("do_") for name in vars(Program) if name.startswith("do_"))


def main() -> None:
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
    for line in Path(sys.argv[1]).read_text().splitlines():
        driver = Driver.load(json.loads(line), Program)
        driver.check_replays()
        print(json.dumps(driver.outcome))
        driver.close()


if __name__ == "__main__":
    main()
