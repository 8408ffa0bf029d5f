"""One agent conversation, by the SDK's own runner and by ours, against a local model server.

A turn is one model call and one tool call. What ours costs more is what recording both costs, the
same at every length of the conversation if nothing in it grows with what is recorded already.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
from agents import Agent, OpenAIProvider, RunConfig, Runner, function_tool
from durable_openai_agents import DurableRunner
from durable_openai_agents.testing import Answer, FunctionCall, ModelRequest, ModelServer
from openai import AsyncOpenAI

LAST = 20
TABLES = {
    "run": "length(id) + length(workflow_id)",
    "start": "length(data)",
    "activation": "length(data)",
    "item": "length(data) + length(address)",
}
turns: list[tuple[float, float]] = []


def policy(request: ModelRequest) -> Answer:
    """Ask for the tool until it was called often enough."""
    turn = request.turn
    if turn >= int(os.environ["TURNS"]):
        return Answer("done")

    text = f"Step {turn}: " + "look at the next file, then say what it does. " * 5
    return Answer(text, calls=[FunctionCall("look", {"file": f"src/module_{turn}.py"})])


@function_tool
async def look(file: str) -> str:
    """Return the content of a file."""
    turns.append((time.perf_counter(), time.process_time()))
    return f"{file}: " + "def f(x): return x + 1\n" * 20


async def _plain(agent: Agent[Any], config: RunConfig, size: int) -> Any:
    return await Runner.run(agent, "Read them all.", run_config=config, max_turns=size + 5)


async def _durable(agent: Agent[Any], config: RunConfig, size: int) -> Any:
    return await DurableRunner.run(
        agent, "Read them all.", run_config=config, max_turns=size + 5, workflow_id="talk"
    )


async def _measure(base_url: str, size: int, folder: Path) -> dict[str, float]:
    client = AsyncOpenAI(base_url=base_url, api_key="none")
    config = RunConfig(model_provider=OpenAIProvider(openai_client=client), tracing_disabled=True)
    agent = Agent(name="reader", instructions="Read.", model="gpt-5", tools=[look])
    figures: dict[str, float] = {}
    for name, run in (("plain", _plain), ("durable", _durable)):
        turns.clear()
        result = await run(agent, config, size)
        for clock, unit in enumerate(("ms", "CPU ms")):
            times = [turn[clock] for turn in turns]
            spans = [(b - a) * 1000 for a, b in pairwise(times)]
            figures[f"{name} {unit}, first"] = statistics.median(spans[1 : LAST + 1])
            figures[f"{name} {unit}, last"] = statistics.median(spans[-LAST:])

    conversation = len(json.dumps(result.to_input_list()).encode())
    recorded = _recorded(folder / "talk.db")
    for what in ("ms, first", "ms, last", "CPU ms, first", "CPU ms, last"):
        figures[f"extra {what}"] = figures[f"durable {what}"] - figures[f"plain {what}"]

    figures["conversation bytes"] = conversation
    figures["recorded bytes"] = recorded
    figures["recorded / conversation"] = recorded / conversation
    return figures


def _recorded(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as connection:
        return sum(
            int(str(connection.execute(f"SELECT total({what}) FROM {table}").get).split(".")[0])
            for table, what in TABLES.items()
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=int)
    given = parser.parse_args()
    os.environ["TURNS"] = str(given.size)
    os.environ["DURABLE_URL"] = f"sqlite:///{given.folder}/talk.db"
    with ModelServer(policy) as server:
        print(json.dumps(asyncio.run(_measure(server.base_url, given.size, given.folder))))


if __name__ == "__main__":
    main()
