"""A workflow that only its worker's process knows; others ask it.

``serve`` starts a run, unless it is there, and serves it until it is killed. ``end`` lets it end.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from durable_core import Client, Worker, workflow
from durable_core.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from durable_core.exceptions import WorkflowAlreadyStartedError

QUEUE = "asked"


@workflow.defn(name="Asked")
class Asked:
    """Counts until it is told to end."""

    def __init__(self) -> None:
        self.counted = 0
        self.ends = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.ends)
        return self.counted

    @workflow.signal
    def count(self) -> None:
        self.counted += 1

    @workflow.signal
    def end(self) -> None:
        self.ends = True

    @workflow.query
    def counted_so_far(self, times: int = 1) -> list[int]:
        return [self.counted] * times

    @workflow.query
    def large(self) -> str:
        return "x" * 1_000_000

    @workflow.query
    def broken(self) -> None:
        raise ValueError("it is broken")


async def serve(cached: int) -> None:
    async with (
        await Client.connect() as client,
        Worker(client, task_queue=QUEUE, workflows=[Asked], max_cached_workflows=cached),
    ):
        with contextlib.suppress(WorkflowAlreadyStartedError):
            await client.start_workflow(
                Asked.run,
                id="w",
                task_queue=QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            )

        print("serving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
