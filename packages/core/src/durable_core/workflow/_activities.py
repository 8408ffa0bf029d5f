"""Activities as workflow code asks for them."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable_core._arguments import UNSET, arguments
from durable_core.activity import _defn as activity_defn
from durable_core.adapter import Unit
from durable_core.exceptions import CallError

from ._calls import runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from durable_core.adapter import Cancellation, Delivery
    from durable_core.common import RetryPolicy

__all__ = ["ActivityCancellationType", "ActivityHandle", "execute_activity", "start_activity"]

R = TypeVar("R")


class ActivityCancellationType(IntEnum):
    """What cancelling an activity does."""

    TRY_CANCEL = 0
    """Ask its body to end, and go on at once."""
    WAIT_CANCELLATION_COMPLETED = 1
    """Ask its body to end, and wait until the outcome is known, which may be a result."""
    ABANDON = 2
    """Go on at once and leave the body alone; what it brings is dropped. A crash ends it."""


_CANCELLATIONS: dict[ActivityCancellationType, Cancellation | None] = {
    ActivityCancellationType.TRY_CANCEL: None,
    ActivityCancellationType.WAIT_CANCELLATION_COMPLETED: "wait_cancellation_completed",
    ActivityCancellationType.ABANDON: "abandon",
}

ActivityHandle = asyncio.Future
"""A started activity: await it for the result, ``cancel()`` it to ask for its cancellation."""


@overload
def start_activity(
    activity: Callable[..., Awaitable[R]],
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    schedule_to_close_timeout: timedelta | None = ...,
    schedule_to_start_timeout: timedelta | None = ...,
    start_to_close_timeout: timedelta | None = ...,
    heartbeat_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    cancellation_type: ActivityCancellationType = ...,
    delivery: Delivery | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> ActivityHandle[R]: ...


@overload
def start_activity(
    activity: Callable[..., R],
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    schedule_to_close_timeout: timedelta | None = ...,
    schedule_to_start_timeout: timedelta | None = ...,
    start_to_close_timeout: timedelta | None = ...,
    heartbeat_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    cancellation_type: ActivityCancellationType = ...,
    delivery: Delivery | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> ActivityHandle[R]: ...


@overload
def start_activity(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    schedule_to_close_timeout: timedelta | None = ...,
    schedule_to_start_timeout: timedelta | None = ...,
    start_to_close_timeout: timedelta | None = ...,
    heartbeat_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    cancellation_type: ActivityCancellationType = ...,
    delivery: Delivery | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> ActivityHandle[Any]: ...


def start_activity(
    activity: Callable[..., Any] | str,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = (),
    schedule_to_close_timeout: timedelta | None = None,
    schedule_to_start_timeout: timedelta | None = None,
    start_to_close_timeout: timedelta | None = None,
    heartbeat_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    cancellation_type: ActivityCancellationType = ActivityCancellationType.TRY_CANCEL,
    delivery: Delivery | None = None,
    result_type: Any = None,
    summary: str | None = None,
) -> ActivityHandle[Any]:
    """Ask for an activity and return a handle at once; its body starts when the request is durable.

    Args:
        activity: A function with `activity.defn`, or the name of one.
        arg: Its only argument: recorded, and compared on replay.
        args: Its arguments, if there is more than one.
        schedule_to_close_timeout: How long it may take in all, with its retries; no limit unless
            the definition or this argument says otherwise.
        schedule_to_start_timeout: How long it may wait for its first attempt to begin; no limit.
        start_to_close_timeout: How long one attempt may take; 10 minutes unless the definition or
            this argument says otherwise.
        heartbeat_timeout: After how long an attempt has failed whose body says nothing by
            `activity.heartbeat`; no limit.
        retry_policy: When a failed attempt is followed by another.
        cancellation_type: What cancelling the handle, or the task that awaits it, does.
        delivery: ``"at_most_once"`` for what must never happen twice: its body never begins again,
            unless it raised `NotStarted`, and the failure is `OutcomeUnknown` if its worker died.
        result_type: What the result is decoded to, if a name is given or to override the
            annotation.
        summary: One line for people who look at the history.

    Returns:
        A handle to await. A failure raises `ActivityError` whose cause says why.

    Raises:
        CallError: ``activity`` is not an activity, or an argument cannot be encoded.
        ValueError: A timeout is not positive, or ``cancellation_type`` or ``delivery`` is none of
            those that there are.
        NotRegisteredError: No worker of this process knows the name.
        NotInWorkflowError: Called outside workflow code.
    """
    engine = runtime()
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
        definition,
        schedule_to_close_timeout=schedule_to_close_timeout,
        schedule_to_start_timeout=schedule_to_start_timeout,
        start_to_close_timeout=start_to_close_timeout,
        heartbeat_timeout=heartbeat_timeout,
        retry_policy=retry_policy,
        cancellation=_CANCELLATIONS[ActivityCancellationType(cancellation_type)],
        delivery=delivery,
    )
    return engine.schedule(
        Unit(
            name=name,
            body=None if definition is None else definition.body,
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
    schedule_to_close_timeout: timedelta | None = ...,
    schedule_to_start_timeout: timedelta | None = ...,
    start_to_close_timeout: timedelta | None = ...,
    heartbeat_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    cancellation_type: ActivityCancellationType = ...,
    delivery: Delivery | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> R: ...


@overload
async def execute_activity(
    activity: Callable[..., R],
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    schedule_to_close_timeout: timedelta | None = ...,
    schedule_to_start_timeout: timedelta | None = ...,
    start_to_close_timeout: timedelta | None = ...,
    heartbeat_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    cancellation_type: ActivityCancellationType = ...,
    delivery: Delivery | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> R: ...


@overload
async def execute_activity(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    schedule_to_close_timeout: timedelta | None = ...,
    schedule_to_start_timeout: timedelta | None = ...,
    start_to_close_timeout: timedelta | None = ...,
    heartbeat_timeout: timedelta | None = ...,
    retry_policy: RetryPolicy | None = ...,
    cancellation_type: ActivityCancellationType = ...,
    delivery: Delivery | None = ...,
    result_type: Any = ...,
    summary: str | None = ...,
) -> Any: ...


async def execute_activity(
    activity: Callable[..., Any] | str,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = (),
    schedule_to_close_timeout: timedelta | None = None,
    schedule_to_start_timeout: timedelta | None = None,
    start_to_close_timeout: timedelta | None = None,
    heartbeat_timeout: timedelta | None = None,
    retry_policy: RetryPolicy | None = None,
    cancellation_type: ActivityCancellationType = ActivityCancellationType.TRY_CANCEL,
    delivery: Delivery | None = None,
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
        schedule_to_close_timeout=schedule_to_close_timeout,
        schedule_to_start_timeout=schedule_to_start_timeout,
        start_to_close_timeout=start_to_close_timeout,
        heartbeat_timeout=heartbeat_timeout,
        retry_policy=retry_policy,
        cancellation_type=cancellation_type,
        delivery=delivery,
        result_type=result_type,
        summary=summary,
    )
