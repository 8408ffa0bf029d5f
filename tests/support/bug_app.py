"""A worker whose workflow code has a bug, or had one: the second argument is the code's version.

``good`` is right. ``bug`` raises after the activity. ``drift`` asks for another activity than the
record holds. ``slow`` waits for a long time in the second activity.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from durable_core import Client, RetryPolicy, Worker, activity, workflow

from support import ledger

VERSION = sys.argv[1] if len(sys.argv) > 1 else "good"
QUEUE = "bugs"
LATER = RetryPolicy(initial_interval=timedelta(seconds=1.5), maximum_attempts=3)


@activity.defn
async def charge(cents: int) -> str:
    ledger.from_environment().write(cents)
    return f"receipt for {cents}"


@activity.defn
async def refund(cents: int) -> str:
    ledger.from_environment().write(cents)
    return f"refund of {cents}"


@activity.defn
async def deliver(receipt: str) -> str:
    ledger.from_environment().write("started")
    if VERSION == "slow":
        await asyncio.sleep(600)

    ledger.from_environment().write("done")
    return f"delivered with {receipt}"


@activity.defn(retry_policy=LATER)
async def unsteady() -> int:
    attempt = activity.info().attempt
    ledger.from_environment().write(attempt)
    if attempt == 1:
        raise ConnectionError("no route")

    return attempt


@workflow.defn
class Order:
    @workflow.run
    async def run(self, cents: int) -> str:
        step = refund if VERSION == "drift" else charge
        receipt = await workflow.execute_activity(step, cents)
        if VERSION == "bug":
            raise KeyError("no such customer")

        return await workflow.execute_activity(deliver, receipt)


@workflow.defn
class Unsteady:
    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity(unsteady)


async def serve() -> None:
    async with await Client.connect() as client:
        await Worker(
            client,
            task_queue=QUEUE,
            workflows=[Order, Unsteady],
            activities=[charge, refund, deliver, unsteady],
        ).run()


if __name__ == "__main__":
    asyncio.run(serve())
