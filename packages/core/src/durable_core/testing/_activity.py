"""Activities by themselves, for tests."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar, cast

from durable_core.activity import Info, _context
from durable_core.payloads import _chunks, _json
from durable_core.worker._heart import Heart

__all__ = ["ActivityEnvironment"]

P = ParamSpec("P")
R = TypeVar("R")

_INFO = Info(
    activity_id="1",
    activity_type="test",
    attempt=1,
    scheduled_time=datetime(2024, 1, 1, tzinfo=UTC),
    started_time=datetime(2024, 1, 1, tzinfo=UTC),
    idempotency_key="test-key",
    workflow_id="test-workflow",
    workflow_run_id="test-run",
    workflow_type="test",
    workflow_namespace="default",
    task_queue="test",
)


class _Kept:
    """Writes to a list."""

    def __init__(self, name: str, streams: dict[str, list[Any]]) -> None:
        _chunks.check_name(name)
        self.name = name
        self._streams = streams

    def write(self, value: Any) -> None:
        """Append a chunk."""
        data = _chunks.encoded(self.name, value)
        chunk = _json.decode_untyped(data, what="a chunk")
        self._streams.setdefault(self.name, []).append(chunk)


class ActivityEnvironment:
    """Calls activities as a worker would, without a workflow.

    Attributes:
        info: What `activity.info` returns inside; `dataclasses.replace` makes another.
        resources: What `activity.resource` returns inside, by role.
        on_heartbeat: Called with the details of each heartbeat.
        streams: What activities wrote to streams, by name, as it was recorded.
    """

    def __init__(
        self, *, info: Info | None = None, resources: Mapping[str, Any] | None = None
    ) -> None:
        self.info = info or dataclasses.replace(_INFO)
        self.resources: Mapping[str, Any] = resources or {}
        self.on_heartbeat: Callable[..., None] = lambda *_: None
        self.streams: dict[str, list[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._heart = Heart(lambda details: self.on_heartbeat(*details))

    def cancel(self) -> None:
        """Ask what runs to end: an async body is cancelled, a sync one may ask."""
        self._heart.cancel()
        for task in self._tasks:
            task.cancel()

    def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call an activity; of an ``async def`` one the awaitable is returned."""
        context = contextvars.copy_context()
        running = _context.Running(
            lambda: self.info,
            lambda: self._heart,
            self.resources,
            open_stream=lambda name: _Kept(name, self.streams),
        )
        context.run(_context.current.set, running)
        outcome = context.run(fn, *args, **kwargs)
        if not inspect.iscoroutine(outcome):
            return outcome

        task = asyncio.get_running_loop().create_task(outcome, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return cast("R", task)
