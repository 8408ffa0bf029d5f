"""Write workflows: define them, and call what they may call.

Workflow code is ordinary asyncio code that runs on a deterministic event loop. Everything with an
effect, and everything that may answer differently the next time, goes through an activity.
"""

from __future__ import annotations

from ._calls import (
    ActivityHandle,
    Info,
    LoggerAdapter,
    execute_activity,
    in_workflow,
    info,
    logger,
    now,
    random,
    sleep,
    start_activity,
    uuid4,
)
from ._defn import defn, run

__all__ = [
    "ActivityHandle",
    "Info",
    "LoggerAdapter",
    "defn",
    "execute_activity",
    "in_workflow",
    "info",
    "logger",
    "now",
    "random",
    "run",
    "sleep",
    "start_activity",
    "uuid4",
]
