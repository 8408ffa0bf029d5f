"""Handlers that workflow code sets while it runs, and what it asks about those it has."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ._calls import runtime
from ._handlers import Handler, HandlerUnfinishedPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._handlers import Kind

__all__ = [
    "all_handlers_finished",
    "get_dynamic_query_handler",
    "get_dynamic_signal_handler",
    "get_dynamic_update_handler",
    "get_query_handler",
    "get_signal_handler",
    "get_update_handler",
    "set_dynamic_query_handler",
    "set_dynamic_signal_handler",
    "set_dynamic_update_handler",
    "set_query_handler",
    "set_signal_handler",
    "set_update_handler",
]


def all_handlers_finished() -> bool:
    """Return whether no handler of a signal or an update is under way.

    ``await workflow.wait_condition(workflow.all_handlers_finished)`` at the end of a run lets them
    finish; what is left when a run ends is dropped, with a warning.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().handlers.finished()


def set_signal_handler(name: str, handler: Callable[..., Any] | None) -> None:
    """Handle a signal by a function, which may be async, or by none.

    Signals of that name that no handler took before are handed to it, in order.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    _set("signal", name, handler)


def set_dynamic_signal_handler(handler: Callable[..., Any] | None) -> None:
    """Handle, by a function of a name and a list of `RawValue`, what no other handler takes.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    _set("signal", None, handler)


def set_query_handler(name: str, handler: Callable[..., Any] | None) -> None:
    """Answer a query by a plain function, or by none.

    Raises:
        TypeError: The function is async.
        NotInWorkflowError: Called outside workflow code.
    """
    _set("query", name, handler)


def set_dynamic_query_handler(handler: Callable[..., Any] | None) -> None:
    """Answer, by a function of a name and a list of `RawValue`, what no other handler answers.

    Raises:
        TypeError: The function is async.
        NotInWorkflowError: Called outside workflow code.
    """
    _set("query", None, handler)


def set_update_handler(
    name: str,
    handler: Callable[..., Any] | None,
    *,
    validator: Callable[..., Any] | None = None,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
) -> None:
    """Take an update by a function, which may be async, or by none; see `update`.

    Raises:
        TypeError: The validator is async.
        NotInWorkflowError: Called outside workflow code.
    """
    _set("update", name, handler, validator, unfinished_policy)


def set_dynamic_update_handler(
    handler: Callable[..., Any] | None,
    *,
    validator: Callable[..., Any] | None = None,
    unfinished_policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
) -> None:
    """Take, by a function of a name and a list of `RawValue`, updates that no other takes.

    Raises:
        TypeError: The validator is async.
        NotInWorkflowError: Called outside workflow code.
    """
    _set("update", None, handler, validator, unfinished_policy)


def get_signal_handler(name: str) -> Callable[..., Any] | None:
    """Return the handler of a signal, if it has one of its own.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _get("signal", name)


def get_dynamic_signal_handler() -> Callable[..., Any] | None:
    """Return what takes the signals that nothing else takes, if anything does.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _get("signal", None)


def get_query_handler(name: str) -> Callable[..., Any] | None:
    """Return the handler of a query, if it has one of its own.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _get("query", name)


def get_dynamic_query_handler() -> Callable[..., Any] | None:
    """Return what answers the queries that nothing else answers, if anything does.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _get("query", None)


def get_update_handler(name: str) -> Callable[..., Any] | None:
    """Return the handler of an update, if it has one of its own.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _get("update", name)


def get_dynamic_update_handler() -> Callable[..., Any] | None:
    """Return what takes the updates that nothing else takes, if anything does.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _get("update", None)


def _set(
    kind: Kind,
    name: str | None,
    fn: Callable[..., Any] | None,
    validator: Callable[..., Any] | None = None,
    policy: HandlerUnfinishedPolicy = HandlerUnfinishedPolicy.WARN_AND_ABANDON,
) -> None:
    for only_looks in (validator, fn if kind == "query" else None):
        if inspect.iscoroutinefunction(only_looks):
            raise TypeError(
                f"{only_looks!r} is async, and what answers a query or validates an update only "
                "looks: make it a plain def"
            )

    handler = None if fn is None else Handler(fn, name, policy, validator)
    runtime().handlers.set(kind, handler, name)


def _get(kind: Kind, name: str | None) -> Callable[..., Any] | None:
    found = runtime().handlers.get(kind, name)
    return None if found is None else found.fn
