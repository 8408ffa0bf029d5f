"""Traces of durable runs: the tree of the plain runner, told once, over crashes, and no late exit."""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agents import (
    GuardrailFunctionOutput,
    RunHooks,
    Runner,
    custom_span,
    function_tool,
    gen_span_id,
    gen_trace_id,
    input_guardrail,
    trace,
)
from agents.tracing import Span
from durable_core import activity, embedded, workflow
from durable_openai_agents import DurableRunner, RunOptions
from support import agents_app, exit_app, trace_backend, traces_app
from support.agents_bench import ECHO, agent, call, calls, say
from support.agents_house import street
from support.agents_projection import same
from support.rows import rows
from support.trace_backend import TraceBackend
from support.traces import Heard, Listener, check_order, heard_in, listening, shape, tree
from support.waiting import eventually

pytest_plugins = ["support.agents_fixtures"]

TRACED: dict[str, Any] = {"config": {"tracing_disabled": False}}
APP = Path(exit_app.__file__)


@pytest.fixture
def listener(bench):
    heard = Listener()
    with listening(heard):
        yield heard


def run_traced(bench, agent, **arguments):
    return bench.run_once(agent, **{**TRACED, **arguments})


def listen(run) -> list[Heard]:
    """Return what a processor hears during a run."""
    listener = Listener()
    with listening(listener):
        run()

    return listener.heard


def thrice(run) -> list[list[Heard]]:
    """Return what is heard of a run by the SDK's runner, by ours, and by ours from the record."""
    ours = {"runner": DurableRunner, "workflow_id": "run"}
    return [listen(partial(run, **more)) for more in ({"runner": Runner}, ours, ours)]


class Held:
    """A tool whose first call never returns, so that its run can be cut off there.

    Attributes:
        tool: The tool.
        places: What `place` was in its calls.
    """

    def __init__(self, name: str = "hold") -> None:
        self.places: list[str] = []
        self.reached = asyncio.Event()

        @function_tool(name_override=name)
        async def hold() -> str:
            self.places.append(place.get())
            if not self.reached.is_set():
                self.reached.set()
                await asyncio.Event().wait()

            return "held"

        self.tool = hold


def cut_off(start, *held: Held) -> None:
    """Start something and end its event loop while the tools run: its run is released."""

    async def main() -> None:
        running = asyncio.create_task(start())
        reached = asyncio.gather(*(one.reached.wait() for one in held))
        await asyncio.wait([running, reached], return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), running

    asyncio.run(main())


place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


class Placing(Listener):
    """Puts what begins into the context and takes it out, as processors for OpenTelemetry do."""

    def __init__(self) -> None:
        super().__init__()
        self._tokens: dict[str, contextvars.Token[str]] = {}

    def on_span_start(self, span: Span[Any]) -> None:
        super().on_span_start(span)
        data = span.span_data.export()
        self._tokens[span.span_id] = place.set(f"{data['type']} {data.get('name')}")

    def on_span_end(self, span: Span[Any]) -> None:
        super().on_span_end(span)
        # In another context this raises, and the SDK logs it.
        place.reset(self._tokens.pop(span.span_id))


def names(heard: list[Heard], event: str) -> Counter[str]:
    return Counter(
        f"{one.data.get('type', 'trace')} {one.data.get('name')}"
        for one in heard
        if one.event == event
    )


# -- a live run and its record -----------------------------------------------------------------


@pytest.mark.counts_executions
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


@pytest.mark.counts_executions
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


@pytest.mark.counts_executions
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


# -- a run that is continued -------------------------------------------------------------------


@pytest.mark.counts_executions
def test_what_is_repeated_is_not_told_and_what_goes_on_is_told_once(bench):
    held = Held()
    first, second, third = Placing(), Placing(), Placing()
    inner = agent("Inner", call("hold"), say("deep"), tools=[held.tool])
    outer = agent(
        "Outer",
        call("early"),
        call("ask", input="?"),
        ECHO,
        tools=[early, inner.as_tool("ask", "")],
    )
    with listening(first):
        cut_off(lambda: bench.run(outer, **TRACED, workflow_id="run"), held)

    with listening(second):
        result = run_traced(bench, outer, workflow_id="run")

    with listening(third):
        run_traced(bench, outer, workflow_id="run")

    assert result.final_output == '["early", "deep"]'
    assert third.heard == []
    check_order(second.heard)
    assert once(first.heard + second.heard)
    assert names(first.heard, "end")["function early"] == 1
    assert names(second.heard, "start")["function early"] == 0
    assert names(second.heard, "start")["function hold"] == 1
    both = [one for one in first.heard + second.heard if one.event == "end"]
    plain = listen(lambda: bench.plainly(outer, **TRACED))
    same(tree(both), tree(plain), "the tree of both")
    # The same spans, begun when they were begun first.
    began = {one.id: one.started for one in first.heard if one.event == "start"}
    continued = [one for one in second.heard if one.event == "start" and one.id in began]
    assert {n.rpartition(" ")[2] for n in names(continued, "start")} >= {
        "workflow",
        "Inner",
        "hold",
    }
    assert all(one.started == began[one.id] for one in continued)


@function_tool
def early() -> str:
    with custom_span("inside"):
        return "early"


def test_what_processors_put_into_the_context_is_seen_in_bodies_and_taken_out(bench, caplog):
    held = [Held("one"), Held("two")]
    inner = agent("Inner", calls(call("one"), call("two")), ECHO, tools=[one.tool for one in held])
    outer = agent("Outer", call("ask", input="?"), ECHO, tools=[inner.as_tool("ask", "")])
    with listening(Placing()):
        cut_off(lambda: bench.run(outer, **TRACED, workflow_id="run"), *held)

    with listening(Placing()):
        run_traced(bench, outer, workflow_id="run")

    assert [one.places for one in held] == [["function one"] * 2, ["function two"] * 2]
    assert [r.getMessage() for r in caplog.records if r.name.startswith("openai.agents")] == []


@pytest.mark.needs_a_store
def test_a_step_that_ends_in_a_bug_is_told_once_it_is_mended(bench):
    class Hooks(RunHooks[Any]):
        broken = True

        async def on_agent_end(self, *_: Any) -> None:
            if self.broken:
                raise LookupError("a bug")

    worker = agent("Worker", call("early"), ECHO, tools=[early])
    hooks = Hooks()

    def failing() -> None:
        error = bench.failure(worker, hooks=hooks, workflow_id="run", **TRACED)
        assert isinstance(error, LookupError)

    lives = [listen(failing), listen(failing)]
    hooks.broken = False
    lives.append(listen(lambda: run_traced(bench, worker, hooks=hooks, workflow_id="run")))
    told = [one for heard in lives for one in heard]
    assert once(told)
    same(tree(told), tree(listen(lambda: bench.plainly(worker, **TRACED))), "the tree")


@pytest.fixture
def traced_houses(tmp_path):
    with street(tmp_path) as make:
        yield lambda name: make(name, Path(traces_app.__file__))


@pytest.fixture(scope="module")
def plain_tree(tmp_path_factory):
    with street(tmp_path_factory.mktemp("plain-tree")) as make:
        house = make("plain", Path(traces_app.__file__))
        return tree(traced(house, "plain"))


def traced(house, how: str = "durable", *, fault: str = "") -> list[Heard]:
    """Run the program and return what its processor heard."""
    number = len(list(house.folder.glob("traces-*")))
    file = house.folder / f"traces-{number}"
    file.touch()
    ended = house.run(how, fault=fault, TRACES=file, OPENAI_AGENTS_DISABLE_TRACING="0")
    assert ended.killed if fault else ended.checked()
    return heard_in(file)


@pytest.mark.parametrize(
    "fault",
    [
        "activity.body.after:2",
        "activity.body.before:10",
        "run.activated.after:5",
        "store.commit.before:6",
    ],
)
def test_a_killed_run_has_one_tree_over_its_processes(traced_houses, plain_tree, fault):
    house = traced_houses("killed")
    first, second = traced(house, fault=fault), traced(house)
    check_order(first)
    check_order(second)
    both = first + second
    assert len({one.trace for one in both}) == 1
    assert once(both)
    same(_without_lost_calls(tree(both)), plain_tree, "the tree of both")
    assert traced(house) == []


def _without_lost_calls(nodes: list[Any]) -> list[Any]:
    """Return a tree without the model calls of a turn that were answered before the last one."""
    return [
        [*node[:-1], _without_lost_calls(node[-1])]
        for n, node in enumerate(nodes)
        if node[0].get("type") != "response" or node not in nodes[:n]
    ]


def once(heard: list[Heard]) -> bool:
    """Return whether something ended, and nothing twice."""
    return set(Counter(one.id for one in heard if one.event == "end").values()) == {1}


def test_a_model_call_that_is_lost_and_made_again_is_two_spans(traced_houses, plain_tree):
    house = traced_houses("lost")
    both = traced(house, fault="activity.body.after:5") + traced(house)
    assert once(both)
    extra = _data(tree(both)) - _data(plain_tree)
    assert [json.loads(data)["type"] for data in extra.elements()] == ["response"]


def test_nothing_is_told_twice_when_a_kill_comes_between_a_record_and_its_telling(
    traced_houses, plain_tree
):
    house = traced_houses("told")
    both = traced(house, fault="store.commit.after:9") + traced(house)
    assert once(both)
    told = Counter(json.dumps(one.data) for one in both if one.event == "end")
    assert told <= _data(plain_tree)
    assert (_data(plain_tree) - told).total() <= 5


def _data(nodes: list[Any]) -> Counter[str]:
    found = Counter(json.dumps(node[0]) for node in nodes)
    for node in nodes:
        found += _data(node[-1])

    return found


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


@pytest.mark.counts_executions
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


@pytest.mark.counts_executions
def test_plain_code_has_random_ids(bench, listener):
    greeter = agent("Greeter", say("hello"))
    run_traced(bench, greeter, runner=Runner)
    run_traced(bench, greeter, runner=Runner)
    run_traced(bench, greeter)
    run_traced(bench, greeter)
    assert set(Counter(one.id for one in listener.heard).values()) == {2}


# -- the end of the program --------------------------------------------------------------------


@dataclass(frozen=True)
class Exit:
    """How a program ended: what it printed, and the seconds after its own code."""

    lines: list[str]
    seconds: float


@pytest.fixture
def ending(processes, store_url, tmp_path, _agents_server):
    """Starts the program, by default with a key, and returns what waits for its end."""

    def start(
        how: str, to: str, *more: str, key: str | None = "sk-traces", fault: str = ""
    ) -> Callable[[], Exit]:
        ended = tmp_path / f"ended-{len(list(tmp_path.glob('process-*')))}"
        environment = {**_agents_server[0].environment(), "DURABLE_URL": store_url}
        environment |= {"OPENAI_AGENTS_DISABLE_TRACING": "0", "TRACES_TO": to, "ENDED": str(ended)}
        # The SDK leaves its exporter's connections open.
        environment["PYTHONWARNINGS"] = "error,ignore::ResourceWarning"
        environment.pop("OPENAI_API_KEY")
        if key is not None:
            environment["OPENAI_API_KEY"] = key

        process = processes.start(APP, how, *more, fault=fault, **environment)

        def wait() -> Exit:
            end = process.wait()
            now = time.time()
            if fault:
                assert end.killed
                return Exit(end.output.splitlines(), 0.0)

            end.checked()
            return Exit(end.output.splitlines(), now - float(ended.read_text()))

        return wait

    return start


@pytest.mark.parametrize("place", [trace_backend.closed, trace_backend.silent])
def test_a_backend_that_cannot_be_reached_does_not_delay_the_exit(ending, place):
    with place() as to, ThreadPoolExecutor(2) as pool:
        waits = [ending(how, to) for how in ("plain", "durable")]
        plain, durable = pool.map(lambda wait: wait(), waits)

    # The SDK waits for 1 + 2 seconds between its attempts, or 5 for an answer.
    assert plain.seconds > 3
    assert durable.seconds < plain.seconds - 1
    assert 0 < len(durable.lines) <= max(3, len(plain.lines))


def test_a_backend_that_answers_gets_every_trace(ending):
    with TraceBackend() as backend:
        plain = ending("plain", backend.url)()
        sent = [item["span_data"]["type"] for item in backend.of_kind("trace.span")]
        backend.items.clear()
        durable = ending("durable", backend.url)()
        spans = backend.of_kind("trace.span")
        assert plain.lines == durable.lines == []
        assert len(backend.of_kind("trace")) == 1
        assert [item["span_data"]["type"] for item in spans] == sent
        assert len({item["id"] for item in spans}) == len(spans) == 4
        backend.items.clear()
        assert ending("durable", backend.url)().lines == []
        assert backend.items == []


def test_a_backend_gets_the_trace_of_a_run_whose_first_process_was_killed(ending):
    with TraceBackend() as backend:
        ending("durable", backend.url, fault="activity.body.before:1")()
        assert backend.items == []
        ending("durable", backend.url)()
        [of_run] = backend.of_kind("trace")
        spans = {item["id"]: item for item in backend.of_kind("trace.span")}
        assert len(spans) == 4
        assert {item["trace_id"] for item in spans.values()} == {of_run["id"]}
        assert {item["parent_id"] for item in spans.values()} <= {None, *spans}


def test_a_backend_that_has_answered_before_is_waited_for(ending):
    with TraceBackend(0.0, 2.5) as backend:
        ended = ending("durable", backend.url, "twice")()
        assert len(backend.of_kind("trace")) == 2

    assert ended.lines == []


def test_without_a_key_nothing_is_printed_beyond_what_the_plain_runner_prints(ending):
    with trace_backend.closed() as to:
        plain, durable = (ending(how, to, key=None)() for how in ("plain", "durable"))

    assert durable.lines == plain.lines


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
