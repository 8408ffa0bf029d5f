"""Of runs that have ended nothing stays in memory, in a process that goes on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import pytest
from durable_core import Client, RetryPolicy, Worker, activity, embedded, workflow
from durable_core.engine import Run
from durable_core.exceptions import ApplicationError, WorkflowFailureError
from durable_openai_agents import DurableRunner
from support.agents_bench import agent, say

pytest_plugins = ["support.agents_fixtures"]

RUNS = 100
# A leak grows in each; caches, pools and what the worker does just now do not.
ROUNDS = 8
# Blocks of Python's memory; what is kept of a run takes at least one.
PER_RUN = 0.9
OURS = ("durable_core.", "durable_openai_agents.")


@activity.defn
async def act(n: int) -> str:
    return f"{n}"


@activity.defn
def block(n: int) -> int:
    return n


@activity.defn(retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1)))
async def stumble() -> None:
    if activity.info().attempt == 1:
        raise ConnectionError("not yet")


@workflow.defn
class Mixed:
    def __init__(self) -> None:
        self.got: list[int] = []

    @workflow.run
    async def run(self, n: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(workflow.execute_activity(act, n))
            group.create_task(workflow.execute_activity(block, n))
            group.create_task(stumble())
            group.create_task(asyncio.sleep(0.001))

        await workflow.wait_condition(lambda: self.got)
        if n % 10 == 0:
            raise ApplicationError("every tenth fails")

    @workflow.signal
    def put(self, number: int) -> None:
        self.got.append(number)


@workflow.defn
async def embedded_one(n: int) -> str:
    return await act(n)


async def held() -> tuple[int, Counter[str]]:
    """Return Python's memory blocks, and how many objects there are of each class of ours."""
    # A loop keeps timers that were cancelled until they are more than half of all.
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        loop.call_later(3600, int).cancel()

    await asyncio.sleep(0.2)
    gc.collect()
    classes = (type(found) for found in gc.get_objects())
    names = Counter(f"{cls.__module__}.{cls.__qualname__}" for cls in classes)
    return sys.getallocatedblocks(), Counter(
        {name: number for name, number in names.items() if name.startswith(OURS)}
    )


async def kept_by(one_run, rounds: int = ROUNDS) -> tuple[float, Counter[str]]:
    """Return the blocks that stay for each run, and what is more of our objects.

    Those of the first round after which there is nothing to speak of, else of the last.
    """
    numbers = count(1)

    async def many() -> tuple[int, Counter[str]]:
        for _ in range(RUNS // 10):
            await asyncio.gather(*(one_run(next(numbers)) for _ in range(10)))

        return await held()

    blocks, objects = await many()
    for _ in range(rounds):
        blocks_then, objects_then = await many()
        kept = (blocks_then - blocks) / RUNS, objects_then - objects
        if is_nothing(*kept):
            break

        blocks, objects = blocks_then, objects_then

    return kept


def is_nothing(per_run: float, more: Counter[str]) -> bool:
    return per_run < PER_RUN and max(more.values(), default=0) < RUNS / 10


@pytest.fixture(autouse=True)
def _no_log(caplog):
    """Keep the failed attempts of `stumble` out of what pytest collects."""
    caplog.set_level(logging.ERROR, logger="durable_core.worker")


async def of_a_worker(store_url: str, leak, rounds: int = ROUNDS) -> tuple[float, Counter[str]]:
    async with (
        await Client.connect(store_url) as near,
        await Client.connect(store_url) as far,
        Worker(near, task_queue="q", workflows=[Mixed], activities=[act, block, stumble]),
    ):

        async def one_run(n: int) -> None:
            handle = await near.start_workflow(Mixed.run, n, id=f"run-{n}", task_queue="q")
            talker = (near, far)[n % 2]
            await talker.get_workflow_handle(handle.id).signal(Mixed.put, n)
            try:
                await handle.result()
            except WorkflowFailureError:
                assert n % 10 == 0

            leak(handle)

        return await kept_by(one_run, rounds)


def test_a_worker_keeps_nothing_of_runs_that_have_ended(store_url):
    kept = asyncio.run(of_a_worker(store_url, lambda _: None))
    assert is_nothing(*kept), kept


def test_what_is_kept_of_every_run_is_found(store_url):
    leaked = []
    per_run, objects = asyncio.run(of_a_worker(store_url, leaked.append, rounds=2))
    assert per_run > 1
    assert objects["durable_core.client._handle.WorkflowHandle"] == RUNS


def test_plain_code_keeps_nothing_of_runs_that_have_ended(store_url):
    async def one_run(n: int) -> None:
        id = f"run-{n}"
        assert await embedded.execute_workflow(embedded_one, n, id=id, url=store_url) == f"{n}"

    kept = asyncio.run(kept_by(one_run))
    assert is_nothing(*kept), kept


def test_agents_keep_nothing_of_runs_that_have_ended(bench, monkeypatch):
    for name, value in bench.server.environment().items():
        monkeypatch.setenv(name, value)

    async def one_run(n: int) -> None:
        greeter = agent("Greeter", say("hello"))
        result = await DurableRunner.run(greeter, f"say {n}", workflow_id=f"run-{n}")
        assert result.final_output == "hello"

    kept = asyncio.run(kept_by(one_run))
    assert is_nothing(*kept), kept


left_behind: list[asyncio.Task[None]] = []


@activity.defn
async def leave(n: int) -> int:
    """Leave something behind that has the body's context, as a pooled connection has."""
    left_behind.append(asyncio.create_task(asyncio.sleep(60)))
    return n


@workflow.defn
async def leaving(n: int) -> int:
    return await leave(n)


def test_what_a_body_leaves_behind_does_not_keep_its_run(store_url):
    async def main():
        for n in range(5):
            assert await embedded.execute_workflow(leaving, n, id=f"r{n}", url=store_url) == n

        await asyncio.sleep(0.05)
        gc.collect()
        found = (o for o in gc.get_objects() if type(o) is Run)
        # Other tests of this process may have left some of theirs, in a traceback or so.
        kept = [run for run in found if run.start.workflow_type == "leaving"]
        for task in left_behind:
            task.cancel()

        return len(kept)

    assert asyncio.run(main()) == 0


seen_by_results: list[tuple[int, int]] = []
tenant: contextvars.ContextVar[int] = contextvars.ContextVar("tenant")


@dataclass
class Seen:
    n: int

    def __post_init__(self) -> None:
        seen_by_results.append((self.n, tenant.get(-1)))


@activity.defn
async def see(n: int) -> Seen:
    return Seen(n)


@workflow.defn
async def seeing(n: int) -> int:
    return (await see(n)).n


def test_runs_of_one_pass_do_not_see_context_variables_of_each_other(store_url):
    async def one(n):
        tenant.set(n)
        return await embedded.execute_workflow(seeing, n, id=f"s{n}", url=store_url)

    async def main():
        return await asyncio.gather(*(asyncio.create_task(one(n)) for n in range(8)))

    assert asyncio.run(main()) == list(range(8))
    assert seen_by_results
    assert [pair for pair in seen_by_results if pair[1] not in {pair[0], -1}] == []
