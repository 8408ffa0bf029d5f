"""Plain runs and their tools: the same three times, by the SDK, by us, and from the record."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import json
import threading
from collections import OrderedDict
from typing import Any

import pytest
from agents import (
    Agent,
    ModelBehaviorError,
    RunContextWrapper,
    ToolOutputImage,
    ToolOutputText,
    ToolTimeoutError,
    UserError,
    function_tool,
)
from agents.tool_context import ToolContext
from durable_core import embedded
from durable_openai_agents import RunOptions
from support.agents_bench import (
    ECHO,
    REPEAT,
    agent,
    call,
    calls,
    mind,
    say,
)
from support.agents_programs import Point

pytest_plugins = ["support.agents_fixtures"]

BOTH_APIS = pytest.mark.parametrize("api", ["responses", "chat"])


# -- plain runs --------------------------------------------------------------------------------


@BOTH_APIS
def test_a_run_without_tools_is_that_of_the_sdk(bench, api):
    bench.api = api
    done = bench.compare(agent("Greeter", say("hello")))
    assert done.live.final_output == "hello"
    assert [r.api for r in done.requests] == [api]


def test_a_list_of_items_is_an_input(bench):
    items = [
        {"role": "user", "content": "one"},
        {"role": "user", "content": [{"type": "input_text", "text": "two"}]},
    ]
    done = bench.compare(agent("Greeter", REPEAT), items)
    assert done.live.final_output == "two"


def test_a_result_is_the_input_of_the_next_run(bench):
    greeter = agent("Greeter", REPEAT, say("bye"))
    first = bench.run_once(greeter, "hello", workflow_id="chat/1")
    done = bench.compare(
        greeter, [*first.to_input_list(), {"role": "user", "content": "more"}], id="chat/2"
    )
    assert done.live.final_output == "bye"


def test_the_recorded_result_comes_back_without_a_request(bench):
    greeter = agent("Greeter", say("hello"))
    done = bench.compare(greeter)
    assert done.live.last_agent is greeter
    assert done.recorded.last_agent is greeter
    assert done.recorded.new_items[0].agent is greeter


@pytest.mark.needs_a_store
def test_a_run_without_an_id_is_recorded_under_a_new_one(bench, caplog):
    greeter = agent("Greeter", say("hello"))
    with caplog.at_level("INFO", logger="durable_core.embedded"):
        bench.run_once(greeter)
        bench.run_once(greeter)

    ids = [
        record.args[0] for record in caplog.records if record.msg.startswith("run without an id")
    ]
    assert len(set(ids)) == 2
    assert len(bench.requests()) == 2
    assert [a.status for a in bench.activities(ids[0])] == ["completed"]


def test_instructions_may_be_a_function(bench):
    async def instructions(context: RunContextWrapper[Any], agent: Agent[Any]) -> str:
        return mind(agent.name, say(f"for {context.context}"))

    done = bench.compare(Agent(name="Made", instructions=instructions), context="you")
    assert done.live.final_output == "for you"


# -- tools -------------------------------------------------------------------------------------


@BOTH_APIS
def test_async_and_sync_tools_have_their_results_recorded(bench, api):
    bench.api = api

    @function_tool
    async def add(a: int, b: int) -> int:
        bench.ran.append(("add", a, b))
        await asyncio.sleep(0)
        return a + b

    @function_tool
    def shout(text: str) -> str:
        bench.ran.append(("shout", text))
        return text.upper()

    calculator = agent(
        "Calculator", call("add", a=1, b=2), call("shout", text="three"), ECHO, tools=[add, shout]
    )
    done = bench.compare(calculator)
    assert json.loads(done.live.final_output) == ["3", "THREE"]
    assert done.ran == [("add", 1, 2), ("shout", "three")]
    assert [a.args for a in bench.activities(name="openai_agents.tool")] == [
        ["add", done.live.raw_responses[0].output[0].call_id, '{"a": 1, "b": 2}'],
        ["shout", done.live.raw_responses[1].output[0].call_id, '{"text": "three"}'],
    ]


def test_a_sync_tool_runs_in_a_thread_and_an_async_one_on_the_callers_loop(bench):
    @function_tool
    def blocks() -> str:
        bench.ran.append(("sync", threading.current_thread() is threading.main_thread(), in_loop()))
        return "done"

    @function_tool
    async def waits() -> str:
        bench.ran.append(("async", asyncio.get_running_loop() is outer[0], in_loop()))
        return "done"

    def in_loop() -> bool:
        return asyncio._get_running_loop() is not None

    outer: list[Any] = []
    worker = agent("Worker", calls(call("blocks"), call("waits")), say("ok"), tools=[blocks, waits])

    async def main() -> None:
        outer.append(asyncio.get_running_loop())
        await bench.run(worker)

    asyncio.run(main())
    assert sorted(bench.ran) == [("async", True, True), ("sync", False, False)]


def test_a_sync_tool_does_not_block_the_others(bench):
    released = threading.Event()

    @function_tool
    def blocks() -> bool:
        return released.wait(10)

    @function_tool
    async def releases() -> str:
        released.set()
        return "released"

    worker = agent(
        "Worker", calls(call("blocks"), call("releases")), ECHO, tools=[blocks, releases]
    )
    assert json.loads(bench.run_once(worker).final_output) == ["True", "released"]


def test_tools_of_one_turn_overlap_in_time(bench):
    async def main() -> tuple[Any, int]:
        here, most = 0, 0
        everybody = asyncio.Event()

        @function_tool
        async def meet(name: str) -> str:
            nonlocal here, most
            here += 1
            most = max(most, here)
            if here == 4:
                everybody.set()

            await asyncio.wait_for(everybody.wait(), 10)
            here -= 1
            return f"{name} met"

        names = ["a", "b", "c", "d"]
        party = agent("Party", calls(*(call("meet", name=n) for n in names)), ECHO, tools=[meet])
        return await bench.run(party), most

    result, most = asyncio.run(main())
    assert most == 4
    assert json.loads(result.final_output) == ["a met", "b met", "c met", "d met"]


def test_equal_calls_in_one_turn_and_in_two_are_told_apart(bench):
    @function_tool
    async def count() -> int:
        bench.ran.append("count")
        return len(bench.ran)

    counter = agent(
        "Counter", calls(call("count"), call("count")), call("count"), ECHO, tools=[count]
    )
    done = bench.compare(counter)
    assert sorted(json.loads(done.live.final_output)) == ["1", "2", "3"]


class Seen:
    """A context that has no JSON form."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lock = threading.Lock()


def test_the_context_object_reaches_tools_by_reference(bench):
    @function_tool
    async def note(context: RunContextWrapper[Seen], name: str) -> str:
        context.context.names.append(name)
        return str(len(context.context.names))

    @function_tool
    def note_in_thread(context: ToolContext[Seen], name: str) -> str:
        context.context.names.append(f"{name} {context.tool_name}")
        return str(context.tool_call_id.startswith("call_"))

    seen = Seen()
    worker = agent(
        "Worker",
        call("note", name="a"),
        call("note_in_thread", name="b"),
        ECHO,
        tools=[note, note_in_thread],
    )
    result = bench.run_once(worker, context=seen, workflow_id="run")
    assert seen.names == ["a", "b note_in_thread"]
    assert result.context_wrapper.context is seen
    assert json.loads(result.final_output) == ["1", "True"]
    assert (
        bench.run_once(worker, context=(other := Seen()), workflow_id="run").context_wrapper.context
        is other
    )


# -- tools that fail ---------------------------------------------------------------------------


def test_a_tool_that_raises_tells_the_model_what_went_wrong(bench):
    @function_tool
    async def breaks(value: int) -> str:
        bench.ran.append(value)
        raise ValueError(f"no {value} here")

    done = bench.compare(agent("Worker", call("breaks", value=7), ECHO, tools=[breaks]))
    assert "error occurred" in done.live.final_output
    assert done.ran == [7]


def test_a_failure_function_of_the_user_is_called(bench):
    def explain(context: RunContextWrapper[Any], error: Exception) -> str:
        return f"sorry: {type(error).__name__} {error}"

    @function_tool(failure_error_function=explain)
    def breaks() -> str:
        raise LookupError("nothing")

    done = bench.compare(agent("Worker", call("breaks"), ECHO, tools=[breaks]))
    assert json.loads(done.live.final_output) == ["sorry: LookupError nothing"]


@pytest.mark.parametrize("sync", [True, False])
def test_a_tool_without_a_failure_function_fails_the_run_at_its_first_attempt(bench, sync):
    if sync:

        @function_tool(failure_error_function=None)
        def breaks() -> str:
            bench.ran.append("breaks")
            raise ValueError("no")

    else:

        @function_tool(failure_error_function=None)
        async def breaks() -> str:
            bench.ran.append("breaks")
            raise ValueError("no")

    plain, live, recorded = bench.compare_failures(
        agent("Worker", call("breaks"), say("ok"), tools=[breaks])
    )
    assert isinstance(live, UserError)
    assert isinstance(live.__cause__, ValueError)
    [failed] = bench.activities(name="openai_agents.tool")
    assert [a.outcome for a in failed.attempts] == ["failed"]


def test_a_failing_tool_cancels_those_beside_it(bench):
    async def main() -> tuple[list[str], Exception]:
        waiting = asyncio.Event()
        ended: list[str] = []

        @function_tool(failure_error_function=None)
        async def breaks() -> str:
            await waiting.wait()
            raise ValueError("no")

        @function_tool(failure_error_function=None)
        async def waits() -> str:
            waiting.set()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

            return "late"

        worker = agent(
            "Worker", calls(call("waits"), call("breaks")), say("ok"), tools=[breaks, waits]
        )
        errors = []
        for options in (None, RunOptions(on_failed="raise")):
            with pytest.raises(UserError, match="Error running tool breaks: no") as raised:
                await bench.run(worker, workflow_id="run", options=options)

            errors.append(raised.value)
            await embedded.close()

        return ended, errors[1]

    ended, recorded = asyncio.run(main())
    assert ended == ["cancelled"]
    assert isinstance(recorded.__cause__, ValueError)
    assert [(a.summary, a.status) for a in bench.activities(name="openai_agents.tool")] == [
        ("waits({})", "cancelled"),
        ("breaks({})", "failed"),
    ]


def test_a_tool_that_takes_too_long_says_so_to_the_model(bench):
    @function_tool(timeout=0.05)
    async def slow() -> str:
        bench.ran.append("slow")
        await asyncio.sleep(30)
        return "late"

    done = bench.compare(agent("Worker", call("slow"), ECHO, tools=[slow]))
    assert "timed out" in done.live.final_output


def test_a_tool_that_takes_too_long_may_fail_the_run(bench):
    @function_tool(timeout=0.05, timeout_behavior="raise_exception")
    async def slow() -> str:
        await asyncio.sleep(30)
        return "late"

    plain, live, recorded = bench.compare_failures(
        agent("Worker", call("slow"), say("ok"), tools=[slow])
    )
    assert isinstance(recorded, ToolTimeoutError)
    assert (recorded.tool_name, recorded.timeout_seconds) == ("slow", 0.05)


def test_an_error_of_the_sdk_inside_a_tool_fails_the_run_as_itself(bench):
    @function_tool(failure_error_function=None)
    async def wants(value: int) -> str:
        return str(value)

    class Refusal(UserError):
        pass

    @function_tool(failure_error_function=None)
    async def refuses() -> str:
        raise Refusal("I will not")

    malformed = agent("Worker", call("wants", value="many"), say("ok"), tools=[wants])
    plain, live, recorded = bench.compare_failures(malformed, id="malformed")
    assert isinstance(recorded, ModelBehaviorError)
    with pytest.raises(UserError, match="I will not"):
        bench.run_once(
            agent("Worker", call("refuses"), say("ok"), tools=[refuses]), workflow_id="refused"
        )


def test_a_tool_body_that_is_cancelled_by_itself_is_a_failed_tool(bench):
    @function_tool
    async def gives_up() -> str:
        raise asyncio.CancelledError("lost interest")

    done = bench.compare(agent("Worker", call("gives_up"), ECHO, tools=[gives_up]))
    assert "error occurred" in done.live.final_output


def test_a_tool_that_the_model_made_up_is_an_error_of_the_model(bench):
    plain, live, recorded = bench.compare_failures(
        agent("Worker", call("nothing_like_it"), say("ok"))
    )
    assert isinstance(recorded, ModelBehaviorError)


# -- what tools return -------------------------------------------------------------------------


@dataclasses.dataclass
class Place:
    name: str
    at: Point
    tags: tuple[str, ...] = ()


class Colour(enum.Enum):
    RED = "red"


PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

OUTPUTS = {
    "text": "some text",
    "number": 42,
    "float": 1.5,
    "not a number": float("nan"),
    "bool": True,
    "nothing": None,
    "mapping": {"a": [1, {"b": None}], "c": "d"},
    "list": [1, "two", 3.0],
    "tuple": (1, ("two", [3])),
    "enum": Colour.RED,
    "model": Point(x=1),
    "dataclass": Place("home", Point(x=1, y=2), ("a", "b")),
    "list of models": [Point(x=1), Point(x=2)],
    "text part": ToolOutputText(text="some text"),
    "image part": ToolOutputImage(image_url=PIXEL, detail="low"),
    "parts": [ToolOutputText(text="look"), ToolOutputImage(image_url=PIXEL)],
    "part as a mapping": {"type": "text", "text": "some text"},
}


@pytest.mark.parametrize("name", OUTPUTS)
@BOTH_APIS
def test_what_a_tool_returns_reaches_the_model_as_with_the_sdk(bench, api, name):
    bench.api = api

    @function_tool
    async def give() -> Any:
        bench.ran.append("give")
        return OUTPUTS[name]

    done = bench.compare(agent("Taker", call("give"), say("thanks"), tools=[give]))
    output = next(i.output for i in done.recorded.new_items if i.type == "tool_call_output_item")
    assert type(output) is type(OUTPUTS[name])


class Odd:
    def __str__(self) -> str:
        return "an odd thing"

    def __repr__(self) -> str:
        return "<odd>"


ODD_OUTPUTS = {
    "object": (Odd(), "an odd thing"),
    "object in a list": ([1, Odd()], "[1, <odd>]"),
    "object in a mapping": ({"a": {"b": Odd()}}, "{'a': {'b': <odd>}}"),
    "date in a mapping": ({"on": datetime.date(2024, 2, 29)}, "{'on': datetime.date(2024, 2, 29)}"),
    "bytes": (b"\xff", r"b'\xff'"),
    "set": ({1}, "{1}"),
    "mapping of numbers": ({1: "a"}, "{1: 'a'}"),
    "ordered mapping": (OrderedDict(a=1), str(OrderedDict(a=1))),
}


@pytest.mark.parametrize("name", ODD_OUTPUTS)
def test_what_has_no_json_form_is_recorded_as_the_text_that_the_model_gets(bench, name, caplog):
    value, text = ODD_OUTPUTS[name]

    @function_tool
    async def give() -> Any:
        return value

    taker = agent("Taker", call("give"), ECHO, tools=[give])
    plain = bench.plainly(taker)
    live = bench.run_once(taker, workflow_id="run")
    again = bench.run_once(taker, workflow_id="run")
    assert [json.loads(r.final_output) for r in (plain, live, again)] == [[text]] * 3
    assert next(i.output for i in again.new_items if i.type == "tool_call_output_item") == text


def test_what_is_recorded_as_text_is_warned_about_once(bench, caplog):
    class Rare(Odd):
        pass

    @function_tool
    async def give() -> Any:
        return Rare()

    taker = agent("Taker", calls(call("give"), call("give")), ECHO, tools=[give])
    bench.run_once(taker)
    [record] = [r for r in caplog.records if r.name == "durable_openai_agents"]
    assert record.levelname == "WARNING"
    assert "Rare" in record.getMessage()
    assert "dataclass" in record.getMessage()
