"""Define activities, and ask inside one about the attempt that is running."""

from __future__ import annotations

from ._context import (
    Info,
    LoggerAdapter,
    heartbeat,
    in_activity,
    info,
    is_cancelled,
    logger,
    resource,
    stream,
    to_thread,
    wait_for_cancelled,
    wait_for_cancelled_sync,
)
from ._defn import defn

__all__ = [
    "Info",
    "LoggerAdapter",
    "defn",
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
