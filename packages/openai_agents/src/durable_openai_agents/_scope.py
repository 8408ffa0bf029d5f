"""Where in a run the code is: the path of nested runs, and the options of the outermost one."""

from __future__ import annotations

import contextvars
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from durable_core.adapter import RunOptions

__all__ = ["Scope", "current_scope", "entered"]


@dataclass(frozen=True, slots=True)
class Scope:
    """One level of nesting.

    Attributes:
        path: Call ids of the agent tools that lead here, each followed by a slash.
        options: Of the run.
        models: Wrapped models by identity, so that the SDK sees one object for one model.
    """

    path: str = ""
    options: RunOptions = field(default_factory=RunOptions)
    models: dict[tuple[int, str], tuple[Any, Any]] = field(
        default_factory=dict[tuple[int, str], tuple[Any, Any]]
    )

    def below(self, call_id: str) -> Scope:
        """Return the scope of a run that a tool call starts."""
        return Scope(path=f"{self.path}{call_id}/", options=self.options, models=self.models)


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
