"""I/O of guardrails, hooks and the like inside a durable run: refused by name, and kept to mend."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx2
import pytest
from agents import (
    AgentHooks,
    GuardrailFunctionOutput,
    RunHooks,
    ToolGuardrailFunctionOutput,
    ToolsToFinalOutputResult,
    function_tool,
    handoff,
    input_guardrail,
    output_guardrail,
    tool_input_guardrail,
    tool_output_guardrail,
)
from durable_core import activity, workflow
from durable_core.exceptions import NotSupported
from durable_openai_agents import inline
from support.agents_bench import ECHO, agent, call, say

pytest_plugins = ["support.agents_fixtures"]

PASSED = GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


def work() -> str:
    return "checked"


async def thread() -> None:
    await asyncio.to_thread(work)


async def http() -> None:
    async with httpx2.AsyncClient() as client:
        await client.get("http://127.0.0.1:9/")


async def plain_socket() -> None:
    socket.create_connection(("127.0.0.1", 9))


async def file() -> None:
    Path("checked").write_text("by a guardrail")  # noqa: ASYNC240  # which is the point


class Functions:
    """One function of each kind, each of which does the same I/O."""

    def __init__(self, io: Any) -> None:
        async def check_input(context: Any, agent: Any, input: Any) -> Any:
            await io()
            return PASSED

        async def check_output(context: Any, agent: Any, output: Any) -> Any:
            await io()
            return PASSED

        async def check_call(data: Any) -> Any:
            await io()
            return ToolGuardrailFunctionOutput.allow()

        async def check_result(data: Any) -> Any:
            await io()
            return ToolGuardrailFunctionOutput.allow()

        async def use_tools(context: Any, results: Any) -> Any:
            await io()
            return ToolsToFinalOutputResult(is_final_output=False)

        async def on_transfer(context: Any) -> None:
            await io()

        @inline
        async def condition(context: Any, agent: Any) -> bool:
            await io()
            return True

        class OnLlmStart(RunHooks):
            async def on_llm_start(self, *_: Any) -> None:
                await io()

        class OnToolEnd(RunHooks):
            async def on_tool_end(self, *_: Any) -> None:
                await io()

        class OnStart(AgentHooks):
            async def on_start(self, *_: Any) -> None:
                await io()

        def tool(**fields: Any) -> Any:
            @function_tool
            def look() -> str:
                return "tidy"

            for name, value in fields.items():
                setattr(look, name, value)

            return look

        look = call("look")
        other = agent("Other", say("ok"), offset=1)
        self.runs: dict[str, tuple[Any, dict[str, Any]]] = {
            "check_input": (
                agent("A", say("ok"), input_guardrails=[input_guardrail(check_input)]),
                {},
            ),
            "check_output": (
                agent("A", say("ok"), output_guardrails=[output_guardrail(check_output)]),
                {},
            ),
            "check_call": (
                agent(
                    "A",
                    look,
                    say("ok"),
                    tools=[tool(tool_input_guardrails=[tool_input_guardrail(check_call)])],
                ),
                {},
            ),
            "check_result": (
                agent(
                    "A",
                    look,
                    say("ok"),
                    tools=[tool(tool_output_guardrails=[tool_output_guardrail(check_result)])],
                ),
                {},
            ),
            "use_tools": (
                agent("A", look, say("ok"), tools=[tool()], tool_use_behavior=use_tools),
                {},
            ),
            "on_transfer": (
                agent(
                    "A",
                    call("transfer_to_other"),
                    handoffs=[handoff(other, on_handoff=on_transfer)],
                ),
                {},
            ),
            "condition": (agent("A", say("ok"), tools=[tool(is_enabled=condition)]), {}),
            "on_llm_start": (agent("A", say("ok")), {"hooks": OnLlmStart()}),
            "on_tool_end": (agent("A", look, say("ok"), tools=[tool()]), {"hooks": OnToolEnd()}),
            "on_start": (agent("A", say("ok"), hooks=OnStart()), {}),
        }


KINDS = list(Functions(None).runs)


@pytest.mark.needs_a_store
@pytest.mark.parametrize("io", [thread, http, plain_socket, file])
@pytest.mark.parametrize("kind", KINDS)
def test_io_in_the_agent_loop_is_refused_by_the_name_of_its_function(bench, kind, io):
    broken = [io]

    async def maybe() -> None:
        if broken:
            await broken[0]()

    start, arguments = Functions(maybe).runs[kind]
    error = bench.failure(start, workflow_id="run", **arguments)
    assert isinstance(error, NotSupported)
    assert f"{kind} ({__file__}:" in str(error)
    assert "put it into a tool" in str(error)
    assert "@activity.defn" in str(error)
    # The run is kept: mended code continues it, and asks no model twice.
    assert bench.status() == "RUNNING"
    broken.clear()
    assert bench.run_once(start, workflow_id="run", **arguments).final_output == "ok"
    assert len({request.digest for request in bench.requests()}) == len(bench.requests())


@pytest.mark.parametrize("io", [thread, http])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_not_told_of_io_that_its_agent_tool_is_refused(bench, kind, io):
    inner, arguments = Functions(io).runs[kind]
    ask = inner.as_tool("ask", "Ask", **arguments)
    outer = agent("Outer", call("ask", input="x"), ECHO, tools=[ask])
    error = bench.failure(outer, workflow_id="run")
    assert isinstance(error, NotSupported)
    assert f"{kind} ({__file__}:" in str(error)
    assert [r.agent for r in bench.requests()].count("Outer") == 1


def test_a_thread_of_anyio_is_refused_before_it_begins(bench):
    @input_guardrail(run_in_parallel=False)
    async def check(context: Any, agent: Any, input: Any) -> GuardrailFunctionOutput:
        await anyio.to_thread.run_sync(work)
        return PASSED

    before = threading.enumerate()
    error = bench.failure(agent("A", say("ok"), input_guardrails=[check]), workflow_id="run")
    assert isinstance(error, NotSupported)
    assert "started a thread" in str(error)
    assert {*threading.enumerate()} <= {*before}


@activity.defn
def look_up(text: str) -> str:
    return f"{text} looked up"


def test_a_guardrail_may_do_its_io_in_an_activity(bench):
    @input_guardrail
    async def check(context: Any, agent: Any, input: Any) -> GuardrailFunctionOutput:
        found = await workflow.execute_activity(look_up, input)
        return GuardrailFunctionOutput(output_info=found, tripwire_triggered=False)

    careful = agent("Careful", say("ok"), input_guardrails=[check])
    for _ in range(2):
        result = bench.run_once(careful, "it", workflow_id="run")
        assert result.input_guardrail_results[0].output.output_info == "it looked up"

    assert [a.name for a in bench.activities()].count("look_up") == 1


def test_the_sdks_own_runner_does_the_io(bench):
    start, arguments = Functions(thread).runs["check_input"]
    assert bench.plainly(start, **arguments).final_output == "ok"
