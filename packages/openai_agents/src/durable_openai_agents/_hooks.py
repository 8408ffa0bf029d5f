"""The two places at which the SDK is told about us.

The SDK's loop, agents and objects stay untouched; two of its module-level names are replaced by
functions that do what they did, and inside a durable run record it:

- ``run_loop.get_model`` resolves the model of a turn: the resolved object is wrapped;
- ``tool_execution._invoke_function_tool_with_metadata`` runs the body of a function tool.

Both are private names of the SDK, so their presence and shape are checked when this package is
imported, and a test runs on the lowest and the newest supported version.
"""

from __future__ import annotations

import inspect
from importlib import metadata
from typing import Any

import agents.tool
from agents import Agent, Model, RunConfig
from agents.run_internal import run_loop, tool_execution
from durable_core.adapter import current_engine
from durable_core.exceptions import NotSupported

from . import _errors
from ._model import DurableModel
from ._scope import current_scope
from ._tool import durable_invoke

__all__ = ["install"]

_INVOKE = "_invoke_function_tool_with_metadata"
_MARK = "__durable__"


def install() -> None:
    """Install both hooks. May be called again.

    Raises:
        NotSupported: This version of the SDK has other insides.
    """
    if getattr(run_loop.get_model, _MARK, False):
        return

    _check(run_loop, "get_model", ["agent", "run_config"])
    _check(
        tool_execution,
        "_invoke_function_tool_with_metadata",
        ["function_tool", "context", "arguments"],
    )
    resolve = run_loop.get_model

    def get_model(agent: Agent[Any], run_config: RunConfig) -> Model:
        model = resolve(agent, run_config)
        if current_engine() is None:
            return model

        # One wrapper for one model and agent: the SDK tracks models by identity.
        known = current_scope().models
        key = (id(model), agent.name)
        if key not in known:
            known[key] = (model, DurableModel(model, agent.name))

        wrapped: Model = known[key][1]
        return wrapped

    setattr(get_model, _MARK, True)
    run_loop.get_model = get_model
    result_type = agents.tool._FunctionToolInvocationResult  # noqa: SLF001
    original = getattr(tool_execution, _INVOKE)
    setattr(tool_execution, _INVOKE, durable_invoke(original, result_type))
    _errors.register()


def _check(module: Any, name: str, parameters: list[str]) -> None:
    found = getattr(module, name, None)
    if found is None or list(inspect.signature(found).parameters) != parameters:
        raise NotSupported(
            f"openai-agents {metadata.version('openai-agents')} has changed inside "
            f"({module.__name__}.{name}): upgrade durable-openai-agents, or install a version that "
            "it was tested with"
        )
