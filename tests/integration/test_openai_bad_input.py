"""What users of `DurableRunner` get wrong: the error names the value and the remedy."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from agents import ModelBehaviorError, UserError, function_tool
from durable_core import Client, _defaults
from durable_core.common import RetryPolicy
from durable_core.exceptions import EncodeError, WorkflowAlreadyStartedError, WorkflowNotFoundError
from durable_openai_agents import CallOptions, RunOptions
from support.agents_bench import ECHO, agent, call, say

pytest_plugins = ["support.agents_fixtures"]

GREETER = agent("Greeter", say("hello"))
KEPT = "is kept: fix the cause and run the script again"


class Live:
    def __repr__(self) -> str:
        return "<a client>"


def refused(bench, *arguments: Any, id: Any = "run", **more: Any) -> Exception:
    """Return what a call raises that leaves no run behind, and says nothing of one."""

    async def main() -> Exception:
        with pytest.raises((TypeError, ValueError)) as caught:
            await bench.run(*arguments, workflow_id=id, **more)

        async with await Client.connect(bench.store_url) as client:
            assert [found async for found in client.list_workflows()] == []
            if isinstance(id, str) and id.isascii():
                with pytest.raises(WorkflowNotFoundError):
                    await client.get_workflow_handle(id).describe()

        return caught.value

    error = asyncio.run(main())
    assert bench.requests() == []
    assert KEPT not in str(getattr(error, "__notes__", ""))
    return error


# Arguments of the runner


@pytest.mark.parametrize("given", [None, 5, b"hi", ("hi",), {"role": "user", "content": "hi"}])
def test_an_input_of_another_type_is_refused(bench, given):
    error = refused(bench, GREETER, given)
    assert str(error) == f"input must be a str or a list of items, got {given!r}"


@pytest.mark.parametrize("given", [None, "Greeter", Live()])
def test_what_is_no_agent_is_refused(bench, given):
    assert str(refused(bench, given)) == f"starting_agent must be an Agent, got {given!r}"


def test_options_of_another_type_are_refused(bench):
    error = refused(bench, GREETER, options={"on_failed": "raise"})
    assert str(error) == "options must be RunOptions, got {'on_failed': 'raise'}"
    for name, said in (
        ("model", {"model": RetryPolicy()}),
        (r"tools\['charge'\]", {"tools": {"charge": 5}}),
    ):
        with pytest.raises(TypeError, match=f"{name} must be CallOptions, got "):
            RunOptions(**said)


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(seconds=-1)])
def test_a_timeout_of_a_call_must_be_positive(timeout):
    with pytest.raises(ValueError, match="start_to_close_timeout must be positive, got"):
        CallOptions(start_to_close_timeout=timeout)


def test_options_of_a_call_have_their_types():
    with pytest.raises(TypeError, match=r"start_to_close_timeout must be a timedelta, got -1\.5"):
        CallOptions(start_to_close_timeout=-1.5)

    with pytest.raises(TypeError, match="retry_policy must be a RetryPolicy, got 3"):
        CallOptions(retry_policy=3)


@pytest.mark.needs_a_store
@pytest.mark.parametrize(
    ("id", "says"),
    [
        ("", "a workflow id has 1 to 1000 characters, got ''"),
        ("x" * 10_000, "a workflow id has 1 to 1000 characters, got 'xxx"),
        ("chat-\ud800", r"a workflow id is written as UTF-8, got 'chat-\ud800'"),
        (7, "a workflow id is a str, got 7"),
        (b"chat", "a workflow id is a str, got b'chat'"),
    ],
)
def test_an_id_that_cannot_name_a_run_is_refused(bench, id, says):
    error = refused(bench, GREETER, id=id)
    assert says in str(error)
    assert "use a short name" in str(error)
    assert len(str(error) + str(getattr(error, "__notes__", ""))) < 300


@pytest.mark.needs_a_store
def test_an_id_of_a_run_with_other_input_or_of_another_agent_is_refused(bench):
    bench.run_once(GREETER, workflow_id="chat")
    for other, given, at in (
        (GREETER, "other", r"\$\[1\]"),
        (agent("Other", say("hello")), "hi", r"\$\[0\]"),
    ):
        with pytest.raises(WorkflowAlreadyStartedError) as caught:
            bench.run_once(other, given, workflow_id="chat")

        assert caught.match(rf"the id 'chat' belongs to a run with other input \(at {at}: recorded")
        assert caught.match("use one id per input, such as 'chat/2'")


@pytest.mark.needs_a_store
def test_an_input_that_has_no_json_form_is_refused_with_its_place(bench):
    for given, at in (([{"role": "user", "content": Live()}], "content"), ("\ud800", r"$[1]")):
        error = refused(bench, GREETER, given)
        assert isinstance(error, EncodeError)
        assert at in str(error)
        assert "Pass data" in str(error)


@pytest.mark.needs_a_store
def test_metadata_that_have_no_json_form_are_refused_with_their_place(bench):
    error = refused(bench, GREETER, options=RunOptions(metadata={"user": Live()}))
    assert isinstance(error, EncodeError)
    assert "the memo of a run cannot be recorded" in str(error)
    assert "$.metadata.user" in str(error)


# Sizes


@pytest.mark.needs_a_store
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"input": "x" * 5000}, "the input of workflow 'openai_agents.run'"),
        ({"options": RunOptions(metadata={"user": "x" * 5000})}, "the memo of a run"),
    ],
)
def test_what_is_too_large_at_the_start_is_refused(bench, monkeypatch, arguments, what):
    monkeypatch.setattr(_defaults, "PAYLOAD_LIMIT", 4000)
    error = refused(bench, GREETER, **arguments)
    assert isinstance(error, EncodeError)
    assert f"{what} has 5,0" in str(error)
    assert "the limit is 4,000: store the data elsewhere and pass a reference to it" in str(error)


def test_a_result_of_a_tool_that_is_too_large_fails_the_run_by_the_tools_name(bench, monkeypatch):
    @function_tool
    def download(size: int) -> str:
        bench.ran.append(size)
        return "x" * size

    monkeypatch.setattr(_defaults, "PAYLOAD_LIMIT", 4000)
    worker = agent("Worker", call("download", size=5000), ECHO, tools=[download])
    error = bench.failure(worker, workflow_id="run")
    assert isinstance(error, UserError)
    assert "Error running tool download" in str(error)
    assert "bytes, the limit is 4,000: store the data elsewhere" in str(error)
    assert KEPT in error.__notes__[0]
    assert bench.ran == [5000], "the same result would be as large again"


@pytest.mark.needs_a_store
def test_an_answer_of_the_model_that_is_too_large_fails_the_run_which_is_kept(bench, monkeypatch):
    talker = agent("Talker", say("x" * 5000))
    with monkeypatch.context() as patch:
        patch.setattr(_defaults, "PAYLOAD_LIMIT", 4000)
        error = bench.failure(talker, workflow_id="run")

    assert isinstance(error, EncodeError)
    assert "the result of activity 'openai_agents.model' has" in str(error)
    assert KEPT in error.__notes__[0]
    assert len(bench.requests()) == 1
    assert bench.run_once(talker, workflow_id="run").final_output == "x" * 5000


# What the model gets wrong, and what tools do


def test_arguments_that_do_not_fit_a_tool_are_told_to_the_model(bench):
    def told(context: Any, error: Exception) -> str:
        return f"{type(error).__name__}: {error}"

    @function_tool(failure_error_function=told)
    def add(a: int, b: int) -> int:
        bench.ran.append((a, b))
        return a + b

    for number, given in enumerate(({"a": 1, "b": "two"}, {"a": 1})):
        worker = agent("Worker", call("add", **given), ECHO, tools=[add])
        compared = bench.compare(worker, id=f"run-{number}")
        (answer,) = json.loads(compared.live.final_output)
        assert answer.startswith("ModelBehaviorError: Invalid JSON input for tool add")

    assert bench.ran == []


def test_a_tool_that_the_model_makes_up_fails_the_run_by_its_name(bench):
    for error in bench.compare_failures(agent("Worker", call("charge"), ECHO)):
        assert isinstance(error, ModelBehaviorError)
        assert str(error) == "Tool charge not found in agent Worker"


def test_a_tool_that_raises_is_told_to_the_model_as_without_us(bench):
    @function_tool
    def charge(cents: int) -> str:
        raise ValueError(f"no card for {cents}")

    worker = agent("Worker", call("charge", cents=3), ECHO, tools=[charge])
    assert "An error occurred" in bench.compare(worker).live.final_output


def test_a_result_that_is_no_data_reaches_the_model_as_text(bench):
    @function_tool
    def connect() -> Live:
        return Live()

    worker = agent("Worker", call("connect"), ECHO, tools=[connect])
    for _ in range(2):
        assert json.loads(bench.run_once(worker, workflow_id="run").final_output) == ["<a client>"]
