"""Agent runs that their process left behind, continued by a service that can make their agents.

A run belongs to the agent object that it was called with; another that merely has the same name
never continues it. A factory is the exception that its owner declares: it is asked for each run,
with what was recorded of it, and makes the agent for that one.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agents import Agent, RunConfig, RunErrorHandlers, RunHooks
from durable_core import embedded
from durable_core.adapter import CallOptions, RunOptions

from . import _provider
from ._workflow import AgentRun, Call

__all__ = ["Continuation", "UnfinishedRun", "memo_of", "recover", "register_agent"]

_log = logging.getLogger("durable_openai_agents")

_LIVE = ("context", "hooks", "run_config", "error_handlers")
_DATA = ("max_turns", "previous_response_id", "auto_previous_response_id", "conversation_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedRun:
    """What is known of a run whose process has ended; a factory gets it.

    Attributes:
        workflow_id: Id of the run.
        run_id: Unique id of the run.
        agent: Name of the agent that it was started with.
        input: What it was started with.
        metadata: That of its `RunOptions`, such as a user or a tenant.
    """

    workflow_id: str
    run_id: str
    agent: str
    input: str | list[Any]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What a run needs to go on; a factory returns it, or the agent alone.

    Attributes:
        agent: The agent, with the name that the run was started with.
        context: As in `DurableRunner.run`, like those below.
        hooks: Called for what happens from now on, and while the run is rebuilt.
        run_config: As in the SDK.
        error_handlers: As in the SDK.
        max_turns: Instead of those that the run was started with, if given.
        options: How model calls and tools are executed.
    """

    agent: Agent[Any]
    context: Any = None
    hooks: RunHooks[Any] | None = None
    run_config: RunConfig | dict[str, Any] | None = None
    error_handlers: RunErrorHandlers[Any] | None = None
    max_turns: int | None = None
    options: RunOptions | None = None


Made = Agent[Any] | Continuation
Factory = Callable[[UnfinishedRun], Made | Awaitable[Made]]

_factories: dict[str, Factory] = {}


def register_agent(name: str, factory: Factory) -> None:
    """Let this process continue the runs of an agent that lost theirs: see `DurableRunner.recover`.

    Args:
        name: The ``name`` of the agent that the runs were started with.
        factory: Makes the agent for one run, with the same tools, sync or async. Where agents are
            built per tenant or per request, it finds in the run's id, input or metadata for whom.
            A run that was started with a context, hooks, a run config, error handlers or options
            for its calls goes on only if the factory returns a `Continuation` with those too;
            otherwise it waits for its caller.

    Raises:
        TypeError: ``factory`` is no function.
        ValueError: Another factory has that name.
    """
    if isinstance(factory, Agent) or not callable(factory):
        raise TypeError(
            f"register_agent({name!r}, …) needs a function that makes the agent for a run, got "
            f"{type(factory).__name__}: pass lambda run: agent"
        )

    known = _factories.get(name)
    if known is not None and not _replaces(factory, known):
        raise ValueError(
            f"an agent {name!r} is registered already, by {_place(known)}: one factory makes the "
            "agents of all runs of that name; let it look at run.metadata or run.workflow_id"
        )

    _factories[name] = factory


def _replaces(factory: Factory, known: Factory) -> bool:
    """Return whether a factory is another one again: the cell or module that defines it ran twice.

    Functions made inside others, and lambdas, have the same name and may do different things.
    """
    return factory is known or (_place(factory) == _place(known) and "<" not in _place(known))


def memo_of(arguments: Mapping[str, Any], options: RunOptions) -> dict[str, Any]:
    """Return what is recorded of a call beside its agent's name and its input."""
    given = {name: arguments[name] for name in _DATA}
    call = {name: v for name, v in given.items() if v is not None and v is not False}
    live = [name for name in _LIVE if arguments[name] is not None]
    if options.model != CallOptions() or options.tools or options.strict:
        live.append("options")

    if live:
        call["with"] = live

    memo: dict[str, Any] = {"call": call}
    if options.metadata:
        memo["metadata"] = dict(options.metadata)

    return memo


async def recover() -> embedded.Recovery:
    """Continue what registered agents left behind, on the running loop."""
    return await embedded.recover(AgentRun.run, _make_resources)


@asynccontextmanager
async def _make_resources(orphan: embedded.Orphan) -> AsyncGenerator[Mapping[str, Any] | None]:
    name, given = orphan.args
    memo: dict[str, Any] = orphan.memo or {}
    factory = _factories.get(name)
    if factory is None:
        yield None
        return

    run = UnfinishedRun(
        workflow_id=orphan.workflow_id,
        run_id=orphan.run_id,
        agent=name,
        input=given,
        metadata=memo.get("metadata", {}),
    )
    made = factory(run)
    if inspect.isawaitable(made):
        made = await made

    continuation = made if isinstance(made, Continuation) else _of_agent(made, factory)
    if continuation.agent.name != name:
        raise ValueError(
            f"the factory of {name!r} returned an agent named {continuation.agent.name!r}: the "
            "name is part of what identifies its calls"
        )

    recorded: dict[str, Any] = memo.get("call", {})
    missing = [n for n in recorded.get("with", ()) if getattr(continuation, n) is None]
    if missing:
        _log.warning(
            "run %r waits for its caller: it was started with %s, which the factory of %r does "
            "not return; a Continuation can hold it. See: durable show %s",
            orphan.workflow_id,
            ", ".join(missing),
            name,
            orphan.workflow_id,
        )
        yield None
        return

    arguments: dict[str, Any] = {n: getattr(continuation, n) for n in _LIVE}
    arguments.update({n: recorded.get(n) for n in _DATA}, session=None)
    arguments["auto_previous_response_id"] = bool(arguments["auto_previous_response_id"])
    if continuation.max_turns is not None:
        arguments["max_turns"] = continuation.max_turns

    async with _provider.own(arguments):
        options = continuation.options or RunOptions()
        yield {"call": Call(continuation.agent, given, arguments, options)}


def _of_agent(made: Any, factory: Factory) -> Continuation:
    if not isinstance(made, Agent):
        raise TypeError(
            f"the factory {_place(factory)} returned {type(made).__name__}: it has to return an "
            "Agent or a Continuation"
        )

    return Continuation(agent=made)


def _place(factory: Any) -> str:
    name = getattr(factory, "__qualname__", type(factory).__qualname__)
    return f"{getattr(factory, '__module__', '?')}.{name}"
