"""Clients start runs, find them, and wait for them."""

from __future__ import annotations

from ._client import Client
from ._handle import WorkflowExecution, WorkflowExecutionStatus, WorkflowHandle
from ._history import WorkflowHistory
from ._timeline import TimelineEntry

__all__ = [
    "Client",
    "TimelineEntry",
    "WorkflowExecution",
    "WorkflowExecutionStatus",
    "WorkflowHandle",
    "WorkflowHistory",
]
