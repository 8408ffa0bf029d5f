"""A script whose agent calls a tool that never returns: which, and how it is run, say its arguments.

``thread`` is a sync tool, ``loop`` an async one, ``blocking`` an async one that blocks its loop;
``run`` and ``run_sync`` drive it. With ``QUICK`` the tools return; ``LIMIT`` limits an attempt.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from datetime import timedelta

from agents import Agent, OpenAIProvider, RunConfig, function_tool
from durable_openai_agents import CallOptions, DurableRunner, RunOptions
from openai import AsyncOpenAI

from support.agents_bench import ECHO, call, mind


def quick() -> bool:
    print("begun", flush=True)
    return bool(os.environ.get("QUICK"))


@function_tool
def thread(text: str) -> str:
    if not quick():
        threading.Event().wait()

    return text


@function_tool
async def loop(text: str) -> str:
    if not quick():
        await asyncio.Event().wait()

    return text


@function_tool
async def blocking(text: str) -> str:
    if not quick():
        while not any(task.cancelling() for task in asyncio.all_tasks()):
            time.sleep(0.01)  # noqa: ASYNC251  # what people do

        print("asked to end", flush=True)
        time.sleep(600)  # noqa: ASYNC251

    return text


async def run(kind: str) -> str:
    async with AsyncOpenAI(base_url=os.environ["MODEL"], api_key="sk-test") as client:
        return (await DurableRunner.run(**arguments(kind, client))).final_output


def run_sync(kind: str) -> str:
    client = AsyncOpenAI(base_url=os.environ["MODEL"], api_key="sk-test")
    return DurableRunner.run_sync(**arguments(kind, client)).final_output


def arguments(kind: str, client: AsyncOpenAI):
    tools = {"thread": thread, "loop": loop, "blocking": blocking}
    limit = os.environ.get("LIMIT")
    options = CallOptions(
        start_to_close_timeout=None if limit is None else timedelta(seconds=float(limit))
    )
    return {
        "starting_agent": Agent(
            name="Worker",
            instructions=mind("Worker", call(kind, text="at last"), ECHO),
            tools=[tools[kind]],
        ),
        "input": "hi",
        "run_config": RunConfig(
            model_provider=OpenAIProvider(openai_client=client), tracing_disabled=True
        ),
        "workflow_id": "chat-1",
        "options": RunOptions(tools={kind: options}),
    }


if __name__ == "__main__":
    kind, how = sys.argv[1:]
    print(run_sync(kind) if how == "run_sync" else asyncio.run(run(kind)))
