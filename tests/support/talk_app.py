"""Runs that are talked to, and a run that goes on after failures, for kills.

``worker`` serves the queue until it is killed. ``start`` starts a run with a signal. ``relay`` lets one run send numbers to another, which
goes on as a new one after every few, and prints what that got. ``family`` runs a parent that goes on as a new run, and children that do, and
prints its result. ``pause`` lets a run stand still again and again, and prints its result. ``again`` calls `steps`, by itself or in a child, which fails at
the step that the variable ``BROKEN`` names, and prints its result or its failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from durable_core import Client, Worker, activity, workflow
from durable_core.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from durable_core.embedded import execute_workflow
from durable_core.exceptions import (
    ApplicationError,
    CallError,
    WorkflowAlreadyStartedError,
    WorkflowFailureError,
    WorkflowNotFoundError,
)

from support import ledger

QUEUE = "talk"
ONCE = WorkflowIDReusePolicy.REJECT_DUPLICATE


@activity.defn
async def note(number: int) -> int:
    ledger.from_environment().write(number)
    return number


@activity.defn
async def step(name: str) -> str:
    ledger.from_environment().write(name)
    if name == os.environ.get("BROKEN"):
        raise ApplicationError(f"{name} is broken", non_retryable=True)

    return name


@workflow.defn
class Collector:
    """Takes numbers, and notes every tenth by an activity."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.noted: list[int] = []
        self.ends = False

    @workflow.run
    async def run(self) -> list[list[int]]:
        await workflow.wait_condition(lambda: self.ends)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return [self.got, self.noted]

    @workflow.signal
    async def put(self, number: int) -> None:
        self.got.append(number)
        if number % 10 == 0:
            self.noted.append(await note(number))

    @workflow.update
    async def add(self, number: int) -> int:
        await self.put(number)
        return len(self.got)

    @add.validator
    def check(self, number: int) -> None:
        if number in self.got:
            raise ValueError(f"{number} is there already")

    @workflow.signal
    def end(self) -> None:
        self.ends = True


@workflow.defn
class Hopper:
    """As `Collector`, and goes on as a new run after every few numbers."""

    @workflow.init
    def __init__(self, got: list[int], noted: list[int]) -> None:
        self.got, self.noted, self.had = got, noted, len(got)
        self.ends = False

    @workflow.run
    async def run(self, got: list[int], noted: list[int]) -> list[list[int]]:
        await workflow.wait_condition(lambda: self.ends or len(self.got) >= self.had + 4)
        await workflow.wait_condition(workflow.all_handlers_finished)
        if not self.ends:
            workflow.continue_as_new(args=[self.got, self.noted])

        return [self.got, self.noted]

    @workflow.signal
    async def put(self, number: int) -> None:
        self.got.append(number)
        if number % 10 == 0:
            self.noted.append(await note(number))

    @workflow.signal
    def end(self) -> None:
        self.ends = True


@workflow.defn
async def hop(left: int, got: list[int]) -> list[int]:
    """Note a number, and go on as a new run for the next one."""
    got.append(await note(got[-1] + 1))
    if left:
        workflow.continue_as_new(args=[left - 1, got])

    return got


@workflow.defn
async def family(rounds: int, got: list[list[int]]) -> list[list[int]]:
    """Wait for some children, and go on as a new run for the next ones."""
    firsts = [100 * (10 * rounds + n) for n in range(3)]
    got += await asyncio.gather(
        *(
            workflow.execute_child_workflow(hop, args=[2, [first]], id=f"child-{first}")
            for first in firsts
        )
    )
    if rounds:
        workflow.continue_as_new(args=[rounds - 1, got])

    return got


@workflow.defn
async def relay(to: str, count: int) -> int:
    """Send the numbers from 1, some one after the other, some together."""
    handle = workflow.get_external_workflow_handle_for(Hopper, to)
    for first in range(1, count + 1, 5):
        await handle.signal(Hopper.put, first)
        rest = range(first + 1, min(first + 5, count + 1))
        await asyncio.gather(*(handle.signal(Hopper.put, n) for n in rest))

    await handle.signal(Hopper.end)
    return count


@workflow.defn
async def steps() -> list[str]:
    first = await step("first")
    second, third = await asyncio.gather(step("second"), step("third"))
    return [first, second, third, await step("fourth")]


async def serve() -> None:
    async with (
        await Client.connect() as client,
        Worker(client, task_queue=QUEUE, workflows=[Collector], activities=[note]),
    ):
        print("serving", flush=True)
        await asyncio.Event().wait()


async def start(how: str) -> None:
    """Start a run with a first message, in a process that may serve it too."""
    async with await Client.connect() as client:
        worker = Worker(client, task_queue=QUEUE, workflows=[Collector], activities=[note])
        async with worker if how == "here" else contextlib.nullcontext():
            await client.start_workflow(
                Collector.run, id="w", task_queue=QUEUE, start_signal="put", start_signal_args=[7]
            )
            print("started", flush=True)
            await asyncio.sleep(0.2 if how == "here" else 0)


async def relayed() -> None:
    """Start both runs, or find them, and wait for their ends."""
    existing = WorkflowIDConflictPolicy.USE_EXISTING
    more = {"task_queue": QUEUE, "id_conflict_policy": existing, "id_reuse_policy": ONCE}
    async with await Client.connect() as client:
        for code, args, id in ((Hopper.run, [[], []], "to"), (relay, ["to", 20], "from")):
            with contextlib.suppress(WorkflowAlreadyStartedError):
                await client.start_workflow(code, args=args, id=id, **more)

        worker = Worker(client, task_queue=QUEUE, workflows=[Hopper, relay], activities=[note])
        async with worker:
            results = [await client.get_workflow_handle(id).result() for id in ("from", "to")]

        print("results", json.dumps(results), flush=True)


async def families() -> None:
    """Start a parent, or find it, and wait for its end."""
    more = {"task_queue": QUEUE, "id_reuse_policy": ONCE}
    async with await Client.connect() as client:
        with contextlib.suppress(WorkflowAlreadyStartedError):
            await client.start_workflow(family, args=[1, []], id="parent", **more)

        async with Worker(client, task_queue=QUEUE, workflows=[family, hop], activities=[note]):
            result = await client.get_workflow_handle("parent").result()

        print("result", json.dumps(result), flush=True)


async def paused() -> None:
    """Start a run, or find it, and pause it at several moments."""
    more = {"task_queue": QUEUE, "id_reuse_policy": ONCE}
    async with await Client.connect() as client:
        with contextlib.suppress(WorkflowAlreadyStartedError):
            await client.start_workflow(steps, id="w", **more)

        handle = client.get_workflow_handle("w")
        async with Worker(client, task_queue=QUEUE, workflows=[steps], activities=[step]):
            for n in range(5):
                with contextlib.suppress(CallError, WorkflowNotFoundError):
                    await handle.pause(reason=f"pause {n}")

                await asyncio.sleep(0.01)
                with contextlib.suppress(CallError):
                    await handle.unpause()

                await asyncio.sleep(0.003 * n)

            print("result", json.dumps(await handle.result()), flush=True)


@workflow.defn
async def has_steps() -> list[str]:
    """Let a child do them."""
    return await workflow.execute_child_workflow(steps, id="child")


async def again(code: Callable[..., Any]) -> None:
    try:
        print("result", await execute_workflow(code, id="steps", on_failed="resume"))
    except WorkflowFailureError as error:
        print("failure", error.cause)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker"]:
            asyncio.run(serve())
        case ["start", how]:
            asyncio.run(start(how))
        case ["family"]:
            asyncio.run(families())
        case ["pause"]:
            asyncio.run(paused())
        case ["relay"]:
            asyncio.run(relayed())
        case ["again", "child"]:
            asyncio.run(again(has_steps))
        case _:
            asyncio.run(again(steps))
