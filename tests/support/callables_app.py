"""An agent program to kill, whose instructions, prompt and conditions are asynchronous.

Three turns of two agents: a tool, a handoff, an answer. It prints what is visible of the result.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from agents import Agent, GenerateDynamicPromptData, Runner, function_tool, handoff
from durable_openai_agents import DurableRunner

from support.agents_app import WORKFLOW_ID, effect
from support.agents_bench import call, mind, say
from support.agents_projection import project

PROGRAM = Path(__file__)


async def greeter_says(context: Any, agent: Agent[Any]) -> str:
    await asyncio.to_thread(effect, "instructions")
    return mind("greeter", call("look"), call("transfer_to_writer"))


async def writer_says(context: Any, agent: Agent[Any]) -> str:
    await asyncio.to_thread(effect, "instructions")
    return mind("writer", say("done"), offset=2)


async def prompt(data: GenerateDynamicPromptData) -> Any:
    await asyncio.to_thread(effect, "prompt")
    return {"id": f"pmpt_{data.agent.name}"}


async def is_enabled(context: Any, agent: Any) -> bool:
    await asyncio.to_thread(effect, "is_enabled")
    return True


@function_tool(is_enabled=is_enabled)
async def look() -> str:
    """Look around."""
    effect("look")
    return "tidy"


writer = Agent(name="writer", instructions=writer_says, prompt=prompt)
greeter = Agent(
    name="greeter",
    instructions=greeter_says,
    prompt=prompt,
    tools=[look],
    handoffs=[handoff(writer, is_enabled=is_enabled)],
)


async def main(how: str) -> None:
    if how == "plain":
        result = await Runner.run(greeter, "hello")
    else:
        result = await DurableRunner.run(greeter, "hello", workflow_id=WORKFLOW_ID)

    assert result.last_agent is writer
    print(json.dumps(project(result, greeter, writer)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
