"""Function tools as recorded units: the body of each call, whatever it is, without rewriting it.

Guardrails, hooks, approvals and everything else around the body is the SDK's own code and runs in
the workflow. A tool that runs an agent is no unit: the nested run is, call by call.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

from agents import FunctionTool
from agents.exceptions import ToolTimeoutError
from agents.tool import (
    _consume_function_tool_default_failure,
    maybe_invoke_function_tool_failure_error_function,
    set_function_tool_failure_error_function,
)
from agents.tool_context import ToolContext
from durable_core import activity
from durable_core import exceptions as ex
from durable_core.adapter import CallOptions, Engine, Unit, UnitOptions, current_engine
from durable_core.common import RetryPolicy

from . import _defaults, _outputs
from ._context import others_ran, watched
from ._modules import modules_behind
from ._scope import current_scope, entered
from ._tracing import Trail, restore_span_error, span_error, trail_of

__all__ = ["TOOL_CALL", "durable_invoke"]

TOOL_CALL = "openai_agents.tool"

Invoke = Callable[..., Awaitable[Any]]

# One attempt per failure, as in the SDK; a crash repeats it. A tool has a timeout of its own.
_OPTIONS = UnitOptions(
    start_to_close_timeout=None,
    retry_policy=RetryPolicy(maximum_attempts=_defaults.TOOL_ATTEMPTS),
    lost_attempts_count=False,
)


async def call_tool(name: str, call_id: str, arguments: str) -> dict[str, Any]:
    """Run the body of a tool; the body of the unit."""
    _ = call_id
    invoke: Invoke = activity.resource("invoke")
    tool: FunctionTool = activity.resource("tool")
    context: ToolContext[Any] = activity.resource("context")
    trail: Trail = activity.resource("trail")
    trail.catch_up()
    try:
        with watched(context.context, f"tool {name!r}"):
            result = await invoke(function_tool=tool, context=context, arguments=arguments)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise

        # Cancelled by itself, which the SDK treats as a failure of the tool.
        raise ex.CancelledError(str(error)) from error

    record = {
        "output": _outputs.dump(result.output),
        "generated_error": result.is_sdk_generated_error,
    }
    noted = span_error()
    if noted is not None:
        record["span_error"] = noted

    return record


def durable_invoke(original: Invoke, result_type: Callable[..., Any]) -> Invoke:
    """Return a replacement for the SDK's function that invokes a tool.

    Args:
        original: The SDK's function.
        result_type: What it returns, built of an output and whether the SDK made it of an error.
    """

    async def invoke(
        *, function_tool: FunctionTool, context: ToolContext[Any], arguments: str
    ) -> Any:
        engine = current_engine()
        if engine is None:
            return await original(function_tool=function_tool, context=context, arguments=arguments)

        try:
            return await recorded(engine, function_tool, context, arguments)
        finally:
            # Next come the hooks of this call, while other tools of the turn may still run.
            others_ran(context.context)

    async def recorded(
        engine: Engine, function_tool: FunctionTool, context: ToolContext[Any], arguments: str
    ) -> Any:
        scope = current_scope()
        call_id = context.tool_call_id
        if getattr(function_tool, "_is_agent_tool", False):
            with entered(scope.below(call_id)):
                return await original(
                    function_tool=function_tool, context=context, arguments=arguments
                )

        name = function_tool.name
        call = scope.options.tools.get(name, CallOptions())
        retried = call.retry_policy is not None
        unit = Unit(
            name=TOOL_CALL,
            body=call_tool,
            args=(name, call_id, arguments),
            key=f"{scope.path}{call_id}",
            result_type=dict[str, Any],
            resources={
                "invoke": original,
                "tool": _raising(function_tool) if retried else function_tool,
                "context": context,
                "trail": trail_of(engine),
            },
            options=call.apply(_OPTIONS),
            summary=f"{name}({_short(arguments)})",
            failure_modules=modules_behind(function_tool.on_invoke_tool),
        )
        try:
            record = await engine.schedule(unit)
        except ex.CancelledError as error:
            raise asyncio.CancelledError(str(error)) from error
        except Exception as error:
            if not _for_the_model(error, retried=retried):
                raise

            output = await maybe_invoke_function_tool_failure_error_function(
                function_tool=function_tool, context=context, error=error
            )
            if output is None:
                raise

            return result_type(output, _consume_function_tool_default_failure(context))

        restore_span_error(record.get("span_error"))
        return result_type(_outputs.load(record["output"]), record["generated_error"])

    return invoke


def _for_the_model(error: Exception, *, retried: bool) -> bool:
    """Return whether the failure of a unit is still to be told to the model, as the SDK does.

    Without retries the body has done so itself, unless it was cut off.
    """
    if isinstance(error, (ToolTimeoutError, ex.CallError, ex.WorkflowBugError)):
        return False

    return retried or isinstance(error, ex.TimeoutError)


def _raising(tool: FunctionTool) -> FunctionTool:
    """Return a tool whose failures are raised, so that they can be tried again."""
    return set_function_tool_failure_error_function(copy.copy(tool), None)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
