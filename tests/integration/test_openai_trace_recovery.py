"""Traces of continued runs: one tree over all processes, and nothing of it told twice."""

from __future__ import annotations

import contextvars
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from agents import RunHooks, custom_span, function_tool
from agents.tracing import Span
from support import traces_app
from support.agents_bench import ECHO, agent, call, calls, say
from support.agents_house import street
from support.agents_projection import same
from support.held import Held, cut_off, place
from support.traces import (
    TRACED,
    Heard,
    Listener,
    check_order,
    heard_in,
    listen,
    listening,
    names,
    once,
    run_traced,
    tree,
)

pytest_plugins = ["support.agents_fixtures"]


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


@pytest.mark.parametrize("fault", ["activity.body.after:2", "store.commit.before:6"])
def test_a_killed_run_has_one_tree_over_its_processes(traced_houses, plain_tree, fault):
    check_tree_of_killed(traced_houses, plain_tree, fault)


@pytest.mark.parametrize("fault", ["activity.body.before:10", "run.activated.after:5"])
def test_a_run_killed_at_other_places_has_one_tree_too(traced_houses, plain_tree, fault, long):
    if not long:
        pytest.skip("only with --long")

    check_tree_of_killed(traced_houses, plain_tree, fault)


def check_tree_of_killed(traced_houses, plain_tree, fault):
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
