"""The workflow that every agent run from plain code is: the SDK's own loop, on our event loop."""

from __future__ import annotations

import asyncio
import difflib
import logging
from dataclasses import dataclass, field
from typing import Any

import openai
from agents import Agent, RunResult
from agents.exceptions import AgentsException, UserError
from agents.run import AgentRunner
from agents.tracing import get_trace_provider
from durable_core import workflow
from durable_core.adapter import RunOptions, current_engine, outside
from durable_core.exceptions import NotSupported

from ._refusals import io_refusal
from ._scope import Scope, entered

__all__ = ["AgentRun", "Call", "run_inside"]


_log = logging.getLogger("durable_openai_agents")


@dataclass(slots=True)
class Call:
    """One call of the runner, as its caller made it; attached to the run, never recorded.

    Attributes:
        agent: Where the run starts.
        input: What it starts with.
        arguments: Everything else that the SDK's runner takes.
        options: Ours.
        loop: The one that it was called on.
        workflow_id: Id of the run, once it is under way here.
        result: What the SDK's runner returned, once it did.
        error: What it raised, if it did.
    """

    agent: Agent[Any]
    input: str | list[Any]
    arguments: dict[str, Any]
    options: RunOptions = field(default_factory=RunOptions)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    workflow_id: str | None = None
    result: RunResult | None = None
    error: BaseException | None = None


# A `UserError` is the SDK's word for a mistake in the program, and what it wraps the bug of a hook
# into: like any other bug it stalls the run, unless a recorded call is behind it.
_FAILURES = [
    cls
    for cls in AgentsException.__subclasses__()
    if cls.__module__ == AgentsException.__module__ and cls is not UserError
]


@workflow.defn(
    name="openai_agents.run",
    failure_exception_types=[*_FAILURES, openai.OpenAIError],
)
class AgentRun:
    """One run of an agent: its arguments are its identity, its live objects are attached."""

    @workflow.run
    async def run(self, agent: str, input: Any) -> dict[str, Any]:
        """Run the attached agent and return what a reader of the record wants to know."""
        _ = agent, input
        engine = current_engine()
        assert engine is not None
        call: Call = engine.resource("call")
        call.workflow_id = engine.workflow_id
        scope = Scope(options=call.options, loop=call.loop)
        try:
            result = await run_inside(call.agent, call.input, call.arguments, scope)
        except (Exception, asyncio.CancelledError) as error:
            call.error = error
            raise

        call.result = result
        return {
            "final_output": _readable(result.final_output),
            "last_agent": result.last_agent.name,
        }


async def run_inside(
    agent: Agent[Any], input: Any, arguments: dict[str, Any], scope: Scope
) -> RunResult:
    """Run an agent by the SDK's own runner, inside a workflow.

    Raises:
        NotSupported: The run asks for an approval.
        Exception: Whatever the SDK's runner raises.
    """
    # Else the first trace makes it, and its exporter reckons by the clock that it then sees.
    outside(get_trace_provider)
    with entered(scope):
        try:
            result = await AgentRunner().run(agent, input, **arguments)
        except Exception as error:
            if scope.refused:
                raise scope.refused[0] from scope.refused[0].__cause__

            refused = io_refusal(error)
            if refused is not None:
                raise refused from refused.__cause__

            raise

    if result.interruptions:
        names = ", ".join(sorted({str(item.name) for item in result.interruptions}))
        raise NotSupported(
            f"a tool asks for approval ({names}), which durable runs do not support yet"
        )

    _warn_of_misspelled_options(scope)
    return result


def _warn_of_misspelled_options(scope: Scope) -> None:
    """Say that options were given for a tool that no agent had, if one has nearly that name.

    Others may be for agents that this run did not come to.
    """
    engine = current_engine()
    if engine is None or engine.replaying:
        return

    for name in sorted({*scope.options.tools} - scope.offered):
        for meant in difflib.get_close_matches(name, sorted(scope.offered), n=1, cutoff=0.75):
            _log.warning(
                "run %r has options for a tool %r, which none of its agents had: is %r meant?",
                engine.workflow_id,
                name,
                meant,
            )


def _readable(output: Any) -> Any:
    """Return a final output as something that has a JSON form."""
    from ._outputs import dump

    return dump(output, warn=False)
