"""Where in a run the code is: the path of nested runs, and the options of the outermost one."""

from __future__ import annotations

import contextvars
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from durable_core.adapter import RunOptions
from durable_core.exceptions import NotSupported

__all__ = ["Scope", "current_scope", "entered", "refusal"]


@dataclass(frozen=True, slots=True)
class Scope:
    """One level of nesting.

    Attributes:
        path: Call ids of the agent tools that lead here, each followed by a slash.
        options: Of the run.
        models: Wrapped models by identity, so that the SDK sees one object for one model.
        refused: What durable runs cannot do and the run asked for. Kept, because inside an agent
            tool the SDK tells the model of an exception instead of its caller.
        failed: What recorded calls of the user's functions raised. The failure is part of the
            record, so a run that ends with it has failed, and is not kept for a fix.
    """

    path: str = ""
    options: RunOptions = field(default_factory=RunOptions)
    models: dict[tuple[int, str], tuple[Any, Any]] = field(
        default_factory=dict[tuple[int, str], tuple[Any, Any]]
    )
    refused: list[NotSupported] = field(default_factory=list[NotSupported])
    failed: list[Exception] = field(default_factory=list[Exception])

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
    """Return an exception that the run ends with, whoever catches it on the way."""
    error = NotSupported(message)
    current_scope().refused.append(error)
    return error
