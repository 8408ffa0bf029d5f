"""An activity that says how far it came, for kills. Prints where each of its attempts began."""

from __future__ import annotations

import asyncio
import os
import time

import durable_core
from durable_core import activity, workflow

LAST = 40


@activity.defn
async def count() -> int:
    details = activity.info().heartbeat_details
    reached = details[0] if details else 0
    print("from", reached, flush=True)
    for number in range(reached + 1, LAST + 1):
        activity.heartbeat(number)
        print("said", number, flush=True)
        await asyncio.sleep(0.05)

    return reached


@activity.defn
def count_in_a_thread() -> int:
    details = activity.info().heartbeat_details
    reached = details[0] if details else 0
    print("from", reached, flush=True)
    for number in range(reached + 1, LAST + 1):
        activity.heartbeat(number)
        print("said", number, flush=True)
        time.sleep(0.05)

    return reached


@workflow.defn
async def counting(kind: str) -> int:
    return await workflow.execute_activity(count if kind == "async" else count_in_a_thread)


if __name__ == "__main__":
    kind = os.environ["KIND"]
    print("result", asyncio.run(durable_core.execute_workflow(counting, kind, id=kind)))
