"""Define activities, and ask inside one about the attempt that is running."""

from __future__ import annotations

from ._context import Info, LoggerAdapter, in_activity, info, logger, resource, to_thread
from ._defn import defn

__all__ = [
    "Info",
    "LoggerAdapter",
    "defn",
    "in_activity",
    "info",
    "logger",
    "resource",
    "to_thread",
]
