"""Activity definitions: a callable, its recorded name, and its default options."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable_core import _defaults, _signatures, adapter
from durable_core.common import RetryPolicy
from durable_core.exceptions import DefinitionError, NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Definition", "definition_of", "defn", "known", "signature_types"]

F = TypeVar("F", bound="Callable[..., Any]")

_ATTRIBUTE = "__durable_activity__"
_known: dict[str, Definition] = {}


@dataclass(frozen=True, slots=True)
class Definition:
    """An activity as workers and workflows see it.

    Attributes:
        name: Name in histories.
        fn: The callable.
        is_async: Whether the body runs on the event loop; else in a thread.
        start_to_close_timeout: Seconds one attempt may take, unless the call says otherwise.
        schedule_to_close_timeout: Seconds all attempts may take, unless the call says otherwise.
        heartbeat_timeout: Seconds between two heartbeats, unless the call says otherwise.
        retry_policy: Retries, unless the call says otherwise.
        delivery: How often its body may begin, unless the call says otherwise.
        options: Those of a call that says nothing.
    """

    name: str
    fn: Callable[..., Any]
    is_async: bool
    start_to_close_timeout: float | None = _defaults.START_TO_CLOSE
    schedule_to_close_timeout: float | None = None
    heartbeat_timeout: float | None = None
    retry_policy: RetryPolicy | None = None
    delivery: adapter.Delivery = "at_least_once"
    options: adapter.UnitOptions = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _options(self))

    @property
    def body(self) -> Callable[..., Any] | None:
        """The callable; None for a method without its object, which a worker may know."""
        if type(self.fn) is not types.FunctionType:
            return self.fn

        takes = _signatures.signature(self.fn).parameters
        return None if takes and takes[0].name == "self" else self.fn


@overload
def defn(fn: F, /) -> F: ...


@overload
def defn(
    *,
    name: str | None = None,
    start_to_close_timeout: timedelta | None = None,
    schedule_to_close_timeout: timedelta | None = None,
    heartbeat_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    delivery: adapter.Delivery = ...,
) -> Callable[[F], F]: ...


def defn(
    fn: F | None = None,
    /,
    *,
    name: str | None = None,
    start_to_close_timeout: timedelta | None = None,
    schedule_to_close_timeout: timedelta | None = None,
    heartbeat_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    delivery: adapter.Delivery = "at_least_once",
) -> F | Callable[[F], F]:
    """Make a function an activity: a call that is recorded when a workflow makes it.

    An ``async def`` runs on the event loop of the worker, a plain ``def`` in a thread. Called
    directly in workflow code, an ``async def`` is recorded with the options given here, and what it
    raises comes out as it is; called anywhere else it is the function that it was. A plain ``def``
    has to go through `workflow.execute_activity`, since a workflow cannot wait for it otherwise.

    Args:
        fn: The function, when used without parentheses.
        name: Name in histories; the function's own name by default. Keep it when renaming.
        start_to_close_timeout: Default of the time that one attempt may take; 10 minutes.
        schedule_to_close_timeout: Default of the time that all attempts may take; no limit.
        heartbeat_timeout: Default of the time after which an attempt that says nothing has failed;
            no limit.
        retry_policy: Default of the retries; temporalio's.
        delivery: Default of how often its body may begin, see `workflow.start_activity`.

    Raises:
        DefinitionError: Not a function, keyword-only parameters, or a name or timeout that makes no
            sense.
    """

    def decorate(function: F) -> F:
        if not callable(function) or inspect.isclass(function):
            raise DefinitionError(f"activity.defn expects a function, got {function!r}")

        chosen = name if name is not None else getattr(function, "__name__", "")
        if not chosen or chosen == "<lambda>":
            raise DefinitionError(
                f"{function!r} has no name to record; give one: activity.defn(name=…)"
            )

        _signatures.check_definition(function, f"activity {chosen!r}")
        _signatures.remember_locals(function)
        try:
            definition = Definition(
                name=chosen,
                fn=function,
                is_async=is_async(function),
                start_to_close_timeout=seconds(
                    "start_to_close_timeout", start_to_close_timeout, _defaults.START_TO_CLOSE
                ),
                schedule_to_close_timeout=seconds(
                    "schedule_to_close_timeout", schedule_to_close_timeout, None
                ),
                heartbeat_timeout=seconds("heartbeat_timeout", heartbeat_timeout, None),
                retry_policy=retry_policy,
                delivery=delivery,
            )
        except ValueError as error:
            raise DefinitionError(f"activity {chosen!r}: {error}") from None

        setattr(function, _ATTRIBUTE, definition)
        _known[chosen] = definition
        return typing.cast("F", _callable_in_workflows(definition))

    return decorate if fn is None else decorate(fn)


def _callable_in_workflows(definition: Definition) -> Callable[..., Any]:
    """Return what stands for the function: the same, but in workflow code an activity."""
    fn = definition.fn
    if not inspect.isfunction(fn):
        return fn

    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def call(*args: Any, **kwargs: Any) -> Any:
            engine = adapter.current_engine()
            if engine is None:
                return await fn(*args, **kwargs)

            return await engine.schedule(_direct_unit(definition, args, kwargs))

        return call

    @functools.wraps(fn)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        if adapter.current_engine() is not None:
            raise NotSupported(
                f"the activity {definition.name!r} is a plain def, which workflow code cannot wait "
                f"for when it calls it directly: await workflow.execute_activity("
                f"{fn.__name__}, …), or make it async"
            )

        return fn(*args, **kwargs)

    return refuse


def _direct_unit(
    definition: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> adapter.Unit:
    fn = definition.fn
    if kwargs:
        bound = inspect.signature(fn).bind(*args, **kwargs)
        if bound.kwargs:
            raise TypeError(
                f"activity {definition.name!r} has keyword-only or ** parameters "
                f"({', '.join(bound.kwargs)}), and recorded arguments are positional"
            )

        args = bound.args

    if definition.body is None:
        # A method: its object is no data, and travels with the body.
        fn, args = types.MethodType(fn, args[0]), args[1:]

    return adapter.Unit(
        name=definition.name,
        body=fn,
        args=args,
        options=unit_options(definition),
        in_context=False,
    )


def definition_of(fn: object) -> Definition | None:
    """Return the definition that `defn` attached, also through a bound method, or None."""
    found = getattr(fn, _ATTRIBUTE, None)
    if not isinstance(found, Definition):
        return None

    bound = inspect.ismethod(fn)
    if not bound:
        return found

    # Of the function below, not of what stands for it in workflow code.
    method: Any = fn
    return Definition(
        name=found.name,
        fn=types.MethodType(found.fn, method.__self__),
        is_async=found.is_async,
        start_to_close_timeout=found.start_to_close_timeout,
        schedule_to_close_timeout=found.schedule_to_close_timeout,
        heartbeat_timeout=found.heartbeat_timeout,
        retry_policy=found.retry_policy,
        delivery=found.delivery,
    )


def is_async(fn: Callable[..., Any]) -> bool:
    """Return whether calling this makes a coroutine; a callable object may do so too."""
    if type(fn) is types.FunctionType and fn.__code__.co_flags & inspect.CO_COROUTINE:
        return True  # most are; `inspect` takes ten times as long to say so

    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


def known(name: str) -> Definition | None:
    """Return the activity of that name that was defined last in this process, or None."""
    return _known.get(name)


def signature_types(fn: Callable[..., Any]) -> tuple[tuple[Any, ...], Any]:
    """Return the annotated types of a function's positional parameters and of its result.

    A parameter without annotation, or one whose annotation cannot be resolved, is `Any`.
    """
    found = _signatures.signature(fn)
    return found.types, found.result.type


_DEFAULT_POLICY = RetryPolicy()


def unit_options(
    definition: Definition | None,
    *,
    start_to_close_timeout: timedelta | None = None,
    schedule_to_start_timeout: timedelta | None = None,
    schedule_to_close_timeout: timedelta | None = None,
    heartbeat_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    cancellation: adapter.Cancellation | None = None,
    delivery: adapter.Delivery | None = None,
) -> adapter.UnitOptions:
    """Return the options of one call: what the call says, else the definition, else the defaults.

    Raises:
        ValueError: A timeout is not positive, or ``delivery`` is another word.
    """
    known = definition or _UNKNOWN
    given = _Given(
        start_to_close_timeout,
        schedule_to_start_timeout,
        schedule_to_close_timeout,
        heartbeat_timeout,
        retry_policy,
        cancellation,
        delivery,
    )
    return known.options if given == _NOTHING else _options(known, given)


class _Given(typing.NamedTuple):
    start_to_close: timedelta | None = None
    schedule_to_start: timedelta | None = None
    schedule_to_close: timedelta | None = None
    heartbeat: timedelta | None = None
    retry_policy: RetryPolicy | None = None
    cancellation: adapter.Cancellation | None = None
    delivery: adapter.Delivery | None = None


_NOTHING = _Given()


def _options(known: Definition, given: _Given = _NOTHING) -> adapter.UnitOptions:
    delivery = given.delivery or known.delivery
    if delivery not in typing.get_args(adapter.Delivery):
        raise ValueError(
            f"delivery must be one of {typing.get_args(adapter.Delivery)}, got {delivery!r}"
        )

    return adapter.UnitOptions(
        start_to_close_timeout=seconds(
            "start_to_close_timeout", given.start_to_close, known.start_to_close_timeout
        ),
        schedule_to_start_timeout=seconds(
            "schedule_to_start_timeout", given.schedule_to_start, None
        ),
        schedule_to_close_timeout=seconds(
            "schedule_to_close_timeout", given.schedule_to_close, known.schedule_to_close_timeout
        ),
        heartbeat_timeout=seconds("heartbeat_timeout", given.heartbeat, known.heartbeat_timeout),
        retry_policy=given.retry_policy or known.retry_policy or _DEFAULT_POLICY,
        cancellation=given.cancellation or "try_cancel",
        delivery=delivery,
    )


def seconds(name: str, given: timedelta | None, default: float | None) -> float | None:
    """Return a timeout in seconds.

    Raises:
        ValueError: It is not positive.
        TypeError: It is no timedelta.
    """
    if given is None:
        return default

    length: Any = given
    if not isinstance(length, timedelta):
        raise TypeError(f"{name} must be a timedelta, got {given!r}")

    if length <= timedelta(0):
        raise ValueError(f"{name} must be positive, got {given}")

    return length.total_seconds()


# Of an activity that is called by its name.
_UNKNOWN = Definition(name="", fn=unit_options, is_async=False)
