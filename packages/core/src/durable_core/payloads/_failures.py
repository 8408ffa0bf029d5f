"""Exceptions ↔ recorded failures (ENGINE R21).

An exception is rebuilt from its record, live and on replay alike, so that workflow code sees the
same object either way. A class is rebuilt if it is one of ours, a builtin, registered here, or
found in a module that was named as safe to import (those of registered workflows and activities).
Any other becomes an `ApplicationError` whose ``type`` is the qualified name.
"""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import sys
import traceback
from datetime import timedelta
from typing import Any, cast

from durable_core import exceptions as ex
from durable_core._codecs import exception_codecs
from durable_core.history import Failure

from . import _json

__all__ = ["Registry", "failure_from", "qualified_name"]

_STACK_LIMIT = 16_384


def qualified_name(cls: type) -> str:
    """Return the name under which a class is recorded; builtins go without their module."""
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


class Registry:
    """Knows which exception classes may be rebuilt, and how."""

    def __init__(self) -> None:
        self._modules = {ex.__name__}

    def allow_module(self, module: str) -> None:
        """Let exceptions that are defined in this module be rebuilt from their arguments."""
        self._modules.add(module)

    def record(self, error: BaseException) -> Failure:
        """Return the record of an exception and of its causes. Never raises."""
        return failure_from(error)

    def rebuild(self, failure: Failure) -> BaseException:
        """Return the exception that a record stands for, with its causes. Never raises."""
        try:
            error = self._build(failure)
        except Exception as problem:  # noqa: BLE001  # a class that changed must not hide its own failure
            error = ex.ApplicationError(
                f"{failure.message} (not rebuilt: {problem})", type=failure.type
            )

        if failure.cause is not None:
            error.__cause__ = self.rebuild(failure.cause)

        return error

    def _build(self, failure: Failure) -> BaseException:
        own = self._build_own(failure)
        if own is not None:
            return own

        if failure.state:
            state = _json.decode(failure.state, dict[str, Any], what=f"the failure {failure.type}")
            codec = next(
                (c for c in exception_codecs.values() if qualified_name(c.cls) == state.get("by")),
                None,
            )
            if codec is not None:
                return codec.from_state(state["state"])

            cls = self._find(failure.type)
            if cls is not None and "fields" in state:
                return cls(**state["fields"])

            if cls is not None and "args" in state:
                error = cls.__new__(cls)
                error.args = tuple(state["args"])
                error.__dict__.update(state.get("attributes", {}))
                return error

        return ex.ApplicationError(
            failure.message, type=failure.type, non_retryable=failure.non_retryable
        )

    def _build_own(self, failure: Failure) -> BaseException | None:
        match failure.kind:
            case "application":
                details = (
                    _json.decode(failure.details, list[Any], what="details")
                    if failure.details
                    else []
                )
                delay = (
                    None if failure.retry_after is None else timedelta(seconds=failure.retry_after)
                )
                return ex.ApplicationError(
                    failure.message,
                    *details,
                    type=failure.type or None,
                    non_retryable=failure.non_retryable,
                    next_retry_delay=delay,
                )
            case "cancelled":
                return ex.CancelledError(failure.message)
            case "terminated":
                return ex.TerminatedError(failure.message)
            case "timeout":
                state = (
                    _json.decode(failure.state, dict[str, Any], what="a timeout")
                    if failure.state
                    else {}
                )
                return ex.TimeoutError(
                    failure.message,
                    type=ex.TimeoutType(state["type"]) if state.get("type") else None,
                )
            case "activity":
                state = _json.decode(failure.state, dict[str, Any], what="an activity failure")
                retry_state = state.get("retry_state")
                return ex.ActivityError(
                    failure.message,
                    activity_type=state["activity_type"],
                    activity_id=state["activity_id"],
                    attempts=state["attempts"],
                    retry_state=ex.RetryState(retry_state) if retry_state else None,
                )
            case _:
                return None

    def _find(self, name: str) -> type[BaseException] | None:
        module, _, qualname = name.rpartition(".")
        if not module:
            found: Any = getattr(builtins, name, None)
        else:
            # A nested class has dots in its qualified name, so the module is the longest known
            # prefix.
            while module and module not in self._modules:
                module, _, head = module.rpartition(".")
                qualname = f"{head}.{qualname}"

            found = sys.modules.get(module)
            for part in qualname.split("."):
                found = getattr(found, part, None)

        return found if isinstance(found, type) and issubclass(found, BaseException) else None


def failure_from(error: BaseException) -> Failure:
    """Return the record of an exception and of its causes. Never raises."""
    try:
        message = str(error)
    except Exception as problem:  # noqa: BLE001  # a broken __str__ must not lose the failure
        message = f"<no message: str() raised {problem!r}>"

    cause = error.__cause__
    common: dict[str, Any] = {
        "message": message,
        "stack": "".join(traceback.format_exception(error))[-_STACK_LIMIT:],
        "cause": failure_from(cause) if cause is not None else None,
    }
    match error:
        case ex.ApplicationError():
            delay = error.next_retry_delay
            own_name = "" if type(error) is ex.ApplicationError else qualified_name(type(error))
            return Failure(
                type=error.type or own_name,
                kind="application",
                non_retryable=error.non_retryable,
                details=_details(error.details),
                retry_after=None if delay is None else delay.total_seconds(),
                **common,
            )
        case ex.CancelledError():
            return Failure(type=qualified_name(type(error)), kind="cancelled", **common)
        case asyncio.CancelledError():
            return Failure(
                type="durable_core.exceptions.CancelledError", kind="cancelled", **common
            )
        case ex.TerminatedError():
            return Failure(type=qualified_name(type(error)), kind="terminated", **common)
        case ex.TimeoutError():
            state = _json.encode({"type": int(error.type) if error.type else 0}, what="a timeout")
            return Failure(type=qualified_name(type(error)), kind="timeout", state=state, **common)
        case ex.ActivityError():
            facts = {
                "activity_type": error.activity_type,
                "activity_id": error.activity_id,
                "attempts": error.attempts,
                "retry_state": int(error.retry_state) if error.retry_state else 0,
            }
            state = _json.encode(facts, what="an activity failure")
            return Failure(type=qualified_name(type(error)), kind="activity", state=state, **common)
        case _:
            non_retryable = isinstance(error, (TypeError, ex.EncodeError, ex.DecodeError))
            return Failure(
                type=qualified_name(type(error)),
                state=_state(error),
                non_retryable=non_retryable,
                **common,
            )


def _details(details: tuple[Any, ...]) -> bytes:
    try:
        return _json.encode(list(details), what="details") if details else b""
    except ex.EncodeError:
        return _json.encode([repr(d) for d in details], what="details")


def _state(error: BaseException) -> bytes:
    """Return JSON that rebuilds an exception, or nothing if it holds what has no JSON form."""
    try:
        codec = next(
            (exception_codecs[c] for c in type(error).__mro__ if c in exception_codecs), None
        )
        if codec is not None:
            known = {"by": qualified_name(codec.cls), "state": codec.to_state(error)}
            return _json.encode(known, what="a failure")

        if dataclasses.is_dataclass(error):
            fields = {f.name: getattr(error, f.name) for f in dataclasses.fields(error) if f.init}
            return _json.encode({"fields": fields}, what="a failure")

        state: dict[str, Any] = {"args": list(error.args)}
        attributes = {k: v for k, v in vars(error).items() if not k.startswith("__")}
        if attributes:
            state["attributes"] = attributes

        encoded = _json.encode(state, what="a failure")
    except Exception:  # noqa: BLE001  # to_state is user code; it must not hide the failure
        return b""

    # Only what comes back as it was may be used: a tuple, say, would return as a list.
    return encoded if cast("object", _json.decode(encoded, Any, what="a failure")) == state else b""
