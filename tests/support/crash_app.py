"""A program to kill: every kind of step once, and each effect in the ledger.

Run as a script it executes the workflow in its own process; with ``worker`` as argument it is a
worker that serves the queue until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import timedelta

import durable_core
from durable_core import Client, RetryPolicy, Worker, activity, workflow

from support import ledger

IMPORTED = time.time()
QUEUE = "crash"
WORKFLOW_ID = "crash-1"
EXPECTED = {"sum": 106, "flaky": "flaky after a failure", "left": ["a", "b", "c"]}


@activity.defn
async def add(total: int, number: int) -> int:
    ledger.from_environment().write(number)
    return total + number


@activity.defn
def blocking(name: str) -> str:
    ledger.from_environment().write(name)
    time.sleep(0.01)
    return name


@activity.defn
async def concurrent(name: str) -> str:
    await asyncio.sleep(0.01)
    ledger.from_environment().write(name)
    return name


@activity.defn(
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.02), maximum_attempts=4)
)
async def flaky() -> str:
    if activity.info().attempt == 1:
        raise ConnectionError("the first attempt fails")

    ledger.from_environment().write("done")
    return "flaky after a failure"


@workflow.defn
class Mixed:
    @workflow.run
    async def run(self, first: int) -> dict[str, object]:
        total = first
        for number in (1, 2, 3):
            total = await workflow.execute_activity(add, args=[total, number])

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(workflow.execute_activity(concurrent, "a")),
                group.create_task(workflow.execute_activity(blocking, "b")),
                group.create_task(workflow.execute_activity(concurrent, "c")),
            ]

        text = await workflow.execute_activity(flaky)
        await asyncio.sleep(0.05)
        return {"sum": total, "flaky": text, "left": [t.result() for t in tasks]}


async def serve() -> None:
    activities = [add, blocking, concurrent, flaky]
    async with await Client.connect() as client:
        await Worker(client, task_queue=QUEUE, workflows=[Mixed], activities=activities).run()


def main() -> None:
    print(json.dumps({"imported": IMPORTED, "pid": os.getpid()}))
    if sys.argv[1:] == ["worker"]:
        asyncio.run(serve())
        return

    workflow_id = sys.argv[1] if len(sys.argv) > 1 else WORKFLOW_ID
    result = asyncio.run(durable_core.execute_workflow(Mixed.run, 100, id=workflow_id))
    print(json.dumps({"result": result}))


if __name__ == "__main__":
    main()
