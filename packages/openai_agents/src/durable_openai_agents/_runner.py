"""`DurableRunner`: the SDK's ``Runner``, durable."""

from __future__ import annotations

import asyncio
import os
import warnings
import weakref
from typing import Any, TypeVar

from agents import (
    Agent,
    RunConfig,
    RunErrorHandlers,
    RunHooks,
    RunResultStreaming,
    RunState,
    Session,
    TResponseInputItem,
)
from agents.run import DEFAULT_MAX_TURNS
from durable_core import embedded
from durable_core.adapter import RunOptions, current_engine
from durable_core.exceptions import (
    ApplicationError,
    NotSupported,
    WorkflowAlreadyStartedError,
    WorkflowBugError,
)
from pydantic_core import to_jsonable_python

from . import _hooks, _provider
from ._recover import memo_of, recover
from ._result import DurableRunResult, durable_result, recorded_result
from ._scope import Scope
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
    ) -> DurableRunResult:
        """Run an agent to its end, over crashes of the process.

        Called again with the same id and input, it continues a run that was interrupted or has
        failed, joins one that is under way, and returns the recorded result of one that is
        completed, without a call. Cancelling the await cancels the run; Ctrl-C, SIGTERM and the end
        of the event loop do not, they interrupt it.

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
            options: How the run is continued, and how model calls and tools are executed.

        Returns:
            The SDK's own result, which also knows its ``workflow_id``.

        Raises:
            WorkflowAlreadyStartedError: The id belongs to a run of another agent or other input.
            NotSupported: Sessions, a ``RunState``, or a tool that asks for approval.
            EncodeError: The input cannot be recorded.
            TypeError: An argument is of another type.
            StoreError: The store cannot be used.
            Exception: Whatever the SDK's ``Runner`` raises.
        """
        items = _checked(starting_agent, input, session, options)
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
        recorded = memo_of(arguments, options)
        provider = _provider.give(arguments)
        engine = current_engine()
        if engine is not None:
            if workflow_id is not None:
                raise NotSupported(
                    f"workflow_id={workflow_id!r} inside a workflow: the agent is part of the "
                    "workflow's own run; leave the id out"
                )

            scope = Scope(options=options)
            result = await run_inside(starting_agent, items, arguments, scope)
            return durable_result(result, engine.workflow_id)

        call = Call(agent=starting_agent, input=items, arguments=arguments, options=options)
        try:
            finished = await embedded.run(
                AgentRun.run,
                (starting_agent.name, _identity(items)),
                id=workflow_id,
                resources={"call": call},
                memo=recorded,
                on_failed=options.on_failed,
                on_cancel=options.on_cancel,
            )
        except (NotSupported, WorkflowAlreadyStartedError):
            raise
        except Exception as error:
            if call.workflow_id is not None or isinstance(error, WorkflowBugError):
                # Else it was refused before there was a run.
                _explain(error, workflow_id, _IT_CONTINUES)

            raise
        finally:
            if provider is not None:
                await _provider.close_after(provider, call.workflow_id)

        if finished.result is not None and not finished.resources:
            return recorded_result(finished.result, finished.workflow_id)

        done: Call = finished.resources["call"]
        if done.result is not None:
            return durable_result(done.result, finished.workflow_id)

        # What its code made of a request to end is of no use to a caller that did not ask for it:
        # an `asyncio.CancelledError` would end the caller's own task.
        failure = finished.failure if finished.cancelled else done.error or finished.failure
        if failure is None:
            failure = ApplicationError(f"run {finished.workflow_id!r} has no result")

        if finished.cancelled or finished.terminated:
            how = _RESUME_FIRST
        elif options.on_failed == "raise":
            how = _RAISED_AGAIN
        else:
            how = _IT_CONTINUES

        _explain(failure, workflow_id, how)
        raise failure

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
    ) -> DurableRunResult:
        """Run an agent from code that is not async; see `run`.

        Raises:
            RuntimeError: An event loop is running in this thread.
        """
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  # as get_running_loop, without raising
            raise RuntimeError(
                "DurableRunner.run_sync cannot be called while an event loop runs: await run "
                "instead"
            )

        loop = default_loop()
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
            # First, so that a task that Ctrl-C left behind sees its run interrupted, not cancelled.
            loop.run_until_complete(embedded.close())
            # What that task makes of it is of no use beside Ctrl-C, and asyncio must not tell it.
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))

    @classmethod
    async def recover(cls, *, wait: bool = False) -> list[str]:
        """Continue the runs of registered agents whose processes have ended; see `register_agent`.

        For the start of a service. They go on in this event loop, beside whatever else it does, and
        for as long as it lives it also takes up the runs of processes that end later. Runs whose
        process lives are left alone, and so are those that only their caller can continue. How they
        end is logged; calling one's id returns its result.

        Args:
            wait: Whether to return only when none is left to continue.

        Returns:
            The ids of the runs that it took up.

        Raises:
            StoreError: The store cannot be used.
        """
        recovery = await recover()
        found = recovery.found
        if wait:
            await recovery.wait()

        return sorted(found)

    @classmethod
    def run_streamed(cls, *_: Any, **__: Any) -> RunResultStreaming:
        """Refuse: streaming comes later.

        Raises:
            NotSupported: Always.
        """
        raise NotSupported(
            "DurableRunner.run_streamed is not there yet: use run, or the SDK's Runner for this run"
        )


def _checked(agent: Any, given: Any, session: Session | None, options: Any) -> str | list[Any]:
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

    if not isinstance(agent, Agent):
        raise TypeError(f"starting_agent must be an Agent, got {agent!r}")

    if not isinstance(given, (str, list)):
        raise TypeError(f"input must be a str or a list of items, got {given!r}")

    if options is not None and not isinstance(options, RunOptions):
        raise TypeError(f"options must be RunOptions, got {options!r}")

    return given


def _identity(items: str | list[Any]) -> Any:
    """Return the input in JSON's own types, which tell one run from another.

    The run itself gets the input as it is; an item may be an object of the client's.
    """
    try:
        return to_jsonable_python(items)
    except ValueError:
        # Refused where it is recorded, with the place of what has no JSON form.
        return items


_IT_CONTINUES = "fix the cause and run the script again, it continues"
_RESUME_FIRST = "somebody ended it; after `durable resume {id}` the same call continues it"
_RAISED_AGAIN = 'on_failed="raise" raises its failure again, on_failed="resume" continues it'


def _explain(error: BaseException, workflow_id: str | None, how: str) -> None:
    """Let an exception say how the run goes on, if its user can make it go on."""
    if workflow_id is None:
        return

    note = f"The run {workflow_id!r} is kept: {how.format(id=workflow_id)}. See: durable show "
    note += workflow_id
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


# In which process a default loop was first used.
_used: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()
_inherited: list[asyncio.AbstractEventLoop] = []


def default_loop() -> asyncio.AbstractEventLoop:
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

        if loop is not None and _used.setdefault(loop, os.getpid()) != os.getpid():
            # Of before a fork: it shares its selector with the parent, and each would take the
            # other's events. Kept, because a loop that nobody names closes itself.
            _inherited.append(loop)
            loop = None

        if loop is None or loop.is_closed():
            loop = policy.new_event_loop()
            policy.set_event_loop(loop)
            _used[loop] = os.getpid()

        return loop
