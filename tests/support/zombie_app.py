"""A worker that is stopped and woken again: its activities write when they began."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from datetime import timedelta

from durable_core import Client, Worker, activity, workflow
from durable_core.common import RetryPolicy

from support import ledger

QUEUE = "zombies"
STEPS = 4


@activity.defn
async def step(total: int, number: int) -> int:
    began = time.time()
    await asyncio.sleep(0.002)
    ledger.from_environment().write(number, at=began)
    return total + number


@activity.defn
def thread(number: int) -> int:
    began = time.time()
    time.sleep(0.002)
    ledger.from_environment().write(number, at=began)
    return number


@activity.defn(
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.3), backoff_coefficient=1.0)
)
async def flaky(number: int) -> int:
    """Fail once: a worker that is stopped meanwhile wakes up to a next attempt that is due."""
    ledger.from_environment().write(number, at=time.time())
    if activity.info().attempt == 1:
        raise ConnectionError("the first attempt fails")

    return number


@workflow.defn
class Sum:
    """A row of steps, activities side by side in each, and short timers."""

    @workflow.run
    async def run(self, first: int) -> int:
        total = first
        for number in range(1, STEPS + 1):
            total, *more = await asyncio.gather(
                workflow.execute_activity(step, args=[total, number]),
                workflow.execute_activity(thread, number),
                workflow.execute_activity(flaky, number),
            )
            total += sum(more)
            await workflow.sleep(0.02)

        return total


def expected(first: int) -> int:
    return first + 3 * sum(range(1, STEPS + 1))


async def serve(identity: str, lease: float) -> None:
    async with await Client.connect() as client:
        worker = Worker(
            client,
            task_queue=QUEUE,
            workflows=[Sum],
            activities=[step, thread, flaky],
            # Bodies that wait for their turn begin after a stop without a commit before.
            max_concurrent_activities=3,
            identity=identity,
            lease=timedelta(seconds=lease),
            # The test reads the rows of workers that are gone.
            retention=None,
        )
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with worker:
            print("ready", os.getpid(), flush=True)
            await stop.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("durable_core.worker").addFilter(lambda r: "next attempt" not in r.msg)
    asyncio.run(serve(sys.argv[1], float(sys.argv[2])))
