"""Handoffs, agents as tools, guardrails, structured outputs: as with the SDK's own runner."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    ModelBehaviorError,
    OutputGuardrailTripwireTriggered,
    RunContextWrapper,
    Runner,
    function_tool,
    handoff,
    input_guardrail,
    output_guardrail,
)
from durable_openai_agents import DurableRunner, RunOptions
from pydantic import BaseModel
from support.agents_bench import (
    ECHO,
    REPEAT,
    agent,
    call,
    calls,
    say,
    say_json,
)
from support.agents_programs import Point, compare_runs, refund_tool

pytest_plugins = ["support.agents_fixtures"]

BOTH_APIS = pytest.mark.parametrize("api", ["responses", "chat"])


# -- several agents ----------------------------------------------------------------------------


@BOTH_APIS
def test_a_handoff_leads_to_the_callers_own_agent(bench, api):
    bench.api = api
    billing = agent("Billing", call("refund", cents=5), ECHO, offset=1, tools=[refund_tool(bench)])
    triage = agent("Triage", call("transfer_to_billing"), handoffs=[billing])
    done = bench.compare(triage, agents=(billing,))
    for result in (done.live, done.recorded):
        assert result.last_agent is billing
        assert [
            item.agent.name for item in result.new_items if item.type == "handoff_output_item"
        ] == ["Triage"]


class Reason(BaseModel):
    why: str


@pytest.mark.counts_executions
def test_a_handoff_with_input_filter_and_callback_is_that_of_the_sdk(bench):
    told: list[str] = []

    async def on_handoff(context: RunContextWrapper[Any], reason: Reason) -> None:
        told.append(reason.why)

    def only_the_last(data: Any) -> Any:
        return data.clone(input_history=tuple(data.input_history[-1:]))

    expert = agent("Expert", say("solved"), offset=0)
    to_expert = handoff(
        expert, on_handoff=on_handoff, input_type=Reason, input_filter=only_the_last
    )
    triage = agent("Triage", call("transfer_to_expert", why="hard"), handoffs=[to_expert])
    items = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    done = bench.compare(triage, items, agents=(expert,))
    assert done.recorded.final_output == "solved"
    assert told == ["hard"] * 3


def test_an_agent_as_a_tool_is_recorded_call_by_call(bench):
    inner = agent("Inner", call("refund", cents=7), ECHO, tools=[refund_tool(bench)])
    middle = agent(
        "Middle",
        call("ask_inner", input="deep"),
        ECHO,
        tools=[inner.as_tool("ask_inner", "Ask the inner one")],
    )
    outer = agent(
        "Outer",
        call("ask_middle", input="deeper"),
        ECHO,
        tools=[middle.as_tool("ask_middle", "Ask the middle one")],
    )
    done = bench.compare(outer, agents=(middle, inner))
    assert "7 back" in done.recorded.final_output
    assert [
        (a.name.rpartition(".")[2], a.summary.partition(" asks")[0]) for a in bench.activities()
    ] == [
        ("model", "Outer"),
        ("model", "Middle"),
        ("model", "Inner"),
        ("tool", 'refund({"cents": 7})'),
        ("model", "Inner"),
        ("model", "Middle"),
        ("model", "Outer"),
    ]
    keys = [a.key for a in bench.activities()]
    [middle_call] = [i.raw_item.call_id for i in done.live.new_items if i.type == "tool_call_item"]
    assert keys[0] == "Outer"
    assert keys[1] == f"{middle_call}/Middle"
    assert keys[2].startswith(f"{middle_call}/call_")
    assert keys[2].endswith("/Inner")


def test_the_same_agent_tool_twice_in_one_turn_is_told_apart(bench):
    inner = agent("Inner", call("refund", cents=1), REPEAT, tools=[refund_tool(bench)])
    ask = inner.as_tool("ask", "Ask")
    outer = agent("Outer", calls(call("ask", input="a"), call("ask", input="b")), ECHO, tools=[ask])
    done = bench.compare(outer, agents=(inner,))
    assert json.loads(done.recorded.final_output) == ["a", "b"]
    assert len(done.requests) == 6
    assert done.ran == [1, 1]


def test_an_agent_tool_takes_its_output_from_the_users_function(bench):
    async def shorten(result: Any) -> str:
        return result.final_output[:3]

    inner = agent("Inner", say("a long answer"))
    ask = inner.as_tool("ask", "Ask", custom_output_extractor=shorten)
    done = bench.compare(agent("Outer", call("ask", input="x"), ECHO, tools=[ask]))
    assert json.loads(done.recorded.final_output) == ["a l"]


def test_agents_with_one_name_are_told_apart_by_their_objects(bench):
    second = agent("Same", say("from the second"), offset=1)
    first = agent("Same", call("transfer_to_same"), handoffs=[second])
    done = bench.compare(first, agents=(second,))
    assert done.recorded.last_agent is second


def test_the_output_of_a_tool_may_be_the_final_output(bench):
    @function_tool
    async def answer() -> dict[str, int]:
        bench.ran.append("answer")
        return {"is": 42}

    done = bench.compare(
        agent("Worker", call("answer"), tools=[answer], tool_use_behavior="stop_on_first_tool")
    )
    assert done.recorded.final_output == "{'is': 42}"


# -- guardrails --------------------------------------------------------------------------------


def guardrails(bench, *, trip: bool = False):
    judge = agent("Judge", say_json({"x": 7, "y": 1.0}), output_type=Point)

    @input_guardrail
    def quick(
        context: RunContextWrapper[Any], agent: Agent[Any], text: Any
    ) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info={"length": len(text)}, tripwire_triggered=False)

    @input_guardrail
    async def thorough(
        context: RunContextWrapper[Any], agent: Agent[Any], text: Any
    ) -> GuardrailFunctionOutput:
        judged = await Runner.run(judge, text, context=context.context, run_config=context.context)
        return GuardrailFunctionOutput(output_info=judged.final_output, tripwire_triggered=trip)

    return judge, quick, thorough


@pytest.mark.parametrize("in_parallel", [True, False])
def test_guardrails_that_are_content_show_their_results(bench, in_parallel):
    judge, quick, thorough = guardrails(bench)
    thorough.run_in_parallel = in_parallel

    @output_guardrail
    def polite(
        context: RunContextWrapper[Any], agent: Agent[Any], output: Any
    ) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=output.upper(), tripwire_triggered=False)

    @output_guardrail
    async def judged(
        context: RunContextWrapper[Any], agent: Agent[Any], output: Any
    ) -> GuardrailFunctionOutput:
        result = await Runner.run(judge, output, run_config=context.context)
        return GuardrailFunctionOutput(output_info=result.final_output, tripwire_triggered=False)

    greeter = agent(
        "Greeter",
        say("hello"),
        input_guardrails=[quick, thorough],
        output_guardrails=[polite, judged],
    )
    done = compare_with_config_as_context(bench, greeter)
    assert [
        r.output.output_info for r in done.input_guardrail_results if r.guardrail is thorough
    ] == [Point(x=7, y=1)]
    assert {r.guardrail.get_name() for r in done.output_guardrail_results} == {"polite", "judged"}


def compare_with_config_as_context(bench, agent):
    """Compare runs whose guardrails run agents of their own, by the run config that is their
    context."""

    async def run(runner: Any, **arguments: Any) -> Any:
        async with bench.config() as config:
            return await runner.run(agent, "hi", context=config, run_config=config, **arguments)

    return compare_runs(bench, run, agent)


@pytest.mark.parametrize("in_parallel", [True, False])
def test_an_input_guardrail_that_trips_raises_the_sdks_exception(bench, in_parallel):
    _, quick, thorough = guardrails(bench, trip=True)
    thorough.run_in_parallel = in_parallel
    greeter = agent("Greeter", say("hello"), input_guardrails=[quick, thorough])

    async def run(runner: Any, **arguments: Any) -> Any:
        async with bench.config() as config:
            with pytest.raises(InputGuardrailTripwireTriggered) as raised:
                await runner.run(greeter, "hi", context=config, run_config=config, **arguments)

            return raised.value

    plain = asyncio.run(run(Runner))
    live = asyncio.run(run(DurableRunner, workflow_id="run"))
    bench.forget()
    again = RunOptions(on_failed="raise")
    recorded = asyncio.run(run(DurableRunner, workflow_id="run", options=again))
    assert bench.requests() == []
    for error in (live, recorded):
        assert str(error) == str(plain)
        assert error.guardrail_result.guardrail is thorough
        assert error.guardrail_result.output.output_info == Point(x=7, y=1)
        assert error.run_data.last_agent is greeter


def test_an_output_guardrail_that_trips_raises_the_sdks_exception(bench):
    @output_guardrail
    async def strict(
        context: RunContextWrapper[Any], agent: Agent[Any], output: Any
    ) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info={"said": output}, tripwire_triggered=True)

    greeter = agent("Greeter", say("hello"), output_guardrails=[strict])
    for error in bench.compare_failures(greeter):
        assert isinstance(error, OutputGuardrailTripwireTriggered)
        assert error.guardrail_result.agent_output == "hello"
        assert error.guardrail_result.agent is greeter


def test_a_guardrail_that_breaks_raises_its_own_exception_and_keeps_the_run(bench):
    broken = [True]

    @input_guardrail
    async def checks(
        context: RunContextWrapper[Any], agent: Agent[Any], text: Any
    ) -> GuardrailFunctionOutput:
        if broken:
            raise ArithmeticError("a bug")

        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

    greeter = agent("Greeter", say("hello"), input_guardrails=[checks])
    error = bench.failure(greeter, workflow_id="run")
    assert isinstance(error, ArithmeticError)
    assert "durable show run" in error.__notes__[-1]
    broken.clear()
    assert bench.run_once(greeter, workflow_id="run").final_output == "hello"


# -- structured outputs ------------------------------------------------------------------------


@dataclasses.dataclass
class Weather:
    city: str
    degrees: float
    likely: list[Point] = dataclasses.field(default_factory=list)


OUTPUT_TYPES = {
    "pydantic": (Point, {"x": 1, "y": 2.5}, Point(x=1, y=2.5)),
    "dataclass": (
        Weather,
        {"response": {"city": "Oslo", "degrees": -3.5, "likely": [{"x": 1, "y": 0.5}]}},
        Weather("Oslo", -3.5, [Point(x=1)]),
    ),
    "list": (list[Point], {"response": [{"x": 1, "y": 2.0}]}, [Point(x=1, y=2)]),
    "number": (int, {"response": 3}, 3),
}


@pytest.mark.parametrize("name", OUTPUT_TYPES)
@BOTH_APIS
def test_structured_output_is_of_its_type(bench, api, name):
    bench.api = api
    output_type, answer, expected = OUTPUT_TYPES[name]
    done = bench.compare(agent("Extractor", say_json(answer), output_type=output_type))
    assert done.recorded.final_output == expected
    assert type(done.recorded.final_output) is type(expected)


def test_output_that_does_not_fit_its_type_is_an_error_of_the_model(bench):
    errors = bench.compare_failures(agent("Extractor", say_json({"z": 1}), output_type=Point))
    assert all(isinstance(error, ModelBehaviorError) for error in errors)
