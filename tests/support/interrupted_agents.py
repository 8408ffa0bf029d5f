"""An agent program to interrupt in the middle of a tool: how it is run, and of what kind the tool is."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from agents import function_tool
from durable_openai_agents import DurableRunner

from support.agents_app import WORKFLOW_ID, effect
from support.agents_bench import ECHO, agent, call

SECONDS = 0 if os.environ.get("QUICK") else 60
# Not for ever: a body that blocks the loop is ended by KeyboardInterrupt alone.
BLOCKED = 0 if os.environ.get("QUICK") else 20


@function_tool
async def look() -> str:
    effect("look")
    return "tidy"


@function_tool
async def waiting() -> str:
    effect("dig")
    await asyncio.sleep(SECONDS)
    return "gold"


@function_tool
def threaded() -> str:
    effect("dig")
    time.sleep(SECONDS)
    return "gold"


@function_tool
async def blocking() -> str:
    effect("dig")
    time.sleep(BLOCKED)  # noqa: ASYNC251  # a careless tool
    return "gold"


def main(how: str, kind: str) -> None:
    tools = [look, waiting, threaded, blocking]
    worker = agent("worker", call("look"), call(kind), ECHO, tools=tools)
    if how == "run":
        result = asyncio.run(DurableRunner.run(worker, "hi", workflow_id=WORKFLOW_ID))
    else:
        result = DurableRunner.run_sync(worker, "hi", workflow_id=WORKFLOW_ID)

    print(result.final_output)


if __name__ == "__main__":
    main(*sys.argv[1:])
