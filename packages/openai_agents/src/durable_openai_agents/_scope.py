"""Where in a run the code is: the path of nested runs, and the options of the outermost one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from durable_core.adapter import RunOptions
from durable_core.exceptions import DurableError, NotSupported, WorkflowBugError

__all__ = ["Scope", "current_scope", "entered", "kept", "refusal"]

E = TypeVar("E", bound=DurableError)


@dataclass(frozen=True, slots=True)
class Scope:
    """One level of nesting.

    Attributes:
        path: Call ids of the agent tools that lead here, each followed by a slash.
        options: Of the run.
        loop: The one that it was called on; None inside a workflow of the user's own.
        models: Wrapped models by identity, so that the SDK sees one object for one model.
        offered: Names of what agents had to call, so far.
        refused: What durable runs cannot do and the run asked for, or why it cannot go on with this
            code. Noted, because inside an agent tool the SDK tells the model of an exception
            instead of its caller.
    """

    path: str = ""
    options: RunOptions = field(default_factory=RunOptions)
    loop: asyncio.AbstractEventLoop | None = None
    models: dict[tuple[int, str], tuple[Any, Any]] = field(
        default_factory=dict[tuple[int, str], tuple[Any, Any]]
    )
    offered: set[str] = field(default_factory=set[str])
    refused: list[DurableError] = field(default_factory=list[DurableError])

    def below(self, call_id: str) -> Scope:
        """Return the scope of a run that a tool call starts."""
        return replace(self, path=f"{self.path}{call_id}/")


_current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar(
    "durable_agents_scope", default=None
)


def current_scope() -> Scope:
    """Return the scope of the code that is running; a fresh one if no runner of ours set any."""
    scope = _current.get()
    if scope is None:
        scope = Scope()
        _current.set(scope)

    return scope


@contextmanager
def entered(scope: Scope) -> Generator[None]:
    """Make a scope the current one."""
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)


def refusal(message: str) -> NotSupported:
    """Return an exception for what durable runs cannot do; see `kept`."""
    return _for_the_caller(NotSupported(message))


def kept(message: str) -> WorkflowBugError:
    """Return an exception for which the run stalls, whoever catches it on the way."""
    return _for_the_caller(WorkflowBugError(message))


def _for_the_caller(error: E) -> E:
    current_scope().refused.append(error)
    return error
