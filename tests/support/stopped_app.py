"""A plain program whose run takes a while, with a lease that is short enough for a test."""

from __future__ import annotations

import asyncio
import json
import logging

import durable_core
from durable_core import _defaults, activity, workflow

from support import ledger

LEASE = 0.6
RUN = "order-1"
STEPS = 6


@activity.defn
async def step(total: int, number: int) -> int:
    ledger.from_environment().write(number)
    await asyncio.sleep(0.1)
    return total + number


@workflow.defn
async def order() -> int:
    total = 0
    for number in range(STEPS):
        total = await step(total, number)

    return total


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    _defaults.LEASE = LEASE  # type: ignore[misc]
    print(json.dumps({"result": asyncio.run(durable_core.execute_workflow(order, id=RUN))}))
