"""Async instructions, prompts and ``is_enabled``: recorded calls, and otherwise as with the SDK."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import dataclasses
import functools
import json
import threading
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    GenerateDynamicPromptData,
    Handoff,
    RunHooks,
    Runner,
    UserError,
    function_tool,
    handoff,
)
from durable_core import adapter, workflow
from durable_openai_agents import DurableRunner, inline
from support import callables_app
from support.agents_bench import ECHO, agent, call, calls, mind, say
from support.agents_house import check, shown

pytest_plugins = ["support.agents_fixtures"]


async def io() -> None:
    """Do what only a real event loop can."""
    await asyncio.to_thread(threading.active_count)


def made(bench, name: str, *turns: Any, offset: int = 0) -> Any:
    """Return instructions that do I/O and note that they ran."""

    async def instructions(context: Any, agent: Agent[Any]) -> str:
        await io()
        bench.ran.append(f"instructions of {agent.name}")
        return mind(name, *turns, offset=offset)

    return instructions


def when(bench, answer: Any = True, *, after: Any = io) -> Any:
    """Return a condition that does I/O and notes that it was asked."""

    async def condition(context: Any, agent: Any) -> Any:
        await after()
        bench.ran.append(f"enabled for {agent.name}")
        return answer

    return condition


def plain_tool(name: str, **options: Any) -> FunctionTool:
    @function_tool(name_override=name, **options)
    async def tool() -> str:
        """Do nothing."""
        return f"{name} done"

    return tool


def units(bench, name: str, id: str = "run") -> list[Any]:
    return bench.activities(id, name=f"openai_agents.{name}")


# -- instructions ------------------------------------------------------------------------------


def test_async_instructions_run_once_per_turn_and_not_on_replay(bench):
    worker = Agent(
        name="Worker", instructions=made(bench, "Worker", call("a"), say("ok")), tools=[]
    )
    worker.tools.append(plain_tool("a"))
    done = bench.compare(worker)
    assert done.ran == ["instructions of Worker"] * 2
    assert done.recorded.last_agent is worker
    assert [(u.key, u.status) for u in units(bench, "instructions")] == [
        ("Worker", "completed")
    ] * 2
    assert units(bench, "instructions")[0].result == mind("Worker", call("a"), say("ok"))


def test_instructions_run_on_the_callers_loop_in_a_copy_of_the_context(bench):
    here = contextvars.ContextVar("here", default="nowhere")
    seen: list[Any] = []

    async def instructions(context: Any, agent: Agent[Any]) -> str:
        seen.append(
            (asyncio.get_running_loop() is outer[0], here.get(), context.context, agent is worker)
        )
        here.set("changed inside")
        return mind("Worker", say("ok"))

    outer: list[Any] = []
    worker = Agent(name="Worker", instructions=instructions)

    async def main() -> str:
        outer.append(asyncio.get_running_loop())
        here.set("main")
        await bench.run(worker, context="mine")
        return here.get()

    assert asyncio.run(main()) == "main"
    assert seen == [(True, "main", "mine", True)]


class Composer:
    """Instructions in forms that are no plain ``async def``."""

    def __init__(self, bench) -> None:
        self.bench = bench

    async def __call__(self, context: Any, agent: Any) -> str:
        return await self.compose("object", context, agent)

    async def compose(self, how: str, context: Any, agent: Any) -> str:
        await io()
        self.bench.ran.append(how)
        return mind(agent.name, say(how))

    async def method(self, context: Any, agent: Any) -> str:
        return await self.compose("method", context, agent)

    def form(self, name: str) -> Any:
        forms: dict[str, Any] = {
            "object": self,
            "method": self.method,
            "partial": functools.partial(self.compose, "partial"),
            "lambda": lambda context, agent: self.compose("lambda", context, agent),
        }
        return forms[name]


@pytest.mark.parametrize("form", ["object", "method", "partial", "lambda"])
def test_whatever_returns_an_awaitable_is_recorded(bench, form):
    done = bench.compare(Agent(name="Worker", instructions=Composer(bench).form(form)))
    assert done.live.final_output == form
    assert done.ran == [form]


@pytest.mark.counts_executions
def test_plain_instructions_run_in_the_workflow(bench):
    engines: list[Any] = []

    def instructions(context: Any, agent: Any) -> str:
        engines.append(adapter.current_engine() is not None)
        return mind(agent.name, say("ok"))

    worker = Agent(name="Worker", instructions=instructions)
    for _ in range(2):
        bench.run_once(worker, workflow_id="run")

    assert engines == [True, True]
    assert units(bench, "instructions") == []


def test_instructions_of_another_signature_are_refused_as_by_the_sdk(bench):
    async def instructions(context: Any) -> str:
        return "never"

    plain, live, recorded = bench.compare_failures(Agent(name="Worker", instructions=instructions))
    assert isinstance(live, TypeError)
    assert "exactly 2 arguments" in str(live)


def test_agents_in_agents_have_instructions_of_their_own(bench):
    inner = Agent(name="Same", instructions=made(bench, "Inner", say("deep")))
    outer = Agent(
        name="Same",
        instructions=made(bench, "Outer", call("ask", input="x"), ECHO),
        tools=[inner.as_tool("ask", "Ask")],
    )
    done = bench.compare(outer, agents=(inner,))
    assert json.loads(done.recorded.final_output) == ["deep"]
    keys = [u.key for u in units(bench, "instructions")]
    assert (keys[0], keys[2]) == ("Same", "Same")
    assert keys[1].startswith("call_")
    assert keys[1].endswith("/Same")


# -- prompts -----------------------------------------------------------------------------------


def test_an_async_prompt_runs_once_per_turn_and_reaches_the_model(bench):
    async def prompt(data: GenerateDynamicPromptData) -> Any:
        await io()
        bench.ran.append((data.context.context, data.agent is worker))
        return {"id": "pmpt_1", "variables": {"n": str(len(bench.ran)), "who": "you"}}

    worker = agent("Worker", call("a"), say("ok"), prompt=prompt, tools=[plain_tool("a")])
    done = bench.compare(worker, context="mine")
    assert done.ran == [("mine", True)] * 2
    assert [u.key for u in units(bench, "prompt")] == ["Worker"] * 2
    bench.forget()
    bench.run_once(worker)
    assert [(b["prompt"]["id"], b["prompt"]["variables"]["who"]) for b in bench.bodies()] == [
        ("pmpt_1", "you")
    ] * 2


@pytest.mark.parametrize("answer", ["text", None, Composer(None)])
def test_what_is_no_prompt_is_refused_as_by_the_sdk(bench, answer):
    async def prompt(data: GenerateDynamicPromptData) -> Any:
        return answer

    plain, live, recorded = bench.compare_failures(agent("Worker", say("ok"), prompt=prompt))
    assert isinstance(recorded, UserError)
    assert "must return a Prompt" in str(recorded)


# -- is_enabled --------------------------------------------------------------------------------


def test_async_conditions_of_tools_are_asked_as_often_as_by_the_sdk(bench):
    off = plain_tool("off", is_enabled=when(bench, answer=0))
    on = plain_tool("on", is_enabled=when(bench, answer="yes"))
    worker = agent("Worker", calls(call("on")), ECHO, tools=[off, plain_tool("always"), on])
    done = bench.compare(worker)
    assert json.loads(done.recorded.final_output) == ["on done"]
    assert done.ran
    found = units(bench, "is_enabled")
    assert [(u.key, u.result) for u in found[:2]] == [("Worker/off", False), ("Worker/on", True)]
    assert len(found) == len(done.ran)
    bench.forget()
    bench.run_once(worker)
    assert [[t["name"] for t in body["tools"]] for body in bench.bodies()] == [["always", "on"]] * 2


def test_conditions_of_one_turn_wait_side_by_side_and_are_asked_in_the_order_of_the_tools(bench):
    async def main() -> Any:
        met = asyncio.Barrier(3)

        async def meet() -> None:
            async with asyncio.timeout(10):
                await met.wait()

        tools = [plain_tool(n, is_enabled=when(bench, after=meet)) for n in ("c", "a", "b")]
        return await bench.run(agent("Worker", say("ok"), tools=tools), workflow_id="run")

    asyncio.run(main())
    assert [u.key for u in units(bench, "is_enabled")] == ["Worker/c", "Worker/a", "Worker/b"] * 2


def test_two_tools_of_one_name_are_told_apart(bench):
    first = plain_tool("same", is_enabled=when(bench, answer=False))
    second = plain_tool("same", is_enabled=when(bench, answer=True))
    done = bench.compare(agent("Worker", call("same"), ECHO, tools=[first, second]))
    assert json.loads(done.recorded.final_output) == ["same done"]


def test_async_conditions_of_handoffs_and_agent_tools_are_recorded(bench):
    other = agent("Other", say("from the other"), offset=2)
    never = agent("Never", say("never"))
    inner = agent("Inner", say("deep"))
    by_hand = handoff(other)
    by_hand.is_enabled = when(bench)
    worker = agent(
        "Worker",
        call("ask", input="x"),
        call("transfer_to_other"),
        tools=[inner.as_tool("ask", "Ask", is_enabled=when(bench))],
        handoffs=[handoff(never, is_enabled=when(bench, answer=False)), by_hand],
    )
    done = bench.compare(worker, agents=(other, inner))
    assert done.recorded.last_agent is other
    keys = [u.key for u in units(bench, "is_enabled")]
    assert set(keys) == {
        "Worker/ask",
        "Worker/transfer_to_never",
        "Worker/transfer_to_other",
    }
    assert len(keys) == len(done.ran)


def test_plain_conditions_are_asked_in_the_workflow(bench):
    def condition(context: Any, agent: Any) -> bool:
        bench.ran.append(adapter.current_engine() is not None)
        return True

    worker = agent(
        "Worker",
        say("ok"),
        tools=[plain_tool("a", is_enabled=condition)],
        handoffs=[handoff(agent("Other", say("no")), is_enabled=condition)],
    )
    for _ in range(2):
        bench.ran.clear()
        bench.run_once(worker, workflow_id="run")
        assert bench.ran == [True] * len(bench.ran) != []

    assert units(bench, "is_enabled") == []


def test_tools_and_handoffs_keep_their_conditions(bench):
    condition = when(bench)
    tool = plain_tool("a", is_enabled=condition)
    by_hand = handoff(agent("Other", say("no")))
    by_hand.is_enabled = condition
    worker = agent("Worker", say("ok"), tools=[tool, plain_tool("b")], handoffs=[by_hand])
    bench.run_once(worker, workflow_id="run")
    assert tool.is_enabled is condition
    assert by_hand.is_enabled is condition
    assert worker.tools[0] is tool
    assert (plain_tool("c").is_enabled, FunctionTool.is_enabled, Handoff.is_enabled) == (True,) * 3
    tool.is_enabled = False
    assert tool.is_enabled is False


class Copies(RunHooks):
    """Gives the agent copies of a tool, made inside the run."""

    def __init__(self, tool: FunctionTool) -> None:
        self.tool = tool

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        again = dataclasses.replace(self.tool, name="c")
        agent.tools = [
            dataclasses.replace(self.tool, name="b"),
            dataclasses.replace(again, name="d"),
            copy.copy(self.tool),
        ]


def test_copies_of_a_tool_that_a_run_makes_keep_its_condition(bench):
    tool = plain_tool("a", is_enabled=when(bench))
    worker = agent("Worker", call("a"), calls(call("b"), call("d")), ECHO, tools=[tool])
    # The first time, the first turn of some versions has the tools of before.
    bench.plainly(worker, hooks=Copies(tool))
    done = bench.compare(worker, hooks=lambda: Copies(tool))
    assert json.loads(done.recorded.final_output) == ["a done"] * 3
    assert {u.key for u in units(bench, "is_enabled")} == {"Worker/a", "Worker/b", "Worker/d"}
    # Also where the SDK's own runner meets them.
    assert bench.plainly(worker).final_output == done.plain.final_output


# -- inline ------------------------------------------------------------------------------------


def test_functions_that_are_marked_run_in_the_workflow(bench):
    @inline
    async def instructions(context: Any, agent: Any) -> str:
        bench.ran.append(("instructions", adapter.current_engine() is not None))
        return mind(agent.name, say("ok"))

    @inline
    async def condition(context: Any, agent: Any) -> bool:
        bench.ran.append(("condition", adapter.current_engine() is not None))
        return True

    async def prompt(data: GenerateDynamicPromptData) -> Any:
        bench.ran.append(("prompt", adapter.current_engine() is not None))
        return {"id": "pmpt_1"}

    worker = Agent(
        name="Worker",
        instructions=instructions,
        prompt=inline(prompt),
        tools=[plain_tool("a", is_enabled=condition)],
        handoffs=[handoff(agent("Other", say("no")), is_enabled=condition)],
    )
    for _ in range(2):
        bench.ran.clear()
        bench.run_once(worker, workflow_id="run")
        assert {*bench.ran} == {(n, True) for n in ("condition", "instructions", "prompt")}

    assert [a.name for a in bench.activities()] == ["openai_agents.model"]


@pytest.mark.parametrize("form", ["object", "method", "partial", "lambda"])
def test_whatever_can_be_called_can_be_marked(bench, form, monkeypatch):
    monkeypatch.setattr(f"{__name__}.io", functools.partial(asyncio.sleep, 0))
    worker = Agent(name="Worker", instructions=inline(Composer(bench).form(form)))
    for runner in (Runner, DurableRunner):
        assert bench.run_once(worker, runner=runner).final_output == form

    bench.run_once(worker, workflow_id="run")
    assert units(bench, "instructions") == []


def test_a_marked_function_that_is_completed_by_partial_stays_marked(bench):
    @inline
    async def instructions(how: str, context: Any, agent: Any) -> str:
        return mind(agent.name, say(how))

    worker = Agent(name="Worker", instructions=functools.partial(instructions, "so"))
    assert bench.run_once(worker, workflow_id="run").final_output == "so"
    assert units(bench, "instructions") == []


def test_a_marked_function_may_use_what_is_recorded_by_itself(bench):
    helper = agent("Helper", say("help"))

    @inline
    async def instructions(context: Any, agent: Any) -> str:
        found = await Runner.run(helper, "x", run_config=context.context)
        await workflow.sleep(0.001)
        return mind(agent.name, say(f"with {found.final_output}"))

    worker = Agent(name="Worker", instructions=instructions)

    async def run() -> Any:
        async with bench.config() as config:
            return await DurableRunner.run(
                worker, "hi", context=config, run_config=config, workflow_id="run"
            )

    assert asyncio.run(run()).final_output == "with help"
    bench.forget()
    assert asyncio.run(run()).final_output == "with help"
    assert bench.requests() == []


# -- failures ----------------------------------------------------------------------------------


class Unavailable(Exception):
    """An error of the user's own."""


def failing(bench, error: Exception) -> Any:
    async def fails(context: Any, agent: Any = None) -> Any:
        await io()
        bench.ran.append("failed")
        raise error

    return fails


FAILURES = {
    "of Python": ValueError("no database"),
    "of the user": Unavailable("no database", 3),
    "of the SDK": UserError("no database"),
    "of a type that is a bug": TypeError("no database"),
}


@pytest.mark.parametrize("where", ["instructions", "prompt", "tool", "handoff"])
@pytest.mark.parametrize("error", FAILURES)
def test_what_a_function_raises_is_raised_by_the_run(bench, where, error):
    fails = failing(bench, FAILURES[error])
    worker = agent("Worker", say("ok"))
    match where:
        case "instructions":
            worker.instructions = fails
        case "prompt":
            worker.prompt = fails
        case "tool":
            worker.tools = [plain_tool("a", is_enabled=fails)]
        case "handoff":
            worker.handoffs = [handoff(agent("Other", say("no")), is_enabled=fails)]

    plain, live, recorded = bench.compare_failures(worker)
    assert type(live) is type(FAILURES[error])
    assert live.args == plain.args
    [unit] = [u for u in bench.activities() if u.status == "failed"]
    assert [a.outcome for a in unit.attempts] == ["failed"]
    assert bench.status() == "FAILED"


@pytest.mark.needs_a_store
def test_a_function_that_is_cancelled_by_itself_ends_the_run_as_in_the_sdk(bench):
    async def gives_up(context: Any, agent: Any) -> str:
        bench.ran.append("asked")
        raise asyncio.CancelledError("lost interest")

    worker = Agent(name="Worker", instructions=gives_up)
    for arguments in ({"runner": Runner}, {"workflow_id": "run"}, {"workflow_id": "run"}):
        with pytest.raises(asyncio.CancelledError):
            bench.run_once(worker, **arguments)

    assert bench.ran == ["asked"] * 2


def test_a_failing_condition_cancels_those_beside_it(bench):
    async def main() -> list[str]:
        waiting = asyncio.Event()
        ended: list[str] = []

        async def waits(context: Any, agent: Any) -> bool:
            waiting.set()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

            return True

        async def fails(context: Any, agent: Any) -> bool:
            await waiting.wait()
            raise ValueError("no")

        tools = [plain_tool("a", is_enabled=waits), plain_tool("b", is_enabled=fails)]
        with pytest.raises(ValueError, match="no"):
            await bench.run(agent("Worker", say("ok"), tools=tools), workflow_id="run")

        return ended

    assert asyncio.run(main()) == ["cancelled"]
    assert [u.status for u in units(bench, "is_enabled")] == ["cancelled", "failed"]


def test_an_answer_that_cannot_be_recorded_says_so(bench):
    async def instructions(context: Any, agent: Any) -> Any:
        return threading.Lock()

    error = bench.failure(Agent(name="Worker", instructions=instructions), workflow_id="run")
    assert "openai_agents.instructions" in str(error)
    assert "cannot be recorded" in str(error)


def test_a_failing_function_of_an_agent_tool_is_told_to_the_model_as_by_the_sdk(bench):
    inner = Agent(name="Inner", instructions=failing(bench, Unavailable("no")))
    outer = agent("Outer", call("ask", input="x"), ECHO, tools=[inner.as_tool("ask", "Ask")])
    done = bench.compare(outer, agents=(inner,))
    assert "error occurred" in done.recorded.final_output


# -- crashes -----------------------------------------------------------------------------------


def test_a_killed_run_asks_again_only_what_was_under_way(houses):
    plain = houses("plain", callables_app.PROGRAM)
    expected, effects = shown(plain.run("plain")), plain.effects()
    assert effects["instructions"] == 3
    killed = houses("killed", callables_app.PROGRAM)
    assert check(killed, "activity.body.after:9", (expected, effects + plain.asked()))
