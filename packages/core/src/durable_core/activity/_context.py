"""What a running activity can ask about itself."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import msgspec

from durable_core.adapter import StreamWriter
from durable_core.exceptions import NotInActivityError, NotSupported

__all__ = [
    "Info",
    "LoggerAdapter",
    "current",
    "heartbeat",
    "in_activity",
    "info",
    "is_cancelled",
    "logger",
    "resource",
    "stream",
    "to_thread",
    "wait_for_cancelled",
    "wait_for_cancelled_sync",
]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about the attempt that is running.

    Attributes:
        activity_id: The command's number in its run.
        activity_type: Name of the activity.
        attempt: 1 for the first attempt; lost attempts count.
        scheduled_time: Time of the activation that asked for it.
        started_time: When this attempt started.
        heartbeat_timeout: After how long without a heartbeat this attempt has failed, if it may.
        heartbeat_details: What the latest heartbeat of the attempts before said, as far as it was
            recorded: of an attempt that died with its process, the heartbeats of its last second
            may be missing. Decoded as JSON's own types.
        idempotency_key: Equal for every attempt of this activity, also after crashes, and different
            from that of any other; pass it to services that deduplicate.
        workflow_id: Id of the run, as its user chose it.
        workflow_run_id: Unique id of the run.
        workflow_type: Name of the workflow.
        workflow_namespace: Namespace of the run.
        task_queue: Queue of the run.
    """

    activity_id: str
    activity_type: str
    attempt: int
    scheduled_time: datetime
    started_time: datetime
    idempotency_key: str
    workflow_id: str
    workflow_run_id: str
    workflow_type: str
    workflow_namespace: str
    task_queue: str
    heartbeat_timeout: timedelta | None = None
    heartbeat_details: Sequence[Any] = ()


class Heart(Protocol):
    """What hears the heartbeats of an attempt, and tells it of its end."""

    @property
    def cancelled(self) -> bool:
        """Whether the body was asked to end."""
        ...

    def beat(self, details: tuple[Any, ...]) -> None:
        """Say that the body lives.

        Raises:
            CancelledError: It was asked to end.
        """
        ...

    async def wait_cancelled(self) -> None:
        """Wait until it is asked to end."""
        ...

    def wait_cancelled_sync(self, timeout: float | None) -> None:
        """As `wait_cancelled`, in a thread, for so many seconds at most."""
        ...


class Running(msgspec.Struct):
    """The attempt under way, as its own code sees it.

    Attributes:
        find_info: Makes what `info` returns. Most bodies never ask.
        find_heart: Makes what hears heartbeats. Most bodies never ask.
        resources: What `resource` looks up.
        in_thread: Calls a function in a thread of the worker; None leaves it to the event loop.
        open_stream: Returns what writes to a stream; None if there are none.
    """

    find_info: Callable[[], Info]
    find_heart: Callable[[], Heart]
    resources: Mapping[str, Any] = {}
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None
    open_stream: Callable[[str], StreamWriter] | None = None
    _info: Info | None = None
    _heart: Heart | None = None

    @property
    def heart(self) -> Heart:
        """What hears heartbeats, and tells of the end."""
        if self._heart is None:
            self._heart = self.find_heart()

        return self._heart

    @property
    def info(self) -> Info:
        """Facts about the attempt."""
        if self._info is None:
            self._info = self.find_info()

        return self._info


current: contextvars.ContextVar[Running] = contextvars.ContextVar("durable_activity")


def _running() -> Running:
    try:
        return current.get()
    except LookupError:
        raise NotInActivityError("not inside an activity: call this from the body of one") from None


def in_activity() -> bool:
    """Return whether the caller runs inside an activity."""
    return current.get(None) is not None


def info() -> Info:
    """Return facts about the attempt that is running.

    Raises:
        NotInActivityError: Called outside an activity.
    """
    return _running().info


def heartbeat(*details: Any) -> None:
    """Say that the body lives, and how far it came; from any thread.

    The details are there for the next attempt, as ``info().heartbeat_details``: the first is
    recorded at once, further ones about once a second, each of which is a commit.

    Args:
        details: Anything that can be recorded.

    Raises:
        CancelledError: The body was asked to end, of `durable_core.exceptions`.
        EncodeError: A detail cannot be recorded.
        NotInActivityError: Called outside an activity.
    """
    _running().heart.beat(details)


def is_cancelled() -> bool:
    """Return whether the body was asked to end; a sync one is told in no other way.

    Raises:
        NotInActivityError: Called outside an activity.
    """
    return _running().heart.cancelled


async def wait_for_cancelled() -> None:
    """Wait until the body is asked to end.

    Raises:
        NotInActivityError: Called outside an activity.
    """
    await _running().heart.wait_cancelled()


def wait_for_cancelled_sync(timeout: timedelta | float | None = None) -> None:
    """Wait, in a sync body, until it is asked to end, or until the time is over.

    Args:
        timeout: A timedelta, or seconds.

    Raises:
        NotInActivityError: Called outside an activity.
    """
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    _running().heart.wait_cancelled_sync(seconds)


def resource(role: str) -> Any:
    """Return a live object that was passed beside the recorded arguments.

    Raises:
        NotInActivityError: Called outside an activity.
        LookupError: Nothing was passed under that role.
    """
    resources = _running().resources
    if role not in resources:
        raise LookupError(
            f"no resource {role!r} was passed to this activity; there are {sorted(resources)}"
        )

    return resources[role]


def stream(name: str) -> StreamWriter:
    """Return what writes to a stream of the run, from any thread: tokens, or how far it came.

    The first chunk after a pause is made durable at once, further ones about every 50 ms, and the
    last of them together with the result. If this attempt fails, or is lost with its worker,
    readers are told to drop what it wrote.

    Args:
        name: 1 to 200 printable characters; others of the run may write to it too.

    Raises:
        NotInActivityError: Called outside an activity.
        NotSupported: The engine has no streams.
        ValueError: A stream cannot be called so.
    """
    open_stream = _running().open_stream
    if open_stream is None:
        raise NotSupported(
            "activity.stream: this engine has no streams; run the activity on an embedded one"
        )

    return open_stream(name)


async def to_thread(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a blocking function in a thread of the worker, from the body of an async activity.

    As `asyncio.to_thread`, but the process never waits for the function in order to end: an attempt
    that its end cuts off is made again, as after a crash.

    Raises:
        NotInActivityError: Called outside an activity.
    """
    in_thread = _running().in_thread
    if in_thread is None:
        return await asyncio.to_thread(fn, *args, **kwargs)

    call = functools.partial(contextvars.copy_context().run, fn, *args, **kwargs)
    return cast("R", await in_thread(call))


class LoggerAdapter(logging.LoggerAdapter[logging.Logger]):
    """Adds the activity's and the run's ids to each record's ``extra``."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the ids of the attempt that is running, if one is."""
        running = current.get(None)
        if running is not None:
            facts = running.info
            kwargs["extra"] = {
                **(kwargs.get("extra") or {}),
                "durable_activity": {
                    "activity_id": facts.activity_id,
                    "activity_type": facts.activity_type,
                    "attempt": facts.attempt,
                    "workflow_id": facts.workflow_id,
                    "workflow_run_id": facts.workflow_run_id,
                },
            }

        return msg, kwargs


logger = LoggerAdapter(logging.getLogger("durable_core.activity"), {})
