"""What a running activity can ask about itself."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ParamSpec, TypeVar, cast

import msgspec

from durable_core.exceptions import NotInActivityError

__all__ = [
    "Info",
    "LoggerAdapter",
    "current",
    "in_activity",
    "info",
    "logger",
    "resource",
    "to_thread",
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


class Running(msgspec.Struct):
    """The attempt under way, as its own code sees it.

    Attributes:
        find_info: Makes what `info` returns. Most bodies never ask.
        resources: What `resource` looks up.
        in_thread: Calls a function in a thread of the worker; None leaves it to the event loop.
    """

    find_info: Callable[[], Info]
    resources: Mapping[str, Any] = {}
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None
    _info: Info | None = None

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
