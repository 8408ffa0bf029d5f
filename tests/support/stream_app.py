"""Runs that write to streams, for kills.

``serve`` continues the run ``w`` until it has ended, and prints its result and what a reader in the
same process got of the stream ``tokens``. ``once`` does so with an activity that may happen at most
once, and kills its process. ``slow`` serves until it is killed, on a short lease.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from datetime import timedelta

from durable_core import Client, Worker, activity, workflow
from durable_core.common import RetryPolicy
from durable_core.exceptions import ApplicationError, OutcomeUnknown

QUEUE = "streams"
AT_ONCE = RetryPolicy(initial_interval=timedelta(milliseconds=1), backoff_coefficient=1.0)


@dataclass
class Say:
    """A text, and the places behind which the first attempts fail."""

    text: str
    fails_at: list[int]
    pause: float = 0.001


@activity.defn
async def say(what: Say) -> int:
    out, attempt = activity.stream("tokens"), activity.info().attempt
    for place, letter in enumerate(what.text):
        if attempt <= len(what.fails_at) and what.fails_at[attempt - 1] == place:
            raise ApplicationError(f"attempt {attempt} fails at {place}")

        out.write(letter)
        await asyncio.sleep(what.pause)

    return len(what.text)


@activity.defn(delivery="at_most_once")
async def say_once() -> str:
    out = activity.stream("tokens")
    out.write("half")
    # So long that it is there for readers.
    await asyncio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
    return "whole"


@workflow.defn
async def tell(turns: list[list[Say]]) -> int:
    """Say the texts of a turn at once, and the turns one after the other."""
    log, said = workflow.stream("log"), 0
    for number, turn in enumerate(turns):
        log.write(f"turn {number}")
        said += sum(
            await asyncio.gather(
                *(workflow.execute_activity(say, what, retry_policy=AT_ONCE) for what in turn)
            )
        )
        log.write(f"said {said}")

    log.end()
    return said


@workflow.defn
async def tell_once() -> str:
    try:
        return await say_once()
    except OutcomeUnknown:
        return "unknown"


WORKFLOWS, ACTIVITIES = [tell, tell_once], [say, say_once]


async def serve() -> None:
    async with await Client.connect() as client:
        handle = client.get_workflow_handle("w")
        async with Worker(
            client, task_queue=QUEUE, workflows=WORKFLOWS, activities=ACTIVITIES, lease=LEASE
        ):
            inside = handle.stream("tokens").collect()
            result, got = await asyncio.gather(handle.result(), inside)

        print("result", json.dumps([result, got]), flush=True)


LEASE = timedelta(seconds=float(os.environ.get("LEASE", "10")))

if __name__ == "__main__":
    assert sys.argv[1:] == ["serve"]
    asyncio.run(serve())
