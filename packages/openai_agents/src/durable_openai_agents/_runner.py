"""`DurableRunner`: the SDK's ``Runner``, durable."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from typing import Any, TypeVar, cast

from agents import (
    Agent,
    MultiProvider,
    RunConfig,
    RunErrorHandlers,
    RunHooks,
    RunResult,
    RunResultStreaming,
    RunState,
    Session,
    TResponseInputItem,
)
from agents.run import DEFAULT_MAX_TURNS
from durable_core import embedded
from durable_core.adapter import RunOptions, current_engine
from durable_core.exceptions import ApplicationError, NotSupported, WorkflowAlreadyStartedError

from . import _hooks
from ._workflow import AgentRun, Call, run_inside

__all__ = ["DurableRunner"]

TContext = TypeVar("TContext")

_hooks.install()


class DurableRunner:
    """Runs agents as the SDK's ``Runner`` does, and records every model call and function tool.

    From plain code a run is kept in the store that ``$DURABLE_URL`` names, by default
    ``./.durable/durable.db``. Inside a workflow of your own it is part of that workflow's run.
    """

    @classmethod
    async def run(
        cls,
        starting_agent: Agent[TContext],
        input: str | list[TResponseInputItem] | RunState[TContext],
        *,
        context: TContext | None = None,
        max_turns: int | None = DEFAULT_MAX_TURNS,
        hooks: RunHooks[TContext] | None = None,
        run_config: RunConfig | dict[str, Any] | None = None,
        error_handlers: RunErrorHandlers[TContext] | None = None,
        previous_response_id: str | None = None,
        auto_previous_response_id: bool = False,
        conversation_id: str | None = None,
        session: Session | None = None,
        workflow_id: str | None = None,
        options: RunOptions | None = None,
    ) -> RunResult:
        """Run an agent to its end, over crashes of the process.

        Called again with the same id and input, it continues a run that was interrupted, joins one
        that is under way, and returns the recorded result of one that is completed, without a call.

        Args:
            starting_agent: As in the SDK, like every argument that is not described here.
            input: What the run starts with.
            context: For tools and hooks, by reference; never recorded.
            max_turns: At most so many model calls of one agent loop.
            hooks: Called as in the SDK, also while a run is rebuilt from its record.
            run_config: As in the SDK.
            error_handlers: As in the SDK.
            previous_response_id: As in the SDK.
            auto_previous_response_id: As in the SDK.
            conversation_id: As in the SDK.
            session: Not supported yet.
            workflow_id: Names the run. Use one id per user message. Without one a run is recorded
                under a new id, and nothing continues it by itself.
            options: How model calls and tools are executed.

        Raises:
            WorkflowAlreadyStartedError: The id belongs to a run of another agent or other input.
            NotSupported: Sessions, a ``RunState``, or a tool that asks for approval.
            StoreError: The store cannot be used.
            Exception: Whatever the SDK's ``Runner`` raises.
        """
        items = _checked(input, session)
        arguments: dict[str, Any] = {
            "context": context,
            "max_turns": max_turns,
            "hooks": hooks,
            "run_config": run_config,
            "error_handlers": error_handlers,
            "previous_response_id": previous_response_id,
            "auto_previous_response_id": auto_previous_response_id,
            "conversation_id": conversation_id,
            "session": session,
        }
        options = options or RunOptions()
        provider = _own_provider(arguments)
        if current_engine() is not None:
            if workflow_id is not None:
                raise NotSupported(
                    f"workflow_id={workflow_id!r} inside a workflow: the agent is part of the "
                    "workflow's own run; leave the id out"
                )

            return await run_inside(starting_agent, items, arguments, options)

        call = Call(agent=starting_agent, input=items, arguments=arguments, options=options)
        try:
            finished = await embedded.run(
                AgentRun.run, (starting_agent.name, items), id=workflow_id, resources={"call": call}
            )
        except (NotSupported, WorkflowAlreadyStartedError):
            raise
        except Exception as error:
            if workflow_id is not None:
                error.add_note(
                    f"The run {workflow_id!r} is kept: fix the cause and run the script again, it "
                    f"continues. See: durable show {workflow_id}"
                )

            raise
        finally:
            if provider is not None:
                # Here, on the loop that the connections belong to, and not in the workflow.
                with contextlib.suppress(Exception):
                    await provider.aclose()

        done: Call = finished.resources["call"]
        if done.result is not None:
            return done.result

        raise (
            done.error
            or finished.failure
            or ApplicationError(f"run {finished.workflow_id!r} has no result")
        )

    @classmethod
    def run_sync(
        cls,
        starting_agent: Agent[TContext],
        input: str | list[TResponseInputItem] | RunState[TContext],
        *,
        context: TContext | None = None,
        max_turns: int | None = DEFAULT_MAX_TURNS,
        hooks: RunHooks[TContext] | None = None,
        run_config: RunConfig | dict[str, Any] | None = None,
        error_handlers: RunErrorHandlers[TContext] | None = None,
        previous_response_id: str | None = None,
        auto_previous_response_id: bool = False,
        conversation_id: str | None = None,
        session: Session | None = None,
        workflow_id: str | None = None,
        options: RunOptions | None = None,
    ) -> RunResult:
        """Run an agent from code that is not async; see `run`.

        Raises:
            RuntimeError: An event loop is running in this thread.
        """
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  # as get_running_loop, without raising
            raise RuntimeError(
                "DurableRunner.run_sync cannot be called while an event loop runs: await run "
                "instead"
            )

        loop = _default_loop()
        task = loop.create_task(
            cls.run(
                starting_agent,
                input,
                context=context,
                max_turns=max_turns,
                hooks=hooks,
                run_config=run_config,
                error_handlers=error_handlers,
                previous_response_id=previous_response_id,
                auto_previous_response_id=auto_previous_response_id,
                conversation_id=conversation_id,
                session=session,
                workflow_id=workflow_id,
                options=options,
            )
        )
        try:
            return loop.run_until_complete(task)
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)

            loop.run_until_complete(embedded.close())

    @classmethod
    def run_streamed(cls, *_: Any, **__: Any) -> RunResultStreaming:
        """Refuse: streaming comes later.

        Raises:
            NotSupported: Always.
        """
        raise NotSupported(
            "DurableRunner.run_streamed is not there yet: use run, or the SDK's Runner for this run"
        )


def _checked(given: Any, session: Session | None) -> str | list[Any]:
    if session is not None:
        raise NotSupported(
            "DurableRunner does not support session= yet: pass the earlier items as input "
            "(result.to_input_list()), or use the SDK's Runner for this run"
        )

    if isinstance(given, RunState):
        raise NotSupported(
            "DurableRunner does not continue a RunState yet: approvals come later; use the SDK's "
            "Runner for this run"
        )

    return cast("str | list[Any]", given)


def _own_provider(arguments: dict[str, Any]) -> MultiProvider | None:
    """Give a run without a model provider one of its own, and return it to be closed afterwards.

    The SDK would do the same, and close it inside the run; but its connections belong to the loop
    that made the calls, which is not the loop of the workflow.
    """
    config = arguments["run_config"]
    if config is None:
        provider = MultiProvider()
        arguments["run_config"] = RunConfig(model_provider=provider)
        return provider

    if isinstance(config, dict) and "model_provider" not in config:
        provider = MultiProvider()
        arguments["run_config"] = {**config, "model_provider": provider}
        return provider

    return None


def _default_loop() -> asyncio.AbstractEventLoop:
    """Return this thread's default loop, as the SDK's ``run_sync`` does.

    Clients and sessions keep locks and connections that are bound to the loop of their first use,
    so calls in a row share one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = asyncio.get_event_loop_policy()  # pyright: ignore[reportDeprecated]
        try:
            loop = policy.get_event_loop()
        except RuntimeError:
            loop = None

        if loop is None or loop.is_closed():
            loop = policy.new_event_loop()
            policy.set_event_loop(loop)

        return loop
