"""Exceptions ↔ recorded failures (ENGINE R21).

An exception is rebuilt from its record, live and on replay alike, so that workflow code sees the
same object either way. A class is rebuilt if it is one of ours, a builtin, registered, or known by
name to the modules that have to do with the failed activity (see `_classes`). Any other becomes an
`ApplicationError` whose ``type`` is the qualified name.

No class is called with what a record says: an object is made empty and gets its arguments and
attributes back, whatever its ``__init__`` takes. Those that are no JSON carry their type with them.
If one would come back changed, the class is given up, and name and message remain.
"""

from __future__ import annotations

import asyncio
import traceback
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from durable_core import exceptions as ex
from durable_core._codecs import exception_codecs
from durable_core._signatures import short
from durable_core.history import Failure

from . import _json, _tagged
from ._classes import find_class, find_exception, qualified_name
from ._state import restore, state_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Registry", "failure_from", "qualified_name"]

_STACK_LIMIT = 16_384
_DEPTH_LIMIT = 50
# Attributes of our own exceptions, which a failure holds elsewhere.
_OURS = frozenset(
    {
        *("message", "details", "type", "non_retryable", "next_retry_delay"),
        *("activity_type", "activity_id", "attempts", "retry_state"),
        *("namespace", "workflow_id", "run_id", "workflow_type"),
    }
)


class Registry:
    """Knows in which modules exception classes are looked for."""

    def __init__(self) -> None:
        self._modules = [ex.__name__]

    def allow_module(self, module: str) -> None:
        """Let exceptions that this module defines or names be rebuilt from every failure."""
        if module not in self._modules:
            self._modules.append(module)

    def record(self, error: BaseException) -> Failure:
        """Return the record of an exception and of its causes. Never raises."""
        return failure_from(error)

    def rebuild(self, failure: Failure, *, modules: Iterable[str] = ()) -> BaseException:
        """Return the exception that a record stands for, with its causes. Never raises.

        Args:
            failure: The record.
            modules: Where else to look for its class and for those of its attributes.
        """
        known = tuple(dict.fromkeys((*self._modules, *modules)))
        try:
            error = _build(failure, known)
        except Exception as problem:  # noqa: BLE001  # a class that changed must not hide its own failure
            error = ex.ApplicationError(
                f"{failure.message} (not rebuilt: {problem})", type=failure.type
            )

        if failure.cause is not None:
            error.__cause__ = self.rebuild(failure.cause, modules=modules)

        for note in failure.notes:
            error.add_note(note)

        return error


def failure_from(error: BaseException, *, depth: int = 0) -> Failure:
    """Return the record of an exception and of its causes. Never raises."""
    cause = error.__cause__ if depth < _DEPTH_LIMIT else None  # a chain may be a ring
    notes = getattr(error, "__notes__", ())
    common: dict[str, Any] = {
        "message": _message(error),
        "stack": _stack(error, chain=not depth),
        "cause": failure_from(cause, depth=depth + 1) if cause is not None else None,
        "notes": tuple(n for n in notes if isinstance(n, str)) if isinstance(notes, list) else (),
    }
    match error:
        case ex.ApplicationError():
            delay = error.next_retry_delay
            own_name = "" if type(error) is ex.ApplicationError else qualified_name(type(error))
            return Failure(
                type=str(error.type or own_name),
                kind="application",
                non_retryable=bool(error.non_retryable),
                details=_details(error.details),
                retry_after=None if delay is None else delay.total_seconds(),
                state=_own_state(error, ex.ApplicationError, {"type": error.type}),
                **common,
            )
        case ex.CancelledError():
            return Failure(
                type=qualified_name(type(error)),
                kind="cancelled",
                details=_details(error.details),
                state=_own_state(error, ex.CancelledError),
                **common,
            )
        case asyncio.CancelledError():
            return Failure(
                type="durable_core.exceptions.CancelledError", kind="cancelled", **common
            )
        case ex.TerminatedError():
            state = _own_state(error, ex.TerminatedError)
            return Failure(
                type=qualified_name(type(error)), kind="terminated", state=state, **common
            )
        case ex.TimeoutError():
            facts: dict[str, Any] = {"type": int(error.type) if error.type else 0}
            state = _own_state(error, ex.TimeoutError, facts, always=True)
            return Failure(type=qualified_name(type(error)), kind="timeout", state=state, **common)
        case ex.ActivityError():
            facts = {
                "activity_type": error.activity_type,
                "activity_id": error.activity_id,
                "attempts": error.attempts,
                "retry_state": int(error.retry_state) if error.retry_state else 0,
            }
            state = _own_state(error, ex.ActivityError, facts, always=True)
            return Failure(type=qualified_name(type(error)), kind="activity", state=state, **common)
        case ex.ChildWorkflowError():
            names = ("namespace", "workflow_id", "run_id", "workflow_type")
            facts = {name: getattr(error, name) for name in names}
            state = _own_state(error, ex.ChildWorkflowError, facts, always=True)
            return Failure(type=qualified_name(type(error)), kind="child", state=state, **common)
        case _:
            members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
            hopeless = (ex.EncodeError, ex.DecodeError, ex.StreamError, ex.NotSupported)
            non_retryable = isinstance(error, (TypeError, *hopeless))
            return Failure(
                type=qualified_name(type(error)),
                state=_state(error),
                non_retryable=non_retryable,
                members=tuple(failure_from(e, depth=depth + 1) for e in members),
                **common,
            )


# What is recorded


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:  # noqa: BLE001  # a broken __str__ must not lose the failure
        return f"<no message: str() raised {short(problem)}>"


def _stack(error: BaseException, *, chain: bool) -> str:
    try:
        return "".join(traceback.format_exception(error, chain=chain))[-_STACK_LIMIT:]
    except Exception as problem:  # noqa: BLE001  # as above
        return f"<no traceback: {short(problem)}>"


def _details(details: tuple[Any, ...]) -> bytes:
    if not details:
        return b""

    try:
        return _json.encode(_tagged.dump(list(details)), what="details")
    except (TypeError, ValueError, RecursionError):
        return _json.encode([short(d, 1000) for d in details], what="details")


def _own_state(
    error: BaseException,
    base: type[BaseException],
    facts: dict[str, Any] | None = None,
    *,
    always: bool = False,
) -> bytes:
    """Return what rebuilds one of our exceptions beside the fields of a failure.

    Args:
        error: The exception.
        base: Its kind; of a subclass the own attributes are kept, too.
        facts: What its kind keeps.
        always: Whether the facts are needed for the base class as well.
    """
    found = dict(facts or {}) if always else {}
    if type(error) is not base:
        try:
            own = {**(facts or {}), **state_of(error, without=_OURS)}
            encoded = _json.encode({**own, "class": qualified_name(type(error))}, what="a failure")
        except Exception:  # noqa: BLE001  # of a user's object; the class is given up
            encoded = b""

        if encoded:
            return encoded

    return _json.encode(found, what="a failure") if found else b""


def _state(error: BaseException) -> bytes:
    """Return JSON that rebuilds an exception, or nothing if it holds what would not come back."""
    try:
        codec = next(
            (exception_codecs[c] for c in type(error).__mro__ if c in exception_codecs), None
        )
        if codec is not None:
            state: dict[str, Any] = {"by": qualified_name(codec.cls)}
            state["state"] = _tagged.dump(codec.to_state(error))
        else:
            state = state_of(error)

        return _json.encode(state, what="a failure")
    except Exception:  # noqa: BLE001  # to_state is user code; it must not hide the failure
        return b""


# What is rebuilt


def _build(failure: Failure, modules: tuple[str, ...]) -> BaseException:
    state = _json.decode(failure.state, Any, what="a failure") if failure.state else {}
    find = partial(find_class, modules=modules, anywhere=True)
    if failure.kind:
        error = _ours(failure, state, find)
        cls = find_exception(str(state.get("class")), modules) if "class" in state else None
        return error if cls is None else _as_subclass(error, cls, state, modules)

    if "by" in state:
        codec = next(
            (c for c in exception_codecs.values() if qualified_name(c.cls) == state["by"]), None
        )
        if codec is not None:
            return codec.from_state(_tagged.load(state["state"], find))

    cls = find_exception(failure.type, modules)
    if cls is not None and "args" in state:
        registry = Registry()
        members = [registry.rebuild(m, modules=modules) for m in failure.members]
        return restore(cls, state, _finder(cls, modules), members)

    return ex.ApplicationError(
        failure.message, type=failure.type, non_retryable=failure.non_retryable
    )


def _finder(cls: type, modules: tuple[str, ...]) -> _tagged.Find:
    """Return what finds classes of attributes: also where the exception's class is defined."""
    own = [c.__module__ for c in cls.__mro__ if c.__module__ != "builtins"]
    return partial(find_class, modules=tuple(dict.fromkeys((*modules, *own))), anywhere=True)


def _as_subclass(
    error: BaseException, cls: type[BaseException], state: dict[str, Any], modules: tuple[str, ...]
) -> BaseException:
    """Return a user's subclass of one of our exceptions, with its own attributes."""
    found = restore(cls, state, _finder(cls, modules), [])
    vars(found).update({**vars(error), **vars(found)})
    if isinstance(found, ex.ApplicationError):
        found.type = state.get("type")

    return found


def _ours(failure: Failure, state: dict[str, Any], find: _tagged.Find) -> BaseException:
    match failure.kind:
        case "application":
            delay = failure.retry_after
            return ex.ApplicationError(
                failure.message,
                *_loaded_details(failure, find),
                type=failure.type or None,
                non_retryable=failure.non_retryable,
                next_retry_delay=None if delay is None else timedelta(seconds=delay),
            )
        case "cancelled":
            return ex.CancelledError(failure.message, *_loaded_details(failure, find))
        case "terminated":
            return ex.TerminatedError(failure.message)
        case "timeout":
            which = state.get("type")
            return ex.TimeoutError(failure.message, type=ex.TimeoutType(which) if which else None)
        case "child":
            return ex.ChildWorkflowError(
                failure.message,
                namespace=state["namespace"],
                workflow_id=state["workflow_id"],
                run_id=state["run_id"],
                workflow_type=state["workflow_type"],
            )
        case _:
            why = state.get("retry_state")
            return ex.ActivityError(
                failure.message,
                activity_type=state["activity_type"],
                activity_id=state["activity_id"],
                attempts=state["attempts"],
                retry_state=ex.RetryState(why) if why else None,
            )


def _loaded_details(failure: Failure, find: _tagged.Find) -> list[Any]:
    if not failure.details:
        return []

    plain = _json.decode(failure.details, Any, what="details")
    try:
        return [_tagged.load(detail, find) for detail in plain]
    except (LookupError, ValueError, TypeError):
        # Of a class that is not known here: JSON's own types are better than nothing.
        return [_tagged.untagged(detail) for detail in plain]
