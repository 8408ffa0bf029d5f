"""Workflow definitions: a class with one run method, and its recorded name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable_core.exceptions import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Definition", "definition_of", "defn", "run"]

C = TypeVar("C", bound=type)
M = TypeVar("M", bound="Callable[..., Awaitable[Any]]")

_ATTRIBUTE = "__durable_workflow__"
_RUN = "__durable_run__"


@dataclass(frozen=True, slots=True)
class Definition:
    """A workflow as workers and clients see it.

    Attributes:
        name: Name in histories.
        cls: The class; an instance lives as long as its run is loaded.
        run_fn: The run method, unbound.
        failure_exception_types: Exceptions that fail a run instead of stalling it, beside
            `FailureError` and timeouts.
    """

    name: str
    cls: type
    run_fn: Callable[..., Awaitable[Any]]
    failure_exception_types: tuple[type[BaseException], ...] = ()


def run(fn: M, /) -> M:
    """Mark the method of a workflow class that is the workflow's code.

    Raises:
        DefinitionError: Not an ``async def`` method.
    """
    method: Any = fn
    if not inspect.iscoroutinefunction(method):
        raise DefinitionError(f"workflow.run expects an async def method, got {fn!r}")

    setattr(method, _RUN, True)
    return fn


@overload
def defn(cls: C, /) -> C: ...


@overload
def defn(
    *, name: str | None = None, failure_exception_types: Sequence[type[BaseException]] = ()
) -> Callable[[C], C]: ...


def defn(
    cls: C | None = None,
    /,
    *,
    name: str | None = None,
    failure_exception_types: Sequence[type[BaseException]] = (),
) -> C | Callable[[C], C]:
    """Make a class with one `run` method a workflow.

    Args:
        cls: The class, when used without parentheses.
        name: Name in histories; the class's own name by default. Keep it when renaming.
        failure_exception_types: Exceptions that fail a run; any other one that is no `FailureError`
            and no timeout is a bug in the workflow's code, which stalls the run until fixed.

    Raises:
        DefinitionError: The class has no run method, or more than one.
    """

    def decorate(target: C) -> C:
        methods = [m for m in vars(target).values() if getattr(m, _RUN, False)]
        if not methods:
            methods = [
                m
                for m in (getattr(target, n) for n in dir(target))
                if inspect.isfunction(m) and hasattr(m, _RUN)
            ]

        if len(methods) != 1:
            raise DefinitionError(
                f"workflow {target.__qualname__} has {len(methods)} methods with @workflow.run; it "
                "needs exactly one"
            )

        chosen = name if name is not None else target.__name__
        if not chosen:
            raise DefinitionError(f"workflow {target.__qualname__} has an empty name")

        definition = Definition(
            name=chosen,
            cls=target,
            run_fn=methods[0],
            failure_exception_types=tuple(failure_exception_types),
        )
        setattr(target, _ATTRIBUTE, definition)
        setattr(methods[0], _ATTRIBUTE, definition)
        return target

    return decorate if cls is None else decorate(cls)


def definition_of(target: object) -> Definition:
    """Return the definition behind a workflow class or its run method.

    Raises:
        DefinitionError: ``target`` is neither.
    """
    found = getattr(target, _ATTRIBUTE, None)
    if isinstance(found, Definition):
        return found

    raise DefinitionError(
        f"{target!r} is no workflow: decorate its class with @workflow.defn and its method with "
        "@workflow.run"
    )
