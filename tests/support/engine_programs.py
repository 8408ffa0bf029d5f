"""Random asyncio programs: data, and the workflow that interprets it.

A program is a tree of lists, the first part of each being the name of a step. What happens is noted
in a trace, which is the run's result, so that two executions that differ in anything are told apart.
Run as a script, this replays the records in the file that it is given, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from durable_core import activity, workflow
from durable_core.exceptions import ActivityError

from support.engine_runs import Driver

__all__ = ["Program", "main"]


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
        self.event = asyncio.Event()

    @workflow.run
    async def run(self, program: Any) -> list[Any]:
        await self.step(program)
        self.trace.append(workflow.random().randrange(1000))
        return self.trace

    async def step(self, node: list[Any]) -> None:
        kind, *rest = node
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

    async def do_random(self) -> None:
        self.trace.append([workflow.random().randrange(1000), str(workflow.uuid4())])

    async def do_withdraw(self, value: int) -> None:
        handle = workflow.start_activity(slow, value)
        asyncio.get_running_loop().call_later(3, handle.cancel)
        await handle

    # Steps that are made of others

    async def do_seq(self, nodes: list[Any]) -> None:
        for node in nodes:
            await self.step(node)

    async def do_gather(self, nodes: list[Any]) -> None:
        await asyncio.gather(*(self.step(node) for node in nodes))

    async def do_group(self, nodes: list[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(self.step(node))

    async def do_race(self, nodes: list[Any]) -> None:
        tasks = set(self.tasks(nodes))
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()

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

    async def do_timeout(self, seconds: float, node: list[Any]) -> None:
        async with asyncio.timeout(seconds):
            await self.step(node)

    async def do_wait_for(self, seconds: float, node: list[Any]) -> None:
        await asyncio.wait_for(self.step(node), seconds)

    async def do_shield(self, seconds: float, node: list[Any]) -> None:
        (task,) = self.tasks([node])
        try:
            await asyncio.wait_for(asyncio.shield(task), seconds)
        except TimeoutError:
            await task

    async def do_cancel(self, node: list[Any], meanwhile: list[Any]) -> None:
        (task,) = self.tasks([node])
        await self.step(meanwhile)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

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


def main() -> None:
    for line in Path(sys.argv[1]).read_text().splitlines():
        driver = Driver.load(json.loads(line), Program)
        driver.check_replays()
        print(json.dumps(driver.result))
        driver.close()


if __name__ == "__main__":
    main()
