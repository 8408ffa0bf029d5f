"""durable_core under the workloads: a client and a worker of one process, on SQLite."""

from __future__ import annotations

import asyncio

import workloads as w
from durable_core import activity, workflow
from durable_core.client import Client
from durable_core.worker import Worker

QUEUE = "bench"


@activity.defn
async def step(kind: str, id: str, n: int) -> str:
    return await w.BODIES[kind](id, n)


@workflow.defn
class Steps:
    def __init__(self) -> None:
        self._signals = 0

    @workflow.run
    async def run(self, kind: str, steps: int) -> int:
        run = workflow.info().workflow_id
        for n in range(1, steps + 1):
            if kind == "signals":
                await workflow.wait_condition(lambda n=n: self._signals >= n)

            await workflow.execute_activity(step, args=[kind, run, n])

        if kind == "sleep":
            await asyncio.sleep(3600)

        return steps

    @workflow.signal
    def go(self) -> None:
        self._signals += 1


class Durable(w.System):
    """Runs of an embedded store."""

    name = "durable"

    async def open(self) -> None:
        self.client = await Client.connect(f"sqlite:///{self.folder}/durable.db")
        self.worker = Worker(
            self.client, task_queue=QUEUE, workflows=[Steps], activities=[step], retention=None
        )
        await self.worker.start(takes_runs=True)

    async def close(self) -> None:
        await self.worker.shutdown()
        await self.client.close()

    async def start(self, id: str, plan: w.Plan) -> None:
        await self.client.start_workflow(
            Steps.run, args=[plan.kind, plan.steps], id=id, task_queue=QUEUE
        )

    async def result(self, id: str) -> int:
        return await self.client.get_workflow_handle(id).result()

    async def signal(self, id: str) -> None:
        await self.client.get_workflow_handle(id).signal(Steps.go)

    async def resume(self) -> None:
        """Do nothing: a worker looks for runs by itself."""


if __name__ == "__main__":
    w.main(Durable)
