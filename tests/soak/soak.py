"""Full load for a long time in one process: what it holds must level off.

Lanes start runs of many kinds one after the other, check each result, and talk to them from a
client that has only the file in common with the worker; many more runs sleep, out of memory; runs
that ended are purged. Sampled are memory, threads, file descriptors and the size of the `-wal`
file. The last quarter may hold no more than the third, but for noise.

    python tests/soak/soak.py --minutes 30 --lanes 40
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import count
from pathlib import Path

from durable_core import Client, RetryPolicy, Worker, _defaults, activity, workflow
from durable_core.exceptions import ApplicationError, WorkflowFailureError

QUEUE = "soak"
SLEEPERS = 300
AGENTS = 2
KEPT = timedelta(seconds=20)
PURGE_EVERY = 5.0
SAMPLE_EVERY = 1.0
MIB = 1024 * 1024


@activity.defn
async def act(n: int) -> str:
    return f"{n} {'x' * 300}"


@activity.defn
def block(n: int) -> int:
    return n


@activity.defn(retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=20)))
async def stumble() -> None:
    if activity.info().attempt == 1:
        raise ConnectionError("not yet")


@workflow.defn
class Mixed:
    """A sequence, parallel activities, a retry, a timer, and signals that it waits for."""

    def __init__(self) -> None:
        self.got: list[int] = []

    @workflow.run
    async def run(self, n: int) -> int:
        for step in range(5):
            await act(step)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(workflow.execute_activity(block, i)) for i in range(4)]
            group.create_task(stumble())
            group.create_task(asyncio.sleep(0.05))

        await workflow.wait_condition(lambda: len(self.got) == 3)
        if n % 10 == 0:
            raise ApplicationError("every tenth fails")

        return sum(task.result() for task in tasks) + sum(self.got)

    @workflow.signal
    def put(self, number: int) -> None:
        self.got.append(number)


@workflow.defn
async def sleeper(seconds: float) -> float:
    await asyncio.sleep(seconds)
    await act(0)
    return seconds


@dataclass
class Sample:
    """What the process holds at a moment: MiB, numbers, and MiB."""

    memory: float
    threads: float
    files: float
    wal: float

    @classmethod
    def take(cls, store: Path) -> Sample:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        wal = store.with_name(f"{store.name}-wal")
        return cls(
            memory=pages * os.sysconf("SC_PAGE_SIZE") / MIB,
            threads=threading.active_count(),
            files=len(list(Path("/proc/self/fd").iterdir())),
            wal=wal.stat().st_size / MIB if wal.exists() else 0.0,
        )


# By how much the median of the last quarter may exceed that of the third: a share, and a constant.
NOISE = {"memory": (0.02, 4.0), "threads": (0.0, 1.5), "files": (0.0, 3.0), "wal": (0.5, 4.0)}


def growth(samples: list[Sample]) -> list[str]:
    """Return what has not levelled, in words."""
    quarter = len(samples) // 4
    found = []
    for field in fields(Sample):
        values = [getattr(sample, field.name) for sample in samples]
        third, last = (
            statistics.median(values[2 * quarter : 3 * quarter]),
            statistics.median(values[3 * quarter :]),
        )
        share, constant = NOISE[field.name]
        if last > third * (1 + share) + constant:
            found.append(f"{field.name} grew from {third:.1f} to {last:.1f}")

    return found


class Soak:
    """The lanes, and what they have done."""

    def __init__(self, near: Client, far: Client, ends: float) -> None:
        self.done = 0
        self.woken = 0
        self.asked = 0
        self._near = near
        self._far = far
        self._ends = ends
        self._numbers = count()

    async def lane(self) -> None:
        while time.monotonic() < self._ends:
            n = next(self._numbers)
            handle = await self._near.start_workflow(Mixed.run, n, id=f"run-{n}", task_queue=QUEUE)
            for number in range(3):
                talker = (self._near, self._far)[(n + number) % 2]
                await talker.get_workflow_handle(handle.id).signal(Mixed.put, number)

            try:
                assert await handle.result() == 9
                assert n % 10, "every tenth fails"
            except WorkflowFailureError:
                assert n % 10 == 0

            self.done += 1

    async def sleeping(self) -> None:
        while time.monotonic() < self._ends:
            n, seconds = next(self._numbers), random.uniform(12, 25)
            handle = await self._far.start_workflow(
                sleeper, seconds, id=f"sleeper-{n}", task_queue=QUEUE
            )
            assert await handle.result() == seconds
            self.woken += 1

    async def agent(self) -> None:
        from agents import Agent
        from durable_openai_agents import DurableRunner

        while time.monotonic() < self._ends:
            n = next(self._numbers)
            result = await DurableRunner.run(Agent(name="a"), f"say {n}", workflow_id=f"agent-{n}")
            assert result.final_output == "hello"
            self.asked += 1
            await asyncio.sleep(0.2)


async def soak(folder: Path, minutes: float, lanes: int) -> list[Sample]:
    store = folder / "store.db"
    url = f"sqlite:///{store}"
    ends = time.monotonic() + minutes * 60
    samples: list[Sample] = []
    async with (
        await Client.connect(url) as near,
        await Client.connect(url) as far,
        Worker(
            near,
            task_queue=QUEUE,
            workflows=[Mixed, sleeper],
            activities=[act, block, stumble],
            retention=KEPT,
        ),
        AsyncExitStack() as stack,
    ):
        load = Soak(near, far, ends)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for work, times in ((load.lane, lanes), (load.sleeping, SLEEPERS), (load.agent, AGENTS)):
            for _ in range(times):
                group.create_task(work())

        while time.monotonic() < ends:
            await asyncio.sleep(SAMPLE_EVERY)
            samples.append(Sample.take(store))
            if len(samples) % 30 == 0:
                print(f"{len(samples):5} {samples[-1]} {load.done} runs", flush=True)

    print(f"{load.done} runs, {load.woken} sleepers woken, {load.asked} agents")
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description="Full load for a long time in one process.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--lanes", type=int, default=40, help="runs under way at once")
    given = parser.parse_args()
    # Every run has an attempt that fails.
    logging.getLogger("durable_core.worker").setLevel(logging.ERROR)
    _defaults.PURGE_EVERY = PURGE_EVERY  # type: ignore[misc]
    from durable_openai_agents.testing import ModelServer

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        server = stack.enter_context(ModelServer([{"text": "hello"}]))
        os.environ.update(server.environment())
        # For agents: a store of their own.
        os.environ["DURABLE_URL"] = f"sqlite:///{folder}/agents.db"
        samples = asyncio.run(soak(folder, given.minutes, given.lanes))

    for field in fields(Sample):
        values = [getattr(sample, field.name) for sample in samples]
        quarters = [
            statistics.median(values[i * len(values) // 4 : (i + 1) * len(values) // 4])
            for i in range(4)
        ]
        print(
            f"{field.name:8} by quarters {[round(q, 1) for q in quarters]}, most {max(values):.1f}"
        )

    found = growth(samples)
    if found:
        sys.exit(f"not level: {'; '.join(found)}")


if __name__ == "__main__":
    main()
