"""Activity definitions: a callable, its recorded name, and its default options."""

from __future__ import annotations

import contextlib
import inspect
import types
import typing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable_core import _defaults, adapter
from durable_core.common import RetryPolicy
from durable_core.exceptions import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        retry_policy: Retries, unless the call says otherwise.
    """

    name: str
    fn: Callable[..., Any]
    is_async: bool
    start_to_close_timeout: float | None = _defaults.START_TO_CLOSE
    retry_policy: RetryPolicy | None = None


@overload
def defn(fn: F, /) -> F: ...


@overload
def defn(
    *,
    name: str | None = None,
    start_to_close_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
) -> Callable[[F], F]: ...


def defn(
    fn: F | None = None,
    /,
    *,
    name: str | None = None,
    start_to_close_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
) -> F | Callable[[F], F]:
    """Make a function an activity: a call that is recorded when a workflow makes it.

    An ``async def`` runs on the event loop of the worker, a plain ``def`` in a thread.

    Args:
        fn: The function, when used without parentheses.
        name: Name in histories; the function's own name by default. Keep it when renaming.
        start_to_close_timeout: Default of the time that one attempt may take; 10 minutes.
        retry_policy: Default of the retries; temporalio's.

    Raises:
        DefinitionError: Not a function, or a name or timeout that makes no sense.
    """

    def decorate(function: F) -> F:
        if not callable(function) or inspect.isclass(function):
            raise DefinitionError(f"activity.defn expects a function, got {function!r}")

        chosen = name if name is not None else getattr(function, "__name__", "")
        if not chosen or chosen == "<lambda>":
            raise DefinitionError(
                f"{function!r} has no name to record; give one: activity.defn(name=…)"
            )

        timeout = _defaults.START_TO_CLOSE
        if start_to_close_timeout is not None:
            timeout = start_to_close_timeout.total_seconds()
            if timeout <= 0:
                raise DefinitionError(
                    f"start_to_close_timeout of activity {chosen!r} must be positive, got "
                    f"{start_to_close_timeout}"
                )

        definition = Definition(
            name=chosen,
            fn=function,
            is_async=is_async(function),
            start_to_close_timeout=timeout,
            retry_policy=retry_policy,
        )
        setattr(function, _ATTRIBUTE, definition)
        _known[chosen] = definition
        return function

    return decorate if fn is None else decorate(fn)


def definition_of(fn: object) -> Definition | None:
    """Return the definition that `defn` attached, also through a bound method, or None."""
    found = getattr(fn, _ATTRIBUTE, None)
    if not isinstance(found, Definition):
        return None

    bound = inspect.ismethod(fn)
    if not bound:
        return found

    return Definition(
        name=found.name,
        fn=typing.cast("Callable[..., Any]", fn),
        is_async=found.is_async,
        start_to_close_timeout=found.start_to_close_timeout,
        retry_policy=found.retry_policy,
    )


def is_async(fn: Callable[..., Any]) -> bool:
    """Return whether calling this makes a coroutine; a callable object may do so too."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


def known(name: str) -> Definition | None:
    """Return the activity of that name that was defined last in this process, or None."""
    return _known.get(name)


def signature_types(fn: Callable[..., Any]) -> tuple[tuple[Any, ...], Any]:
    """Return the annotated types of a function's positional parameters and of its result.

    A parameter without annotation, or one whose annotation cannot be resolved, is `Any`.
    """
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except Exception:  # noqa: BLE001  # user annotations may name what does not exist at run time
        hints = dict(_resolvable(fn))

    parameters = inspect.signature(fn).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = tuple(hints.get(p.name, Any) for p in parameters if p.kind in kinds)
    return positional, hints.get("return", Any)


def _resolvable(fn: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Yield those annotations that can be resolved: one that cannot must not spoil the others."""
    names = getattr(inspect.unwrap(fn), "__globals__", {})
    for name, annotation in getattr(fn, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):
            yield name, typing.get_type_hints(alone, names, include_extras=True)[name]


def unit_options(
    definition: Definition | None,
    *,
    start_to_close_timeout: timedelta | None,
    retry_policy: RetryPolicy | None,
    wait_cancellation_completed: bool = False,
) -> adapter.UnitOptions:
    """Return the options of one call: what the call says, else the definition, else the defaults.

    Raises:
        ValueError: The timeout is not positive.
    """
    timeout = definition.start_to_close_timeout if definition else _defaults.START_TO_CLOSE
    if start_to_close_timeout is not None:
        timeout = start_to_close_timeout.total_seconds()
        if timeout <= 0:
            raise ValueError(
                f"start_to_close_timeout must be positive, got {start_to_close_timeout}"
            )

    return adapter.UnitOptions(
        start_to_close_timeout=timeout,
        retry_policy=retry_policy or (definition and definition.retry_policy) or RetryPolicy(),
        wait_cancellation_completed=wait_cancellation_completed,
    )
