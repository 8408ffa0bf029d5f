"""The places at which the SDK is told about us.

The SDK's loop, agents and objects stay untouched; a few of its functions are replaced by what does
the same, and inside a durable run also on replay:

- ``run_loop.get_model`` resolves the model of a turn: the resolved object is wrapped;
- ``tool_execution._invoke_function_tool_with_metadata`` runs the body of a function tool;
- ``tool.asyncio`` is where the body of a sync tool gets its thread, which must not keep a process
  from ending;
- ``model_retry.random`` is where the jitter of the SDK's own retries comes from, and a delay is
  part of the record;
- ``openai_provider.shared_http_client`` is the pool of connections of default clients, which each
  event loop gets its own of;
- ``Agent.get_all_tools`` is where tools whose bodies are not recorded yet are refused;
- ``tool.maybe_invoke_function_tool_failure_error_function`` tells the model why a tool failed,
  which must not be that its agent does what a durable run refuses;
- ``Agent.get_system_prompt``, ``PromptUtil.to_model_input`` and the field ``is_enabled`` of tools
  and handoffs are where functions of the user are called that may be asynchronous;
- what `_tracing` replaces in the SDK's trace provider and processors.

Most are private names of the SDK, so their presence and shape are checked when this package is
imported, and a test runs on the lowest and the newest supported version.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable
from importlib import metadata
from typing import Any

import agents.tool
from agents import (
    Agent,
    ApplyPatchTool,
    ComputerTool,
    CustomTool,
    FunctionTool,
    Handoff,
    Model,
    RunConfig,
    RunContextWrapper,
    Tool,
    handoff,
)
from agents.models import openai_provider
from agents.prompts import PromptUtil
from agents.run_internal import model_retry, run_loop, tool_execution
from agents.tracing.processors import BackendSpanExporter, BatchTraceProcessor
from agents.tracing.provider import DefaultTraceProvider, SynchronousMultiTracingProcessor
from durable_core import activity
from durable_core.adapter import current_engine
from durable_core.exceptions import NotSupported

from . import _errors, _tracing
from ._callables import Condition, durable_instructions, durable_prompt, users_condition
from ._model import DurableModel
from ._provider import durable_pool
from ._refusals import durable_failure
from ._scope import current_scope, refusal
from ._tool import durable_invoke

__all__ = ["install"]

_INVOKE = "_invoke_function_tool_with_metadata"
_TELL = "maybe_invoke_function_tool_failure_error_function"
_POOL = "shared_http_client"
_MARK = "__durable__"
_UNRECORDED = (ApplyPatchTool, ComputerTool, CustomTool)
_FUNCTIONS: tuple[tuple[Any, str, list[str]], ...] = (
    (run_loop, "get_model", ["agent", "run_config"]),
    (tool_execution, _INVOKE, ["function_tool", "context", "arguments"]),
    (agents.tool, _TELL, ["function_tool", "context", "error"]),
    (openai_provider, _POOL, []),
    (Agent, "get_system_prompt", ["self", "run_context"]),
    (PromptUtil, "to_model_input", ["prompt", "context", "agent"]),
    (SynchronousMultiTracingProcessor, "on_trace_start", ["self", "trace"]),
    (SynchronousMultiTracingProcessor, "on_trace_end", ["self", "trace"]),
    (SynchronousMultiTracingProcessor, "on_span_start", ["self", "span"]),
    (SynchronousMultiTracingProcessor, "on_span_end", ["self", "span"]),
    (DefaultTraceProvider, "gen_trace_id", ["self"]),
    (DefaultTraceProvider, "gen_span_id", ["self"]),
    (DefaultTraceProvider, "gen_group_id", ["self"]),
    (DefaultTraceProvider, "time_iso", ["self"]),
    (BatchTraceProcessor, "shutdown", ["self", "timeout"]),
)
_ATTRIBUTES: tuple[tuple[type, str], ...] = (
    (SynchronousMultiTracingProcessor, "_processors"),
    (BatchTraceProcessor, "_exporter"),
    (BackendSpanExporter, "_client"),
)


def install() -> None:
    """Install the hooks. May be called again.

    Raises:
        NotSupported: This version of the SDK has other insides.
    """
    if getattr(run_loop.get_model, _MARK, False):
        return

    for owner, name, parameters in _FUNCTIONS:
        _check(owner, name, parameters)

    for cls, name in _ATTRIBUTES:
        # Its constructor names what it sets; to call it would open a client.
        if name not in inspect.unwrap(vars(cls)["__init__"]).__code__.co_names:
            raise _changed(cls, name)

    for module, name, expected in (
        (model_retry, "random", random),
        (agents.tool, "asyncio", asyncio),
    ):
        if getattr(module, name, None) is not expected:
            raise _changed(module, name)

    for owner in (FunctionTool, Handoff):
        if vars(owner).get("is_enabled") is not True:
            raise _changed(owner, "is_enabled")

    probe: Any = object.__init__
    if users_condition(handoff(Agent(name="probe"), is_enabled=probe).is_enabled) is not probe:
        raise _changed(Handoff, "is_enabled")

    resolve = run_loop.get_model

    def get_model(agent: Agent[Any], run_config: RunConfig) -> Model:
        model = resolve(agent, run_config)
        if current_engine() is None:
            return model

        scope = current_scope()
        if scope.refused:
            raise scope.refused[0]

        # One wrapper for one model and agent: the SDK tracks models by identity.
        known = scope.models
        key = (id(model), agent.name)
        if key not in known:
            known[key] = (model, DurableModel(model, agent.name))

        wrapped: Model = known[key][1]
        return wrapped

    list_tools = Agent.get_all_tools

    async def get_all_tools(self: Agent[Any], run_context: RunContextWrapper[Any]) -> list[Tool]:
        if current_engine() is not None:
            _refuse_unrecorded(self)

        return await list_tools(self, run_context)

    Agent.get_all_tools = get_all_tools  # type: ignore[method-assign, assignment]
    Agent.get_system_prompt = durable_instructions(Agent.get_system_prompt)  # type: ignore[method-assign]
    PromptUtil.to_model_input = staticmethod(durable_prompt(PromptUtil.to_model_input))  # type: ignore[method-assign]
    for owner in (FunctionTool, Handoff):
        setattr(owner, "is_enabled", Condition())  # noqa: B010  # a field, which is no descriptor
    setattr(get_model, _MARK, True)
    run_loop.get_model = get_model
    result_type = agents.tool._FunctionToolInvocationResult  # noqa: SLF001
    original = getattr(tool_execution, _INVOKE)
    setattr(tool_execution, _INVOKE, durable_invoke(original, result_type))
    setattr(agents.tool, _TELL, durable_failure(getattr(agents.tool, _TELL)))
    setattr(openai_provider, _POOL, durable_pool(getattr(openai_provider, _POOL)))
    setattr(model_retry, "random", _Random())  # noqa: B010  # not a name that it exports
    setattr(agents.tool, "asyncio", _Asyncio())  # noqa: B010  # neither is this
    _errors.register()
    _tracing.install()


def _refuse_unrecorded(agent: Agent[Any]) -> None:
    """Refuse what would run inside the workflow: again on every replay, or never to an end.

    Raises:
        NotSupported: The agent has such a tool.
    """
    found = [
        type(tool).__name__
        for tool in agent.tools
        if isinstance(tool, _UNRECORDED) or getattr(tool, "executor", None) is not None
    ]
    if agent.mcp_servers:
        found.append("mcp_servers")

    if found:
        raise refusal(
            f"agent {agent.name!r} has {', '.join(found)}, which durable runs do not support yet: "
            "wrap the call in a function_tool, or use a hosted tool or the SDK's Runner"
        )


class _Random:
    """The module ``random``, whose ``random()`` is equal on every replay inside a durable run."""

    def random(self) -> float:
        engine = current_engine()
        return random.random() if engine is None else engine.random().random()  # noqa: S311

    def __getattr__(self, name: str) -> Any:
        return getattr(random, name)


class _Asyncio:
    """The module ``asyncio``, whose ``to_thread`` takes the worker's threads in a durable run.

    A process cannot end before the threads of ``asyncio`` do: a tool that never returns would hold
    up the end of its program, also by Ctrl-C, for ever.
    """

    async def to_thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        where = activity if activity.in_activity() else asyncio
        return await where.to_thread(fn, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


def _check(owner: Any, name: str, parameters: list[str]) -> None:
    found = getattr(owner, name, None)
    if found is None or list(inspect.signature(found).parameters) != parameters:
        raise _changed(owner, name)


def _changed(owner: Any, name: str) -> NotSupported:
    return NotSupported(
        f"openai-agents {metadata.version('openai-agents')} has changed inside "
        f"({owner.__name__}.{name}): upgrade durable-openai-agents, or install a version that it "
        "was tested with"
    )
