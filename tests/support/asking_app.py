"""Runs that ask people, answered by the same program or another one, for kills.

``serve`` starts runs, or finds them, serves them, and answers what is there to answer, each answer
once as far as is known; it prints the results. ``worker`` only serves. ``answer ME`` answers
what a run asks as soon as it is there, as others do at the same time, and prints which of its
answers were taken, and who was faster where they were not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

from durable_core import Client, Worker, workflow
from durable_core.client import WorkflowExecutionStatus
from durable_core.common import WorkflowIDReusePolicy
from durable_core.exceptions import RequestClosedError, WorkflowAlreadyStartedError

from support.asking import chain

QUEUE = "asks"
RUNS = 3
STEPS = 3
ONCE = WorkflowIDReusePolicy.REJECT_DUPLICATE


@workflow.defn
async def patient(count: int) -> list[str]:
    """Ask one question after the other, each for a short time; say what came of each."""
    came: list[str] = []
    for n in range(count):
        try:
            answer = await workflow.request("number", n, str, timeout=0.02 * (n % 3 + 1))
        except TimeoutError:
            came.append("late")
        else:
            came.append(answer.value)

    return came


CODE = [chain, patient]


def told(what: str) -> None:
    """Keep, outside of the engine, that an answer was taken."""
    fd = os.open(Path(os.environ["TOLD"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, what.encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)


async def serve() -> None:
    async with await Client.connect() as client:
        handles = []
        for n in range(RUNS):
            code = patient if n % 2 else chain
            with contextlib.suppress(WorkflowAlreadyStartedError):
                await client.start_workflow(
                    code, STEPS, id=f"{n}", task_queue=QUEUE, id_reuse_policy=ONCE
                )

            handles.append(client.get_workflow_handle(f"{n}"))

        async with Worker(client, task_queue=QUEUE, workflows=CODE, activities=[]):
            answering = asyncio.create_task(_answer_all(client))
            results = [await handle.result() for handle in handles]
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

        print("results", json.dumps(results), flush=True)


async def _answer_all(client: Client) -> None:
    while True:
        async for request in client.list_requests(limit=1):
            text = request.workflow_type == "patient"
            if text and request.question % 3 == 0:
                # At about the time when it is withdrawn.
                await asyncio.sleep(0.018)

            value = f"{os.getpid()} {request.id}" if text else int(request.question) * 2
            with contextlib.suppress(RequestClosedError):
                await client.answer(request, value)
                told(json.dumps([request.workflow_id, request.id, value]))

        await asyncio.sleep(0.002)


async def worker() -> None:
    async with (
        await Client.connect() as client,
        Worker(client, task_queue=QUEUE, workflows=CODE, activities=[]),
    ):
        print("serving", flush=True)
        await asyncio.Event().wait()


async def answer(me: str) -> None:
    async with await Client.connect(identity=me) as client:
        handle = client.get_workflow_handle("w")
        taken: list[int] = []
        beaten: list[str | None] = []
        while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
            for request in await handle.requests():
                try:
                    await client.answer(request, int(me))
                except RequestClosedError as error:
                    beaten.append(error.by)
                else:
                    taken.append(request.question)

        print("taken", json.dumps([taken, beaten]), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker"]:
            asyncio.run(worker())
        case ["answer", me]:
            asyncio.run(answer(me))
        case _:
            asyncio.run(serve())
