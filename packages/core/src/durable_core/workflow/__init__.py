"""Write workflows: define them, and call what they may call.

Workflow code is ordinary asyncio code that runs on a deterministic event loop. Everything with an
effect, and everything that may answer differently the next time, goes through an activity.
"""

from __future__ import annotations

from ._activities import ActivityHandle, execute_activity, start_activity
from ._calls import (
    Info,
    LoggerAdapter,
    all_handlers_finished,
    cancellation_reason,
    in_workflow,
    info,
    instance,
    logger,
    now,
    random,
    set_query_handler,
    set_signal_handler,
    sleep,
    time,
    time_ns,
    unsafe,
    uuid4,
    wait_condition,
)
from ._defn import defn, init, query, run, signal
from ._waiting import as_completed, wait

__all__ = [
    "ActivityHandle",
    "Info",
    "LoggerAdapter",
    "all_handlers_finished",
    "as_completed",
    "cancellation_reason",
    "defn",
    "execute_activity",
    "in_workflow",
    "info",
    "init",
    "instance",
    "logger",
    "now",
    "query",
    "random",
    "run",
    "set_query_handler",
    "set_signal_handler",
    "signal",
    "sleep",
    "start_activity",
    "time",
    "time_ns",
    "unsafe",
    "uuid4",
    "wait",
    "wait_condition",
]
