"""Methods that a run is talked to by: signals, queries and updates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from types import FunctionType
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from durable_core.exceptions import DefinitionError

__all__ = [
    "Handler",
    "HandlerUnfinishedPolicy",
    "UpdateMethod",
    "handlers_of",
    "name_of",
    "query",
    "signal",
    "update",
]

T = TypeVar("T", bound="Callable[..., Any]")
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

Kind = Literal["signal", "query", "update"]
KINDS: tuple[Kind, ...] = ("signal", "query", "update")


class HandlerUnfinishedPolicy(IntEnum):
    """What is said of a handler that is still under way when its run ends; it is dropped."""

    WARN_AND_ABANDON = 1
    """Log a warning that names it."""
    ABANDON = 2
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Handler:
    """What takes one signal, query or update, or all that nothing else takes.

    Attributes:
        fn: Called with the arguments; if it is dynamic, with the name and a list of `RawValue`.
        name: Name that it is sent by; None for the dynamic one.
        policy: What to say if it is unfinished at the end.
        validator: Of an update: called with the same arguments, raises to reject.
    """

    fn: Callable[..., Any]
    name: str | None
    policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON
    validator: Callable[..., Any] | None = None

    def bound(self, instance: Any) -> Handler:
        """Return it as a method of an object."""
        validator: Any = self.validator
        if validator is not None:
            validator = validator.__get__(instance)

        return replace(self, fn=cast("Any", self.fn).__get__(instance), validator=validator)


class UpdateMethod(Protocol, Generic[P, R_co]):
    """A method with `update`; its ``validator`` decorates the method that may reject it."""

    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Handle the update."""
        ...

    def validator(self, fn: Callable[..., None], /) -> Callable[..., None]:
        """Let a method reject the update, by raising, before anything of it is recorded.

        It takes the same arguments, is no ``async def``, and must not change anything.
        """
        ...


@overload
def signal(fn: T, /) -> T: ...


@overload
def signal(
    *,
    name: str | None = None,
    dynamic: bool = False,
    unfinished_policy: HandlerUnfinishedPolicy = ...,
) -> Callable[[T], T]: ...


def signal(
    fn: T | None = None,
    /,
    *,
    name: str | None = None,
    dynamic: bool = False,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
) -> T | Callable[[T], T]:
    """Mark a method of a workflow class that takes a signal; it may be ``async`` or not.

    A signal is handled once, in the order in which signals were accepted, before the run's code
    goes on. What an async handler awaits is recorded like anything that a run does.

    Args:
        fn: The method, when used without parentheses.
        name: Name under which it is sent; the method's own name by default.
        dynamic: Whether it takes every signal that no other handler takes: its parameters are then
            the name and a list of `durable_core.common.RawValue`.
        unfinished_policy: What to do if it is under way when the run ends.

    Raises:
        DefinitionError: Not a method, one with keyword-only parameters, or both a name and
            ``dynamic``.
    """

    def decorate(method: T) -> T:
        return _mark("signal", method, name, dynamic=dynamic, policy=unfinished_policy)

    return decorate if fn is None else decorate(fn)


@overload
def query(fn: T, /) -> T: ...


@overload
def query(*, name: str | None = None, dynamic: bool = False) -> Callable[[T], T]: ...


def query(
    fn: T | None = None, /, *, name: str | None = None, dynamic: bool = False
) -> T | Callable[[T], T]:
    """Mark a method of a workflow class that answers a query: a plain ``def`` that only looks.

    Args:
        fn: The method, when used without parentheses.
        name: Name under which it is asked; the method's own name by default.
        dynamic: Whether it answers every query that no other handler answers; see `signal`.

    Raises:
        DefinitionError: Not a plain method, or both a name and ``dynamic``.
    """

    def decorate(method: T) -> T:
        return _mark("query", method, name, dynamic=dynamic)

    return decorate if fn is None else decorate(fn)


@overload
def update(fn: Callable[P, R_co], /) -> UpdateMethod[P, R_co]: ...


@overload
def update(
    *,
    name: str | None = None,
    dynamic: bool = False,
    unfinished_policy: HandlerUnfinishedPolicy = ...,
) -> Callable[[Callable[P, R_co]], UpdateMethod[P, R_co]]: ...


def update(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    dynamic: bool = False,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
) -> Any:
    """Mark a method of a workflow class that takes an update: a signal that is answered.

    It may be ``async`` or not. What it returns goes to the sender, and so does a `FailureError`
    that it raises, which leaves the run as it is; any other exception is a bug that stalls it. The
    sender is told that the update is accepted once it is durable; a validator may reject it
    before::

        @workflow.update
        async def add(self, item: str) -> int: ...

        @add.validator
        def check(self, item: str) -> None:
            if not item:
                raise ValueError("an item needs a name")

    Args:
        fn: The method, when used without parentheses.
        name: Name under which it is sent; the method's own name by default.
        dynamic: Whether it takes every update that no other handler takes; see `signal`.
        unfinished_policy: What to do if it is under way when the run ends.

    Raises:
        DefinitionError: Not a method, one with keyword-only parameters, or both a name and
            ``dynamic``.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        _mark("update", method, name, dynamic=dynamic, policy=unfinished_policy)

        def validator(check: Callable[..., None], /) -> Callable[..., None]:
            if inspect.iscoroutinefunction(check):
                raise DefinitionError(
                    f"validator {check.__qualname__} is async: a validator only looks and raises, "
                    "make it a plain def"
                )

            attribute = _attribute("update")
            setattr(method, attribute, replace(getattr(method, attribute), validator=check))
            return check

        cast("Any", method).validator = validator
        return method

    return decorate if fn is None else decorate(fn)


def _mark(
    kind: Kind,
    method: T,
    name: str | None,
    *,
    dynamic: bool,
    policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
) -> T:
    if not isinstance(method, FunctionType):
        raise DefinitionError(
            f"workflow.{kind} expects a method of a workflow class, got {method!r}"
        )

    what = f"{kind} {method.__qualname__}"
    if kind == "query" and inspect.iscoroutinefunction(method):
        raise DefinitionError(
            f"{what} is async: a query only looks at what is there, make it a plain def"
        )

    if dynamic and name is not None:
        raise DefinitionError(f"{what} is dynamic and has the name {name!r}: it takes every name")

    parameters = list(inspect.signature(method).parameters.values())
    if any(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters):
        raise DefinitionError(
            f"{what} has keyword-only parameters, and arguments of {plural(kind)} are positional"
        )

    if dynamic and len(parameters) != 3:
        raise DefinitionError(
            f"{what} is dynamic, so its parameters must be self, a name and a list of RawValue"
        )

    chosen = None if dynamic else name if name is not None else method.__name__
    setattr(method, _attribute(kind), Handler(method, chosen, policy))
    return cast("T", method)


def handlers_of(cls: type, kind: Kind) -> dict[str | None, Handler]:
    """Return the handlers of a kind that a class has, by name.

    Raises:
        DefinitionError: It has two of one name.
    """
    found: dict[str | None, Handler] = {}
    for method in (getattr(cls, name) for name in dir(cls)):
        handler = getattr(method, _attribute(kind), None)
        if not isinstance(handler, Handler):
            continue

        if handler.name in found:
            which = "dynamic handlers" if handler.name is None else "handlers"
            named = "" if handler.name is None else f" {handler.name!r}"
            raise DefinitionError(
                f"workflow {cls.__qualname__} has two {which} of the {kind}{named}"
            )

        found[handler.name] = handler

    return found


def name_of(given: object, kind: Kind) -> str:
    """Return the name of a signal, query or update, given by name or by its method.

    Raises:
        DefinitionError: It is none, or the dynamic one, which has no name.
    """
    if isinstance(given, str):
        return given

    found = getattr(given, _attribute(kind), None)
    if not isinstance(found, Handler):
        raise DefinitionError(
            f"{given!r} is no {kind}: decorate the method with @workflow.{kind}, or give a name"
        )

    if found.name is None:
        raise DefinitionError(f"{given!r} is a dynamic {kind}: give a name")

    return found.name


def plural(kind: Kind) -> str:
    """Return what several of a kind are called."""
    return "queries" if kind == "query" else f"{kind}s"


def _attribute(kind: Kind) -> str:
    return f"__durable_{kind}__"
