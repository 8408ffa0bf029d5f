"""An agent program to kill: ``plain`` runs it by the SDK's runner, ``durable`` by ours.

Three tools at once (one of them sync), an agent as tool, a handoff, guardrails on both ends and a
structured output. It prints what is visible of the result, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from agents import (
    Agent,
    GuardrailFunctionOutput,
    RunContextWrapper,
    Runner,
    function_tool,
    input_guardrail,
    output_guardrail,
)
from durable_openai_agents import DurableRunner
from pydantic import BaseModel

from support.agents_bench import agent, call, calls, say, say_json
from support.agents_projection import project

IMPORTED = time.time()
WORKFLOW_ID = "audit-1"
STEPS = 10
"""Model calls and tool bodies of an undisturbed run."""


class Report(BaseModel):
    title: str
    findings: list[str]


def effect(tool: str) -> None:
    """Append a line to the ledger, and force it to disk."""
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, f"{tool} {time.time()}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)


@function_tool
async def look(place: str) -> str:
    """Look somewhere."""
    await asyncio.sleep(0.01)
    effect("look")
    return f"{place} is tidy"


@function_tool
def measure(what: str) -> dict[str, int]:
    """Measure something, in a thread."""
    effect("measure")
    return {what: 42}


@function_tool
async def ask(question: str) -> list[str]:
    """Ask somebody."""
    effect("ask")
    return [question, "nobody knows"]


@function_tool
def consult(book: str) -> str:
    """Look something up."""
    effect("consult")
    return f"{book} says so"


@input_guardrail
def polite(
    ctx: RunContextWrapper[None], agent: Agent[None], input: object
) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info={"polite": True}, tripwire_triggered=False)


@output_guardrail
async def complete(
    ctx: RunContextWrapper[None], agent: Agent[None], output: Report
) -> GuardrailFunctionOutput:
    await asyncio.sleep(0)
    return GuardrailFunctionOutput(
        output_info=len(output.findings), tripwire_triggered=not output.findings
    )


expert = agent(
    "expert", call("consult", book="the book"), say("the book is right"), tools=[consult]
)
writer = agent(
    "writer",
    say_json({"title": "Audit", "findings": ["tidy", "42"]}),
    offset=3,
    output_type=Report,
    output_guardrails=[complete],
)
auditor = agent(
    "auditor",
    calls(
        call("look", place="the attic"), call("measure", what="dust"), call("ask", question="why")
    ),
    call("ask_expert", input="is that right?"),
    call("transfer_to_writer"),
    tools=[look, measure, ask, expert.as_tool("ask_expert", "Ask an expert.")],
    handoffs=[writer],
    input_guardrails=[polite],
)


async def main(how: str) -> None:
    print(json.dumps({"imported": IMPORTED}))
    if how == "plain":
        result = await Runner.run(auditor, "Audit the house.")
    else:
        result = await DurableRunner.run(auditor, "Audit the house.", workflow_id=WORKFLOW_ID)

    assert result.last_agent is writer
    print(json.dumps(project(result, auditor, writer, expert)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
