"""Parts that several programs of the OpenAI adapter's tests share."""

from __future__ import annotations

import asyncio

from agents import Runner, function_tool
from durable_openai_agents import DurableRunner
from pydantic import BaseModel

from support.agents_projection import project, same


class Point(BaseModel):
    x: int
    y: float = 0.5


def refund_tool(bench):
    @function_tool
    async def refund(cents: int) -> str:
        bench.ran.append(cents)
        return f"{cents} back"

    return refund


def compare_runs(bench, run, *agents):
    bench.forget()
    plain = asyncio.run(run(Runner))
    bodies = bench.bodies()
    bench.forget()
    live = asyncio.run(run(DurableRunner, workflow_id="run"))
    same(bench.bodies(), bodies, "what the model server saw")
    bench.forget()
    recorded = asyncio.run(run(DurableRunner, workflow_id="run"))
    assert bench.requests() == []
    for result in (live, recorded):
        same(project(result, *agents), project(plain, *agents), "the result")

    return recorded
