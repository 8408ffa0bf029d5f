"""Full load for a long time in one process: what it holds must level off.

Lanes start runs of many kinds one after the other, check each result, and talk to them from a
client that has only the file in common with the worker; many more runs sleep, out of memory; runs
that ended are purged, those of agents too: SQLite's page caches grow with their file, up to their
limit, and what grows slowly cannot be told from a leak.

Sampled under load are levels: resident memory, SQLite's memory, threads, file descriptors and the
size of the `-wal` file. The last quarter may hold no more than the second, but for noise.

Looked at when no run is under way, after each quarter, is what Python and C hold: memory blocks of
Python, and bytes from C's allocator that are not SQLite's. A leak grows with the runs that ended, so
their growth per run is limited, from the end of the first quarter on. `--leak` plants one, which
has to fail.

    python tests/soak/soak.py --minutes 30 --lanes 40
    python tests/soak/soak.py --minutes 5 --leak bytes
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import logging
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import apsw
from durable_core import Client, RetryPolicy, Worker, _defaults, activity, workflow
from durable_core.exceptions import ApplicationError, WorkflowFailureError

QUEUE = "soak"
SLEEPERS = 300
AGENTS = 2
KEPT = timedelta(seconds=20)
PURGE_EVERY = 5.0
SAMPLE_EVERY = 1.0
# So that a run lives and is kept for less than the first quarter, in which all that is not measured.
SHORTEST = 4.0
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


class _Malloc(ctypes.Structure):
    """What glibc's allocator tells of itself: `struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _malloc() -> float:
    """Return the bytes that C's allocator has given away; 0 where it is not glibc's."""
    ask: Any = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0.0

    ask.restype = _Malloc
    told = ask()
    return float(told.uordblks + told.hblkhd)


@dataclass
class Sample:
    """What the process holds at a moment under load: numbers, and MiB of memory and files."""

    memory: float
    sqlite: float
    threads: float
    files: float
    wal: float

    @classmethod
    def take(cls, store: Path) -> Sample:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        wal = store.with_name(f"{store.name}-wal")
        return cls(
            memory=pages * os.sysconf("SC_PAGE_SIZE") / MIB,
            sqlite=apsw.memory_used() / MIB,
            threads=threading.active_count(),
            files=len(list(Path("/proc/self/fd").iterdir())),
            wal=wal.stat().st_size / MIB if wal.exists() else 0.0,
        )


@dataclass
class Rest:
    """What the process holds while no run is under way.

    Attributes:
        runs: How many have ended.
        blocks: Python's memory blocks, of any size.
        others: Bytes from C's allocator that are not SQLite's: larger blocks, and those of C code.
    """

    runs: int
    blocks: int
    others: float

    @classmethod
    async def take(cls, runs: int) -> Rest:
        # A loop keeps timers that were cancelled until they are more than half of all.
        loop = asyncio.get_running_loop()
        for _ in range(1000):
            loop.call_later(3600, int).cancel()

        # Purging goes on meanwhile.
        await asyncio.sleep(KEPT.total_seconds() + 2 * PURGE_EVERY)
        gc.collect()
        others = max(_malloc() - apsw.memory_used(), 0.0)
        return cls(runs, sys.getallocatedblocks(), others)


# By how much the median of the last quarter may exceed that of the second.
LEVELS = {"memory": 4.0, "sqlite": 1.0, "threads": 1.5, "files": 3.0, "wal": 4.0}
# By how much what is held at rest may grow with every run.
PER_RUN = {"blocks": 0.5, "others": 100.0}


def quarters(samples: list[list[Sample]], name: str) -> list[float]:
    """Return the median of each quarter."""
    return [statistics.median(getattr(s, name) for s in quarter) for quarter in samples]


def per_run(rests: list[Rest], name: str) -> float:
    """Return the growth per run since the end of the first quarter."""
    values = [getattr(rest, name) for rest in rests]
    return statistics.linear_regression([rest.runs for rest in rests], values).slope


def growth(samples: list[list[Sample]], rests: list[Rest]) -> list[str]:
    """Return what has not levelled, in words."""
    found = []
    for name, limit in LEVELS.items():
        _, second, _, last = quarters(samples, name)
        if last > second + limit:
            found.append(f"{name} grew from {second:.1f} to {last:.1f}")

    for name, limit in PER_RUN.items():
        slope = per_run(rests, name)
        if slope > limit:
            found.append(f"{name} grew by {slope:.2f} with every run")

    return found


class Soak:
    """The lanes, and what they have done."""

    def __init__(self, near: Client, far: Client, leak: str | None) -> None:
        self.done = 0
        self.woken = 0
        self.asked = 0
        self._near = near
        self._far = far
        self.ends = 0.0
        self._leak = leak
        self._leaked: list[object] = []
        self._numbers = count()

    @property
    def ended(self) -> int:
        return self.done + self.woken + self.asked

    def _ends_one(self) -> None:
        """Keep something of a run that has ended, if that was asked for."""
        if self._leak == "bytes":
            self._leaked.append(bytes(1024))
        elif self._leak == "objects":
            self._leaked.append(object())

    async def lane(self) -> None:
        while time.monotonic() < self.ends:
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
            self._ends_one()

    async def sleeping(self) -> None:
        while time.monotonic() < self.ends:
            n, seconds = next(self._numbers), random.uniform(12, 25)
            handle = await self._far.start_workflow(
                sleeper, seconds, id=f"sleeper-{n}", task_queue=QUEUE
            )
            assert await handle.result() == seconds
            self.woken += 1
            self._ends_one()

    async def agent(self) -> None:
        from agents import Agent
        from durable_openai_agents import DurableRunner

        while time.monotonic() < self.ends:
            n = next(self._numbers)
            result = await DurableRunner.run(Agent(name="a"), f"say {n}", workflow_id=f"agent-{n}")
            assert result.final_output == "hello"
            self.asked += 1
            self._ends_one()
            await asyncio.sleep(0.2)


async def soak(
    folder: Path, minutes: float, lanes: int, leak: str | None
) -> tuple[list[list[Sample]], list[Rest]]:
    store = folder / "store.db"
    url = f"sqlite:///{store}"
    samples: list[list[Sample]] = []
    rests: list[Rest] = []
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
    ):
        load = Soak(near, far, leak)
        for quarter in range(1, 5):
            samples.append([])
            load.ends = time.monotonic() + minutes * 60 / 4
            async with asyncio.TaskGroup() as group:
                for work, times in (
                    (load.lane, lanes),
                    (load.sleeping, SLEEPERS),
                    (load.agent, AGENTS),
                ):
                    for _ in range(times):
                        group.create_task(work())

                while time.monotonic() < load.ends:
                    await asyncio.sleep(SAMPLE_EVERY)
                    samples[-1].append(Sample.take(store))

            rests.append(await Rest.take(load.ended))
            print(f"quarter {quarter}: {samples[-1][-1]} {rests[-1]}", flush=True)

    print(f"{load.done} runs, {load.woken} sleepers woken, {load.asked} agents")
    return samples, rests


def main() -> None:
    parser = argparse.ArgumentParser(description="Full load for a long time in one process.")
    parser.add_argument("--minutes", type=float, default=30.0, help="under load")
    parser.add_argument("--lanes", type=int, default=40, help="runs under way at once")
    parser.add_argument("--leak", choices=["bytes", "objects"], help="keep something of each run")
    given = parser.parse_args()
    if given.minutes < SHORTEST:
        parser.error(f"--minutes must be {SHORTEST:g} or more: the first quarter warms up")

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
        os.environ[_defaults.RETENTION_VARIABLE] = str(KEPT / timedelta(days=1))
        samples, rests = asyncio.run(soak(folder, given.minutes, given.lanes, given.leak))

    for field in fields(Sample):
        medians = [round(q, 1) for q in quarters(samples, field.name)]
        most = max(getattr(sample, field.name) for quarter in samples for sample in quarter)
        print(f"{field.name:8} by quarters {medians}, most {most:.1f}")

    for name in PER_RUN:
        print(f"{name:8} {per_run(rests, name):+.3f} with every run")

    found = growth(samples, rests)
    if found:
        sys.exit(f"not level: {'; '.join(found)}")


if __name__ == "__main__":
    main()
