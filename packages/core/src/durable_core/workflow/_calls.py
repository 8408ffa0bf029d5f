"""What workflow code may ask for. Each call finds its engine through the running event loop."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

from durable_core import _clock
from durable_core._arguments import UNSET, arguments
from durable_core.activity import _defn as activity_defn
from durable_core.adapter import Engine, Unit, current_engine
from durable_core.exceptions import CallError, NotInWorkflowError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping, Sequence
    from datetime import datetime, timedelta
    from random import Random
    from uuid import UUID

    from durable_core.common import RetryPolicy

__all__ = [
    "ActivityHandle",
    "Info",
    "LoggerAdapter",
    "execute_activity",
    "in_workflow",
    "info",
    "logger",
    "now",
    "random",
    "sleep",
    "start_activity",
    "uuid4",
]

R = TypeVar("R")

ActivityHandle = asyncio.Future
"""A started activity: await it for the result, ``cancel()`` it to ask for its cancellation."""


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about the run whose code is running.

    Attributes:
        namespace: Namespace of the run.
        workflow_id: Id of the run, as its user chose it.
        run_id: Unique id of the run.
        workflow_type: Name of the workflow.
        task_queue: Queue that the run was started on.
        start_time: When the run was started.
    """

    namespace: str
    workflow_id: str
    run_id: str
    workflow_type: str
    task_queue: str
    start_time: datetime


class Runtime(Engine, Protocol):
    """An `Engine` with what only this module asks for."""

    def info(self) -> Info:
        """Return facts about the run."""
        ...


def _runtime() -> Runtime:
    engine = current_engine()
    if engine is None:
        raise NotInWorkflowError(
            "not inside a workflow: call this from workflow code, on its event loop"
        )

    return cast("Runtime", engine)


def in_workflow() -> bool:
    """Return whether the caller is workflow code."""
    return current_engine() is not None


def info() -> Info:
    """Return facts about the run whose code is running.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _runtime().info()


def now() -> datetime:
    """Return the time of the activation, UTC: the same on every replay.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _clock.from_timestamp(_runtime().now())


def random() -> Random:
    """Return the run's random generator: the same numbers on every replay.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _runtime().random()


def uuid4() -> UUID:
    """Return a new UUID: the same on every replay.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _runtime().uuid4()


async def sleep(duration: timedelta | float) -> None:
    """Wait by a recorded timer, over crashes and restarts. `asyncio.sleep` does the same.

    Args:
        duration: A timedelta, or seconds.

    Raises:
        ValueError: The duration is negative.
        NotInWorkflowError: Called outside workflow code.
    """
    _runtime()
    seconds = duration if isinstance(duration, (int, float)) else duration.total_seconds()
    if seconds < 0:
        raise ValueError(f"cannot sleep for {duration}: a duration must not be negative")

    await asyncio.sleep(seconds)


@overload
def start_activity(
    activity: Callable[..., Awaitable[R]],
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    start_to_close_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> ActivityHandle[R]: ...


@overload
def start_activity(
    activity: Callable[..., R],
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    start_to_close_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> ActivityHandle[R]: ...


@overload
def start_activity(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    start_to_close_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> ActivityHandle[Any]: ...


def start_activity(
    activity: Callable[..., Any] | str,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = (),
    start_to_close_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    result_type: Any = None,
    summary: str | None = None,
) -> ActivityHandle[Any]:
    """Ask for an activity and return a handle at once; its body starts when the request is durable.

    Args:
        activity: A function with `activity.defn`, or the name of one.
        arg: Its only argument: recorded, and compared on replay.
        args: Its arguments, if there is more than one.
        start_to_close_timeout: How long one attempt may take; 10 minutes unless the definition or
            this argument says otherwise.
        retry_policy: When a failed attempt is followed by another.
        result_type: What the result is decoded to, if a name is given or to override the
            annotation.
        summary: One line for people who look at the history.

    Returns:
        A handle to await. A failure raises `ActivityError` whose cause says why.

    Raises:
        CallError: ``activity`` is not an activity, or an argument cannot be encoded.
        NotRegisteredError: No worker of this process knows the name.
        NotInWorkflowError: Called outside workflow code.
    """
    runtime = _runtime()
    if isinstance(activity, str):
        definition, name = None, activity
    else:
        definition = activity_defn.definition_of(activity)
        if definition is None:
            raise CallError(
                f"{activity!r} is no activity: decorate it with @activity.defn, or call it without "
                "execute_activity"
            )

        name = definition.name

    options = activity_defn.unit_options(
        definition, start_to_close_timeout=start_to_close_timeout, retry_policy=retry_policy
    )
    return runtime.schedule(
        Unit(
            name=name,
            body=None if definition is None else definition.fn,
            args=arguments(arg, args),
            result_type=result_type,
            options=options,
            summary=summary,
            raise_cause=False,
            in_context=False,
        )
    )


@overload
async def execute_activity(
    activity: Callable[..., Awaitable[R]],
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    start_to_close_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> R: ...


@overload
async def execute_activity(
    activity: Callable[..., R],
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    start_to_close_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> R: ...


@overload
async def execute_activity(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    start_to_close_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> Any: ...


async def execute_activity(
    activity: Callable[..., Any] | str,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = (),
    start_to_close_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    result_type: Any = None,
    summary: str | None = None,
) -> Any:
    """Ask for an activity and wait for its result; see `start_activity`.

    Raises:
        ActivityError: It failed for good; the cause says why.
        asyncio.CancelledError: The task that waits was cancelled.
    """
    return await start_activity(
        activity,
        arg,
        args=args,
        start_to_close_timeout=start_to_close_timeout,
        retry_policy=retry_policy,
        result_type=result_type,
        summary=summary,
    )


class LoggerAdapter(logging.LoggerAdapter[logging.Logger]):
    """Says nothing while replaying, and adds the run's ids to each record's ``extra``."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        """Return False for what an earlier execution has logged already."""
        engine = current_engine()
        if engine is not None and engine.replaying:
            return False

        return super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the ids of the run whose code is running, if one is."""
        engine = current_engine()
        if engine is not None:
            ids = {"workflow_id": engine.workflow_id, "workflow_run_id": engine.run_id}
            kwargs["extra"] = {**(kwargs.get("extra") or {}), "durable_workflow": ids}

        return msg, kwargs


logger = LoggerAdapter(logging.getLogger("durable_core.workflow"), {})
