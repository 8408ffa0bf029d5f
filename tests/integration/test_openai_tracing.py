"""Traces of durable runs: the tree of the plain runner, told once; ids that a replay repeats."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from functools import partial
from typing import Any

import pytest
from agents import (
    GuardrailFunctionOutput,
    Runner,
    custom_span,
    function_tool,
    gen_span_id,
    gen_trace_id,
    input_guardrail,
    trace,
)
from agents.tracing import processors, setup
from durable_core import activity, embedded, workflow
from durable_openai_agents import DurableRunner, RunOptions
from support import agents_app
from support.agents_bench import agent, call, say
from support.agents_projection import same
from support.held import Held, cut_off
from support.rows import rows
from support.traces import (
    TRACED,
    Heard,
    Listener,
    check_order,
    listen,
    listening,
    names,
    once,
    run_traced,
    shape,
    tree,
)
from support.waiting import eventually

pytest_plugins = ["support.agents_fixtures"]

# What is open over a replay in one process is told to begin once more.
TOLD_AGAIN = pytest.mark.counts_executions


@pytest.fixture
def listener(bench):
    heard = Listener()
    with listening(heard):
        yield heard


def thrice(run) -> list[list[Heard]]:
    """Return what is heard of a run by the SDK's runner, by ours, and by ours from the record."""
    ours = {"runner": DurableRunner, "workflow_id": "run"}
    return [listen(partial(run, **more)) for more in ({"runner": Runner}, ours, ours)]


# -- a live run and its record -----------------------------------------------------------------


@TOLD_AGAIN
@pytest.mark.parametrize("api", ["responses", "chat"])
def test_a_run_has_the_traces_of_the_plain_runner_and_its_record_has_none(
    bench, api, monkeypatch, tmp_path
):
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    bench.api = api
    plain, live, again = thrice(partial(bench.run_once, agents_app.auditor, **TRACED))
    kind = "response" if api == "responses" else "generation"
    assert Counter(line.strip().partition(" ")[0] for line in shape(plain)) == {
        "Agent": 1,
        "agent": 3,
        "guardrail": 2,
        "function": 5,
        "handoff": 1,
        "custom": 8,
        kind: 6,
    }
    same(tree(live), tree(plain), "the tree")
    check_order(live)
    assert again == []


def failure(bench, agent, **arguments):
    """Run an agent that fails; a recorded failure is raised again and not tried anew."""
    if "workflow_id" in arguments:
        arguments["options"] = RunOptions(on_failed="raise")

    return bench.failure(agent, **TRACED, **arguments)


def test_the_exporter_that_a_run_makes_reckons_by_the_real_clock(bench, monkeypatch):
    monkeypatch.setattr(setup, "GLOBAL_TRACE_PROVIDER", None)
    # Those of other tests.
    monkeypatch.setattr(processors, "_global_processor", None)
    monkeypatch.setattr(processors, "_global_exporter", None)
    bench.run_once(agent("A", say("ok")), workflow_id="run")

    processor = processors.default_processor()
    assert setup.GLOBAL_TRACE_PROVIDER is not None
    assert abs(processor._next_export_time - time.monotonic()) < 3600
    processors.default_exporter().close()


def test_a_failed_run_is_told_once_too(bench):
    busy = agent("Busy", call("broken"), tools=[broken])
    plain, live, again = thrice(partial(failure, bench, busy, max_turns=2))
    assert any(one.error for one in plain)
    same(tree(live), tree(plain), "the tree")
    assert again == []


@function_tool
def broken() -> str:
    raise ValueError("broken")


def test_a_tripped_guardrail_is_told_once_too(bench):
    @input_guardrail
    async def never(ctx, agent, input) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    shy = agent("Shy", say("hello"), input_guardrails=[never])
    plain, live, again = thrice(partial(failure, bench, shy))
    assert names(plain, "end")["guardrail never"] == 1
    assert names(live, "end")["guardrail never"] == 1
    assert names(live, "start") == names(live, "end")
    assert again == []


@TOLD_AGAIN
def test_a_trace_around_the_call_stays_the_callers(bench, listener):
    greeter = agent("Greeter", say("hello"))

    def run() -> list[Heard]:
        listener.heard = []
        with trace("Mine"), custom_span("around"):
            run_traced(bench, greeter, workflow_id="run")

        check_order(listener.heard)
        return listener.heard

    live, again = run(), run()
    assert names(live, "end")["agent Greeter"] == 1
    assert len({one.trace for one in live}) == 1
    assert names(again, "end") == {"trace Mine": 1, "custom around": 1}


# -- inside a workflow of the user's own, and ids ----------------------------------------------


class Programs:
    """What the workflow below does; set by each test."""

    program: Any = None


@workflow.defn
class Traced:
    @workflow.run
    async def run(self) -> Any:
        return await Programs.program()


@pytest.fixture
def _own_store(monkeypatch, store_url):
    monkeypatch.setenv("DURABLE_URL", store_url)


def in_workflow(program) -> Any:
    Programs.program = program
    return embedded.execute_workflow(Traced.run, id="own")


@activity.defn
async def noted(value: Any) -> Any:
    return value


@TOLD_AGAIN
def test_a_trace_around_agents_inside_a_workflow_is_told_once(bench):
    held = Held()
    one = agent("One", say("1"))
    two = agent("Two", call("hold"), say("2"), tools=[held.tool])

    async def start() -> None:
        async with bench.config(tracing_disabled=False) as config:

            async def program() -> None:
                with trace("Mine"):
                    await DurableRunner.run(one, "hi", run_config=config)
                    await asyncio.gather(
                        *(DurableRunner.run(a, "hi", run_config=config) for a in (one, two))
                    )

            await in_workflow(program)

    def interrupted() -> None:
        cut_off(start, held)

    lives = [listen(interrupted), listen(lambda: asyncio.run(start()))]
    for heard in lives:
        check_order(heard)

    both = [one for heard in lives for one in heard]
    assert len({one.trace for one in both}) == 1
    assert names(both, "end") == names(
        listen(lambda: asyncio.run(_plainly(bench, one, two))), "end"
    )
    assert once(both)
    assert listen(lambda: asyncio.run(start())) == []


@pytest.mark.usefixtures("_own_store")
def test_what_waits_without_a_call_is_told_once_and_its_cleanup_only_when_it_is_real(store_path):
    first, second = Listener(), Listener()

    async def program() -> None:
        with trace("Mine"):
            try:
                with custom_span("waiting"):
                    await asyncio.sleep(1)
            finally:
                with custom_span("cleanup"):
                    pass

    async def start() -> None:
        task = asyncio.create_task(in_workflow(program))
        await eventually(lambda: names(first.heard, "start")["custom waiting"], "the span")
        await eventually(lambda: rows(store_path, "SELECT 1 FROM activation"), "the record")
        assert not task.done()

    with listening(first):
        asyncio.run(start())

    assert names(first.heard, "start") == {"trace Mine": 1, "custom waiting": 1}
    assert names(first.heard, "end") == {}
    with listening(second):
        asyncio.run(in_workflow(program))

    check_order(second.heard)
    assert names(second.heard, "end") == {
        "trace Mine": 1,
        "custom waiting": 1,
        "custom cleanup": 1,
    }


async def _plainly(bench, one, two) -> None:
    async with bench.config(tracing_disabled=False) as config:
        with trace("Mine"):
            for each in (one, one, two):
                await Runner.run(each, "hi", run_config=config)


def test_ids_and_times_are_equal_on_replay(listener):
    async def program() -> Any:
        given = [gen_trace_id(), gen_span_id()]
        # The second round is of a trace that ended, and below another one.
        for _ in range(2):
            with trace("Mine") as around, custom_span("a") as a:
                await asyncio.sleep(0.01)
                with custom_span("b") as b:
                    given += [around.trace_id, a.span_id, b.span_id, gen_span_id()]

                given += [gen_span_id(), b.parent_id, b.started_at, b.ended_at, a.started_at]

        # As an argument of a command, which a replay compares.
        return await workflow.execute_activity(noted, given)

    given = asyncio.run(in_workflow(program))
    assert asyncio.run(in_workflow(program)) == given
    ids = [one for one in given if "_" in one]
    assert [len(one) for one in ids if one.startswith("trace_")] == [38] * 3
    assert [len(one) for one in ids if one.startswith("span_")] == [29] * 11
    # All are different but `b.parent_id`, which is that of `a`.
    assert len(set(ids)) == len(ids) - 2


@pytest.mark.parametrize("traced", [(True, False), (False, True)], ids=["first", "again"])
def test_ids_take_nothing_from_the_runs_own_random_numbers(bench, traced):
    async def start(traced: bool) -> Any:
        async with bench.config(tracing_disabled=not traced) as config:

            async def program() -> Any:
                await DurableRunner.run(agent("Greeter", say("hi")), "hi", run_config=config)
                values = [workflow.random().random(), str(workflow.uuid4())]
                return await workflow.execute_activity(noted, values)

            return await in_workflow(program)

    with listening(Listener()):
        results = [asyncio.run(start(each)) for each in traced]

    assert results[0] == results[1]


def test_a_trace_id_of_the_users_own_is_used(bench):
    greeter = agent("Greeter", say("hello"))
    given = {"trace_id": "trace_" + "a" * 32, "group_id": "chat-7", "workflow_name": "Chat"}
    config = {"config": {"tracing_disabled": False, **given}}
    heard = listen(lambda: [bench.run_once(greeter, workflow_id=w, **config) for w in ("a", "b")])
    assert {one.trace for one in heard} == {given["trace_id"]}
    spans = [one.id for one in heard if one.event == "end" and not one.is_trace]
    assert len(spans) == len(set(spans)) == 8


@TOLD_AGAIN
def test_plain_code_has_random_ids(bench, listener):
    greeter = agent("Greeter", say("hello"))
    run_traced(bench, greeter, runner=Runner)
    run_traced(bench, greeter, runner=Runner)
    run_traced(bench, greeter)
    run_traced(bench, greeter)
    assert set(Counter(one.id for one in listener.heard).values()) == {2}


# -- the SDK's insides -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("processors.BatchTraceProcessor.shutdown = print", "BatchTraceProcessor.shutdown"),
        (
            "provider.SynchronousMultiTracingProcessor.on_span_end = lambda self: None",
            "SynchronousMultiTracingProcessor.on_span_end",
        ),
        (
            "processors.BackendSpanExporter.__init__ = lambda self: None",
            "BackendSpanExporter._client",
        ),
    ],
)
def test_a_change_of_the_sdks_tracing_is_reported_on_import(processes, change, named):
    ended = processes.run(
        f"from agents.tracing import processors, provider\n{change}\nimport durable_openai_agents"
    )
    assert ended.code == 1
    assert re.search(rf"NotSupported: openai-agents .* \(\S*{named}\): upgrade", ended.output)
