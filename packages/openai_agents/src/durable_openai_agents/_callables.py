"""Functions of the user that the SDK asks before a turn: instructions, prompts, ``is_enabled``.

An asynchronous one may do I/O, so each call of it is a recorded unit. A plain one is workflow code,
like the agent loop around it, and so is an asynchronous one that is marked `inline`. The call
itself tells them apart: an awaitable that it returns is awaited in the body of a unit, anything
else is the answer. Agents, tools and handoffs stay as they are; only what the SDK calls is another
function.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from agents import Agent, Handoff, RunContextWrapper
from durable_core import exceptions as ex
from durable_core.adapter import Unit, UnitOptions, current_engine
from durable_core.common import RetryPolicy

from ._context import others_ran, watched
from ._modules import modules_behind
from ._scope import current_scope

__all__ = ["Condition", "durable_instructions", "durable_prompt", "inline", "users_condition"]

INSTRUCTIONS = "openai_agents.instructions"
PROMPT = "openai_agents.prompt"
IS_ENABLED = "openai_agents.is_enabled"

# As for tools: one attempt per failure, and a crash repeats it.
_OPTIONS = UnitOptions(
    start_to_close_timeout=None,
    retry_policy=RetryPolicy(maximum_attempts=1),
    lost_attempts_count=False,
)
_INLINE = "__durable_inline__"

Fn = TypeVar("Fn", bound=Callable[..., Any])
Method = Callable[..., Any]


def inline(fn: Fn) -> Fn:
    """Let an async function run in the workflow, instead of recording each call of it.

    For ``instructions``, ``prompt`` and ``is_enabled`` functions that do no I/O, or none but what
    is recorded by itself: agents, activities, timers. Such a function runs again on every replay,
    and must then do the same. Use it as a decorator, or around the function where it is passed::

        Agent(name="Guide", instructions=inline(compose))
    """
    try:
        setattr(fn, _INLINE, True)
    except (AttributeError, TypeError, ValueError):
        # A bound method, say, has no attributes of its own.
        @functools.wraps(fn)
        def wrapper(*args: Any) -> Any:
            return fn(*args)

        setattr(wrapper, _INLINE, True)
        return cast("Fn", wrapper)

    return fn


def durable_instructions(original: Method) -> Method:
    """Return a replacement for ``Agent.get_system_prompt``."""

    async def get_system_prompt(self: Agent[Any], run_context: RunContextWrapper[Any]) -> Any:
        fn = self.instructions
        if (
            current_engine() is None
            or not callable(fn)
            # The SDK refuses any other signature, with a message of its own.
            or len(inspect.signature(fn).parameters) != 2
        ):
            return await original(self, run_context)

        asked = _Asked(INSTRUCTIONS, self.name, f"the instructions of agent {self.name!r}", fn)
        answer = asked.call(run_context, run_context, self)
        return await answer if inspect.isawaitable(answer) else answer

    return get_system_prompt


def durable_prompt(original: Method) -> Method:
    """Return a replacement for ``PromptUtil.to_model_input``."""

    async def to_model_input(prompt: Any, context: RunContextWrapper[Any], agent: Any) -> Any:
        if callable(prompt):
            asked = _Asked(PROMPT, agent.name, f"the prompt of agent {agent.name!r}", prompt)
            prompt = functools.partial(asked.call, context)

        return await original(prompt, context, agent)

    return to_model_input


class Condition:
    """The field ``is_enabled`` of tools and handoffs, as the SDK reads it wherever it asks.

    A data descriptor before the instance's own value, which comes back as it is unless a durable
    run reads a function.
    """

    def __get__(self, owner: Any, cls: type) -> Any:
        value: Any = True if owner is None else vars(owner).get("is_enabled", True)
        is_asked = current_engine() is not None and callable(value)
        return _Enabled(owner, value) if is_asked else value

    def __set__(self, owner: Any, value: Any) -> None:
        # A copy that a durable run makes gets the user's own function.
        vars(owner)["is_enabled"] = value.condition if isinstance(value, _Enabled) else value


@dataclass(frozen=True, slots=True)
class _Enabled:
    """What the SDK calls to know whether a tool or a handoff is enabled."""

    owner: Any
    condition: Callable[..., Any]

    def __call__(self, context: RunContextWrapper[Any], agent: Any) -> Any:
        name = self.owner.tool_name if isinstance(self.owner, Handoff) else self.owner.name
        asked = _Asked(
            IS_ENABLED,
            f"{agent.name}/{name}",
            f"is_enabled of {name!r} for agent {agent.name!r}",
            users_condition(self.condition),
        )
        return asked.call(context, context, agent)


def users_condition(condition: Any) -> Any:
    """Return the function that the user gave to ``handoff()``, which wraps it into an async one."""
    names = getattr(getattr(condition, "__code__", None), "co_freevars", ())
    if getattr(condition, "__module__", None) == Handoff.__module__ and "is_enabled" in names:
        return condition.__closure__[names.index("is_enabled")].cell_contents

    return condition


@dataclass(frozen=True, slots=True)
class _Asked:
    """A function of the user, and how its calls are recorded.

    Attributes:
        name: Of the unit.
        key: Tells its calls apart within one path of runs.
        what: For people.
        fn: The function.
    """

    name: str
    key: str
    what: str
    fn: Callable[..., Any]

    def call(self, context: RunContextWrapper[Any], *args: Any) -> Any:
        """Call the function; an awaitable that it returns becomes one of the recorded answer."""
        answer = self.fn(*args)
        if (
            current_engine() is None
            or _is_inline(self.fn)
            or not inspect.isawaitable(answer)
            or asyncio.isfuture(answer)
        ):
            return answer

        return self._recorded(context, answer)

    async def _recorded(self, context: RunContextWrapper[Any], answer: Awaitable[Any]) -> Any:
        engine, scope = current_engine(), current_scope()
        if engine is None:
            return await answer

        async def body() -> Any:
            with watched(
                context.context, self.what, instead="mark the function inline if it does no I/O"
            ):
                return self._to_record(await answer)

        try:
            return await engine.schedule(
                Unit(
                    name=self.name,
                    body=body,
                    key=f"{scope.path}{self.key}",
                    result_type=Any,
                    options=_OPTIONS,
                    summary=self.what,
                    failure_modules=modules_behind(self.fn),
                )
            )
        except ex.CancelledError as error:
            raise asyncio.CancelledError(str(error)) from error
        finally:
            others_ran(context.context)
            if (
                inspect.iscoroutine(answer)
                and inspect.getcoroutinestate(answer) == inspect.CORO_CREATED
            ):
                # The answer came from the record.
                answer.close()

    def _to_record(self, answer: Any) -> Any:
        if self.name == IS_ENABLED:
            return bool(answer)

        # A model or a dataclass would come back as the mapping that the SDK insists on.
        is_refused = self.name == PROMPT and not isinstance(answer, dict)
        return None if is_refused else answer


def _is_inline(fn: Any) -> bool:
    return getattr(_unwrapped(fn), _INLINE, False) is True


def _unwrapped(fn: Any) -> Any:
    while isinstance(fn, functools.partial) and not hasattr(fn, _INLINE):
        fn = fn.func

    return fn
