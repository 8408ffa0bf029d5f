"""Workflow definitions: a class with one run method, or one async function, and its handlers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from durable_core import _signatures
from durable_core.exceptions import DefinitionError

from . import _handlers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

__all__ = [
    "Definition",
    "definition_of",
    "defn",
    "init",
    "known",
    "known_names",
    "run",
]

T = TypeVar("T", bound="Callable[..., Any]")

_ATTRIBUTE = "__durable_workflow__"
_INIT = "__durable_init__"
_RUN = "__durable_run__"
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
        handlers: What takes signals, queries and updates, by kind and name, unbound.
        init_takes_input: Whether ``__init__`` gets the input, too.
    """

    name: str
    cls: type | None
    run_fn: Callable[..., Awaitable[Any]]
    failure_exception_types: tuple[type[BaseException], ...] = ()
    handlers: Mapping[_handlers.Kind, Mapping[str | None, _handlers.Handler]] = field(
        default_factory=dict[_handlers.Kind, Any]
    )
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


def known_names() -> Collection[str]:
    """Return the names of the workflows that were defined in this process."""
    return _known.keys()


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
    takes = bool(getattr(vars(cls).get("__init__", cls.__init__), _INIT, False))  # type: ignore[misc]
    if takes:
        given = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
        wanted = list(inspect.signature(_run_method(cls)).parameters.values())[1:]
        if [p.annotation for p in given] != [p.annotation for p in wanted]:
            raise DefinitionError(
                f"__init__ of workflow {cls.__qualname__} has @workflow.init, so its parameters "
                "must be those of the run method"
            )

    handlers = {kind: _handlers.handlers_of(cls, kind) for kind in _handlers.KINDS}
    return {"handlers": handlers, "init_takes_input": takes}
