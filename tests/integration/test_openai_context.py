"""The user's context: by reference as with the SDK, and a warning about what a crash would lose."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import itertools
import json
import logging
import threading
from typing import Any, TypedDict

import httpx2
import msgspec
import pytest
from agents import RunContextWrapper, RunHooks, Runner, function_tool
from durable_openai_agents import DurableRunner, _context
from pydantic import BaseModel, ConfigDict, PrivateAttr, computed_field
from support.agents_bench import ECHO, agent, call, calls, mind, say

pytest_plugins = ["support.agents_fixtures"]


@pytest.fixture(autouse=True)
def _nothing_told_yet(monkeypatch):
    """What was told, and what need not be looked at, is kept per process."""
    monkeypatch.setattr(_context, "_told", set())
    monkeypatch.setattr(_context, "_opaque", set())


@pytest.fixture
def told(caplog):
    """Return the warnings so far."""
    caplog.set_level(logging.WARNING, "durable_openai_agents")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "durable_openai_agents"]


def changing(name: str, change: Any, *, sync: bool = False) -> Any:
    """Return a tool whose body changes the context."""
    if sync:

        @function_tool(name_override=name)
        def in_thread(context: RunContextWrapper[Any]) -> str:
            """Change the context."""
            assert threading.current_thread() is not threading.main_thread()
            change(context.context)
            return "changed"

        return in_thread

    @function_tool(name_override=name)
    async def tool(context: RunContextWrapper[Any]) -> str:
        """Change the context."""
        change(context.context)
        return "changed"

    return tool


def run(bench, context: Any, *tools: Any, **arguments: Any) -> Any:
    worker = agent("Worker", *(call(t.name) for t in tools), ECHO, tools=list(tools))
    return bench.run_once(worker, context=context, **arguments)


# -- what a context may be ---------------------------------------------------------------------


@dataclasses.dataclass
class Data:
    count: int = 0
    names: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Slots:
    count: int = 0
    names: list[str] = dataclasses.field(default_factory=list)


class Model(BaseModel):
    count: int = 0
    names: list[str] = []


class Struct(msgspec.Struct):
    count: int = 0
    names: list[str] = []


class Plain:
    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []


class Typed(TypedDict):
    count: int
    names: list[str]


CONTEXTS = {
    "dataclass": Data,
    "dataclass with slots": Slots,
    "pydantic": Model,
    "msgspec": Struct,
    "object": Plain,
    "mapping": lambda: Typed(count=0, names=[]),
}


def add_one(context: Any) -> None:
    if isinstance(context, dict):
        context["count"] += 1
        context["names"].append("one")
    else:
        context.count += 1
        context.names.append("one")


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("kind", CONTEXTS)
def test_what_a_tool_changes_in_its_context_is_told(bench, told, kind, sync):
    context = CONTEXTS[kind]()
    run(bench, context, changing("add", add_one, sync=sync))
    [message] = told()
    assert "'count', 'names'" in message
    assert "tool 'add'" in message
    assert (
        "return it from the tool, or keep it in a store of your own; after a crash the change is "
        "not repeated" in message
    )


@pytest.mark.parametrize("kind", CONTEXTS)
def test_a_tool_that_only_reads_is_not_told_of(bench, told, kind):
    context = CONTEXTS[kind]()
    run(bench, context, changing("read", lambda c: json.dumps(repr(c))))
    run(bench, context, changing("put_back", put_back))
    assert told() == []


def put_back(context: Any) -> None:
    names = context["names"] if isinstance(context, dict) else context.names
    names.append("x")
    names.remove("x")


def test_the_warning_is_true(bench, told):
    """The tool's body does not run again, so what it changed is not there on replay."""
    tool = changing("add", add_one)
    live, again = Data(), Data()
    run(bench, live, tool, workflow_id="run")
    run(bench, again, tool, workflow_id="run")
    assert (live.count, again.count) == (1, 0)
    assert len(told()) == 1


def test_a_change_is_told_once_per_tool_and_attribute(bench, told):
    def grow(context: Data) -> None:
        context.count += 1
        if context.count > 1:
            context.names.append("later")

    tool, other = changing("grow", grow), changing("other", lambda c: c.names.append("x"))
    run(bench, Data(), tool, tool, tool, other)
    run(bench, Data(), tool, tool)
    first, second, third = told()
    assert ("'count'" in first, "'names'" in first) == (True, False)
    assert ("'count'" in second, "'names'" in second) == (False, True)
    assert "tool 'other'" in third


def test_attributes_that_come_and_go_are_told(bench, told):
    def come_and_go(context: Any) -> None:
        context.new = 1
        del context.count

    run(bench, Plain(), changing("change", come_and_go))
    [message] = told()
    assert "'count', 'new'" in message


def test_fields_that_a_model_does_not_declare_are_told(bench, told):
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    run(bench, Open(), changing("extends", lambda c: setattr(c, "found", 1)))
    assert "attribute 'found' changed" in told()[0]


def test_a_tool_that_fails_is_told_of_too(bench, told):
    def fail(context: Data) -> None:
        context.count += 1
        raise ValueError("too late")

    run(bench, Data(), changing("fails", fail))
    assert "tool 'fails'" in told()[0]


def test_nested_data_is_compared_by_content(bench, told):
    class Inner(BaseModel):
        tags: set[str] = set()

    context = {"deep": {"list": [Data(), Inner()]}}

    def change(c: Any) -> None:
        c["deep"]["list"][1].tags.add("x")

    run(bench, context, changing("tag", change))
    assert len(told()) == 1
    assert "'deep'" in told()[0]


# -- what is passed over -----------------------------------------------------------------------


class Live:
    """A context of the kind that users have: data beside what is no data."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.lock = threading.Lock()
        self.tokens = itertools.count()
        self.lines = (line for line in ["a", "b"])
        self.cache: dict[str, Any] = {"client": client}
        self.callback = print
        self.count = 0

    @property
    def broken(self) -> str:
        raise AssertionError("a property was read")

    @functools.cached_property
    def derived(self) -> int:
        return self.count + 1

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("contexts were compared")

    __hash__ = None  # type: ignore[assignment]


def test_what_has_no_json_form_is_passed_over(bench, told):
    def change(context: Live) -> None:
        with context.lock:
            context.cache["found"] = object()
            assert context.derived == 1
            assert next(context.tokens) == 0
            assert next(context.lines) == "a"

        context.lock = threading.Lock()

    async def main() -> Live:
        async with httpx2.AsyncClient() as client:
            context = Live(client)
            worker = agent("Worker", call("change"), call("count"), ECHO)
            worker.tools = [changing("change", change), changing("count", add_one_to_count)]
            result = await bench.run(worker, context=context)
            assert result.context_wrapper.context is context
            assert context.client is client
            return context

    context = asyncio.run(main())
    assert context.count == 1
    [message] = told()
    assert "attribute 'count' changed while tool 'count' ran" in message


def add_one_to_count(context: Any) -> None:
    context.count += 1


def test_serializers_of_a_model_are_not_called(bench, told):
    class Odd(BaseModel):
        count: int = 0
        _private: int = PrivateAttr(default=0)

        @computed_field
        @property
        def computed(self) -> int:
            raise AssertionError("a computed field was read")

    run(bench, Odd(), changing("add", add_one_to_count))
    assert "attribute 'count' changed" in told()[0]


def test_no_context_and_values_without_attributes_are_fine(bench, told):
    for context in (None, "text", 7, [1], object(), Data):
        run(bench, context, changing("nothing", lambda c: None))

    assert told() == []


def test_what_turned_out_to_be_opaque_or_large_is_not_looked_at_again(bench, told, monkeypatch):
    looked: list[str] = []
    form = _context._form

    def counting(value: Any, left: list[int], depth: int) -> Any:
        looked.append(type(value).__name__)
        return form(value, left, depth)

    monkeypatch.setattr(_context, "_form", counting)
    context = {
        "lock": threading.Lock(),
        "large": [[i] for i in range(_context._PARTS)],
        "itself": [],
        "count": 0,
    }
    context["itself"].append(context["itself"])
    run(bench, context, changing("a", lambda c: c["large"].append(1)))
    assert len(looked) < 2 * _context._PARTS
    looked.clear()
    run(bench, context, changing("b", lambda c: c.update(count=1)))
    assert looked == ["int", "int"]
    [message] = told()
    assert "'count'" in message


def test_a_context_with_very_many_attributes_is_not_looked_at(bench, told):
    context = {f"key {i}": i for i in range(_context._ATTRIBUTES + 1)}
    run(bench, context, changing("a", lambda c: c.update({"key 1": 2})))
    assert told() == []


# -- several at once ---------------------------------------------------------------------------


def side_by_side(bench, context: Any, changes: dict[str, Any]) -> None:
    """Run tools that wait for each other, change the context, and wait for each other again."""

    async def main() -> None:
        barrier = asyncio.Barrier(len(changes))

        def meeting(name: str) -> Any:
            @function_tool(name_override=name)
            async def tool(context: RunContextWrapper[Any]) -> str:
                """Change the context."""
                async with asyncio.timeout(10):
                    await barrier.wait()
                    changes[name](context.context)
                    await barrier.wait()

                return "changed"

            return tool

        tools = [meeting(name) for name in changes]
        await bench.run(
            agent("Worker", calls(*(call(n) for n in changes)), ECHO, tools=tools), context=context
        )

    asyncio.run(main())


def test_of_tools_side_by_side_none_is_accused(bench, told):
    side_by_side(bench, Data(), {"adds": add_one_to_count, "reads": lambda c: None})
    [message] = told()
    assert "'count' changed while tool 'adds' and tool 'reads' ran beside others; if" in message


def test_a_tool_that_was_told_of_explains_the_change_beside_others(bench, told):
    context = Data()
    run(bench, context, changing("adds", add_one_to_count))
    side_by_side(bench, context, {"adds": add_one_to_count, "reads": lambda c: None})
    assert len(told()) == 1


def test_a_hook_beside_two_calls_of_one_tool_does_not_accuse_it(bench, told):
    async def main() -> None:
        ended = asyncio.Event()

        @function_tool
        async def waits(first: bool) -> str:
            if not first:
                await asyncio.wait_for(ended.wait(), 10)

            return "done"

        class Ends(RunHooks):
            async def on_tool_end(self, context: Any, *_: Any) -> None:
                context.context.count += 1
                ended.set()

        both = calls(call("waits", first=True), call("waits", first=False))
        worker = agent("Worker", both, ECHO, tools=[waits])
        await bench.run(worker, context=Data(), hooks=Ends())

    asyncio.run(main())
    [message] = told()
    assert "tool 'waits' ran beside others; if this is what changed it" in message


def test_tools_one_after_the_other_are_told_of_alone(bench, told):
    side_by_side(bench, Data(), {"a": lambda c: None, "b": lambda c: None})
    run(bench, Data(), changing("reads", lambda c: None), changing("adds", add_one_to_count))
    [message] = told()
    assert "while tool 'adds' ran:" in message


# -- what is not a tool ------------------------------------------------------------------------


class Counting(RunHooks):
    async def on_llm_start(self, context: Any, *_: Any) -> None:
        context.context.count += 1

    async def on_tool_end(self, context: Any, *_: Any) -> None:
        context.context.count += 1


@pytest.mark.counts_executions
def test_what_hooks_change_is_repeated_and_not_told(bench, told):
    contexts = [Data(), Data(), Data()]
    worker = agent("Worker", call("a"), ECHO, tools=[changing("a", lambda c: None)])
    bench.plainly(worker, context=contexts[0], hooks=Counting())
    for context in contexts[1:]:
        bench.run_once(worker, context=context, hooks=Counting(), workflow_id="run")

    assert [c.count for c in contexts] == [3, 3, 3]
    assert told() == []


def test_what_recorded_instructions_change_is_told(bench, told):
    async def instructions(context: Any, agent: Any) -> str:
        context.context.count += 1
        return mind("Worker", say("ok"))

    worker = agent("Worker", say("ok"))
    worker.instructions = instructions
    contexts = [Data(), Data()]
    for context in contexts:
        bench.run_once(worker, context=context, workflow_id="run")

    assert [c.count for c in contexts] == [1, 0]
    [message] = told()
    assert "'count' changed while the instructions of agent 'Worker' ran" in message
    assert "mark the function inline" in message


def test_the_sdks_own_runner_is_not_watched(bench, told):
    worker = agent("Worker", call("add"), ECHO, tools=[changing("add", add_one)])
    bench.run_once(worker, runner=Runner, context=Data())
    assert told() == []
    bench.run_once(worker, runner=DurableRunner, context=Data())
    assert len(told()) == 1
