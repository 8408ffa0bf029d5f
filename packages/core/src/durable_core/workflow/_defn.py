"""Workflow definitions: a class with one run method, or one async function, and its handlers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from durable_core import _signatures
from durable_core.exceptions import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = [
    "Definition",
    "definition_of",
    "defn",
    "init",
    "known",
    "query",
    "query_name",
    "run",
    "signal",
    "signal_name",
]

T = TypeVar("T", bound="Callable[..., Any]")

_ATTRIBUTE = "__durable_workflow__"
_INIT = "__durable_init__"
_RUN = "__durable_run__"
_SIGNAL = "__durable_signal__"
_QUERY = "__durable_query__"
_known: dict[str, Definition] = {}


@dataclass(frozen=True, slots=True)
class Definition:
    """A workflow as workers and clients see it.

    Attributes:
        name: Name in histories.
        cls: The class, an instance of which lives as long as its run is loaded; None if the
            workflow is a function.
        run_fn: The function, or the run method, unbound.
        failure_exception_types: Exceptions that fail a run instead of stalling it, beside
            `FailureError` and timeouts.
        signals, queries: Handlers by name, unbound.
        init_takes_input: Whether ``__init__`` gets the input, too.
    """

    name: str
    cls: type | None
    run_fn: Callable[..., Awaitable[Any]]
    failure_exception_types: tuple[type[BaseException], ...] = ()
    signals: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, Any])
    queries: Mapping[str, Callable[..., Any]] = field(default_factory=dict[str, Any])
    init_takes_input: bool = False

    @property
    def target(self) -> Any:
        """What was decorated."""
        return self.run_fn if self.cls is None else self.cls

    @property
    def module(self) -> str:
        """The module that defines it."""
        return str(self.target.__module__)

    @property
    def signature(self) -> _signatures.Signature:
        """What it takes and returns."""
        found = _signatures.signature(self.run_fn)
        return found if self.cls is None else found.without_self()


def run(fn: T, /) -> T:
    """Mark the method of a workflow class that is the workflow's code.

    Raises:
        DefinitionError: Not an ``async def`` method, or keyword-only parameters.
    """
    method: Any = fn
    if not inspect.iscoroutinefunction(method):
        raise DefinitionError(f"workflow.run expects an async def method, got {fn!r}")

    _signatures.check_definition(method, f"workflow method {method.__qualname__}")
    _signatures.remember_locals(method)
    setattr(method, _RUN, True)
    return fn


def init(fn: T, /) -> T:
    """Let ``__init__`` of a workflow class take the run's input, as its run method does.

    So that handlers of signals and queries, which may be called before the run method, find the
    input. The parameters of both must be the same.

    Raises:
        DefinitionError: Not an ``__init__`` method.
    """
    if getattr(fn, "__name__", "") != "__init__":
        raise DefinitionError(f"workflow.init expects an __init__ method, got {fn!r}")

    setattr(fn, _INIT, True)
    return fn


@overload
def signal(fn: T, /) -> T: ...


@overload
def signal(*, name: str | None = None) -> Callable[[T], T]: ...


def signal(fn: T | None = None, /, *, name: str | None = None) -> T | Callable[[T], T]:
    """Mark a method of a workflow class that takes a signal; it may be ``async`` or not.

    A signal is handled once, in the order in which signals were accepted, before the run's code
    goes on. What an async handler awaits is recorded like anything that a run does.

    Args:
        fn: The method, when used without parentheses.
        name: Name under which it is sent; the method's own name by default.

    Raises:
        DefinitionError: Not a method, or one with keyword-only parameters.
    """
    return _handler(fn, name, _SIGNAL, "signal")


@overload
def query(fn: T, /) -> T: ...


@overload
def query(*, name: str | None = None) -> Callable[[T], T]: ...


def query(fn: T | None = None, /, *, name: str | None = None) -> T | Callable[[T], T]:
    """Mark a method of a workflow class that answers a query: a plain ``def`` that only looks.

    Args:
        fn: The method, when used without parentheses.
        name: Name under which it is asked; the method's own name by default.

    Raises:
        DefinitionError: Not a plain method.
    """
    return _handler(fn, name, _QUERY, "query")


def _handler(fn: T | None, name: str | None, attribute: str, kind: str) -> T | Callable[[T], T]:
    def decorate(method: T) -> T:
        what = f"workflow.{kind}"
        if not isinstance(method, FunctionType):
            raise DefinitionError(f"{what} expects a method of a workflow class, got {method!r}")

        if kind == "query" and inspect.iscoroutinefunction(method):
            raise DefinitionError(
                f"query {method.__qualname__} is async: a query only looks at what is there, make "
                "it a plain def"
            )

        parameters = inspect.signature(method).parameters.values()
        if any(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters):
            raise DefinitionError(
                f"{kind} {method.__qualname__} has keyword-only parameters, and arguments of "
                f"{kind}s are positional"
            )

        setattr(method, attribute, name if name is not None else method.__name__)
        return cast("T", method)

    return decorate if fn is None else decorate(fn)


@overload
def defn(target: T, /) -> T: ...


@overload
def defn(
    *, name: str | None = None, failure_exception_types: Sequence[type[BaseException]] = ()
) -> Callable[[T], T]: ...


def defn(
    target: T | None = None,
    /,
    *,
    name: str | None = None,
    failure_exception_types: Sequence[type[BaseException]] = (),
) -> T | Callable[[T], T]:
    """Make a class with one `run` method, or an ``async def`` function, a workflow.

    Args:
        target: The class or function, when used without parentheses.
        name: Name in histories; its own name by default. Keep it when renaming.
        failure_exception_types: Exceptions that fail a run; any other one that is no `FailureError`
            and no timeout is a bug in the workflow's code, which stalls the run until fixed.

    Raises:
        DefinitionError: The class has no run method, or more than one; the function is not async.
    """

    def decorate(made: T) -> T:
        subject: Any = made
        chosen = name if name is not None else getattr(subject, "__name__", "")
        if not chosen:
            raise DefinitionError(f"workflow {subject!r} has an empty name")

        definition = Definition(
            name=chosen,
            cls=subject if inspect.isclass(subject) else None,
            run_fn=_run_method(subject) if inspect.isclass(subject) else _function(subject),
            failure_exception_types=tuple(failure_exception_types),
            **(_members(subject) if inspect.isclass(subject) else {}),
        )
        setattr(subject, _ATTRIBUTE, definition)
        setattr(definition.run_fn, _ATTRIBUTE, definition)
        _known[chosen] = definition
        return made

    return decorate if target is None else decorate(target)


def definition_of(target: object) -> Definition:
    """Return the definition behind a workflow class, its run method, or a workflow function.

    Raises:
        DefinitionError: ``target`` is none of them.
    """
    found = getattr(target, _ATTRIBUTE, None)
    if isinstance(found, Definition):
        return found

    raise DefinitionError(
        f"{target!r} is no workflow: decorate its class with @workflow.defn and its method with "
        "@workflow.run, or an async function with @workflow.defn"
    )


def known(name: str) -> Definition | None:
    """Return the workflow of that name that was defined last in this process, or None."""
    return _known.get(name)


def signal_name(signal: object) -> str:
    """Return the name of a signal, given by name or by its method.

    Raises:
        DefinitionError: It is no signal.
    """
    return _name_of(signal, _SIGNAL, "signal")


def query_name(query: object) -> str:
    """Return the name of a query, given by name or by its method.

    Raises:
        DefinitionError: It is no query.
    """
    return _name_of(query, _QUERY, "query")


def _name_of(given: object, attribute: str, kind: str) -> str:
    if isinstance(given, str):
        return given

    found = getattr(given, attribute, None)
    if not isinstance(found, str):
        raise DefinitionError(
            f"{given!r} is no {kind}: decorate the method with @workflow.{kind}, or give a name"
        )

    return found


def _function(target: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    if not inspect.iscoroutinefunction(target):
        raise DefinitionError(
            f"workflow.defn expects a class or an async def function, got {target!r}"
        )

    parameters = inspect.signature(target).parameters.values()
    if any(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters):
        raise DefinitionError(
            f"workflow {target.__qualname__} has keyword-only parameters, and the input of a "
            "workflow is positional"
        )

    return target


def _run_method(cls: type) -> Callable[..., Awaitable[Any]]:
    methods = [m for m in vars(cls).values() if getattr(m, _RUN, False)]
    if not methods:
        inherited = (getattr(cls, n) for n in dir(cls))
        methods = [m for m in inherited if inspect.isfunction(m) and hasattr(m, _RUN)]

    if len(methods) != 1:
        raise DefinitionError(
            f"workflow {cls.__qualname__} has {len(methods)} methods with @workflow.run; it "
            "needs exactly one"
        )

    return cast("Callable[..., Awaitable[Any]]", methods[0])


def _members(cls: type) -> dict[str, Any]:
    """Return the handlers of a class, and whether its ``__init__`` takes the input."""
    signals: dict[str, Callable[..., Any]] = {}
    queries: dict[str, Callable[..., Any]] = {}
    for found, attribute, kind in ((signals, _SIGNAL, "signal"), (queries, _QUERY, "query")):
        for method in (getattr(cls, name) for name in dir(cls)):
            handled = getattr(method, attribute, None)
            if not isinstance(handled, str):
                continue

            if handled in found:
                raise DefinitionError(
                    f"workflow {cls.__qualname__} has two handlers of the {kind} {handled!r}"
                )

            found[handled] = method

    takes = bool(getattr(vars(cls).get("__init__", cls.__init__), _INIT, False))  # type: ignore[misc]
    if takes:
        given = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
        wanted = list(inspect.signature(_run_method(cls)).parameters.values())[1:]
        if [p.annotation for p in given] != [p.annotation for p in wanted]:
            raise DefinitionError(
                f"__init__ of workflow {cls.__qualname__} has @workflow.init, so its parameters "
                "must be those of the run method"
            )

    return {"signals": signals, "queries": queries, "init_takes_input": takes}
