"""A plain script with one durable run: ``MODE`` says how it is driven, the ledger what it did."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import durable_core
from durable_core import activity, workflow

from support import ledger

NAMED = "--unnamed" not in sys.argv


@activity.defn
async def first() -> str:
    ledger.from_environment().write("first")
    return "first"


@activity.defn
async def on_the_loop() -> str:
    ledger.from_environment().write("begun")
    await asyncio.sleep(0 if os.environ.get("QUICK") else 60)
    ledger.from_environment().write("done")
    return "done"


@activity.defn
def in_a_thread() -> str:
    ledger.from_environment().write("begun")
    time.sleep(0 if os.environ.get("QUICK") else 60)
    ledger.from_environment().write("done")
    return "done"


@workflow.defn
async def job(kind: str) -> str:
    await first()
    if kind == "loop":
        return await on_the_loop()

    return await workflow.execute_activity(in_a_thread)


async def main(kind: str) -> None:
    if NAMED:
        print(await durable_core.execute_workflow(job, kind, id="job-1"))
    else:
        await durable_core.embedded.run(job, (kind,))


async def leaves_it(kind: str) -> None:
    """Return while the run is under way, so that its loop ends around it."""
    task = asyncio.ensure_future(main(kind))
    while not any(name.endswith("begun") for name in ledger.from_environment().counts()):
        await asyncio.sleep(0.01)

    print("main is over", task.done())


if __name__ == "__main__":
    mode, kind = sys.argv[1:3]
    asyncio.run(leaves_it(kind) if mode == "leave" else main(kind))
