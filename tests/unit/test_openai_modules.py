"""Which modules of the user's stand behind a tool, whatever the SDK wraps around it."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from agents import FunctionTool, function_tool
from durable_openai_agents._modules import modules_behind

HERE = __name__


def elsewhere(name: str, fn: Any) -> Any:
    fn.__module__ = name
    return fn


def decorated(fn: Any) -> Any:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return elsewhere("decorators", wrapper)


def sync_tool(text: str) -> str:
    return text


async def async_tool(text: str) -> str:
    return text


class Service:
    async def call(self, context: Any, arguments: str) -> str:
        return json.loads(arguments)["text"]

    async def __call__(self, context: Any, arguments: str) -> str:
        return arguments


def by_hand(invoke: Any) -> FunctionTool:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    return FunctionTool(name="x", description="", params_json_schema=schema, on_invoke_tool=invoke)


async def bound(prefix: str, context: Any, arguments: str) -> str:
    return prefix


@pytest.mark.parametrize(
    "tool",
    [
        function_tool(sync_tool),
        function_tool(async_tool),
        function_tool(failure_error_function=None)(sync_tool),
        function_tool(timeout=3)(async_tool),
        by_hand(Service().call),
        by_hand(Service()),
        by_hand(functools.partial(bound, "a")),
    ],
    ids=["sync", "async", "raising", "timeout", "method", "object", "partial"],
)
def test_the_module_of_a_tool_is_found(tool):
    assert modules_behind(tool.on_invoke_tool) == (HERE,)


def test_the_module_behind_a_decorator_is_found_beside_that_of_the_decorator():
    @decorated
    def tool(text: str) -> str:
        return text

    found = modules_behind(function_tool(tool).on_invoke_tool)
    assert set(found) == {"decorators", HERE}


def test_neither_the_sdk_nor_the_standard_library_is_the_users():
    async def invoke(context: Any, arguments: str) -> str:
        return json.dumps(functools.reduce(str, [arguments]))

    tools = [json.dumps, functools.reduce, function_tool]
    found = modules_behind(elsewhere("json.decoder", lambda: (tools, invoke)))
    assert found == (HERE,)


def test_functions_that_lead_to_one_another_are_walked_once():
    def one() -> Any:
        return two

    def two() -> Any:
        return one

    assert modules_behind(one) == (HERE,)
