"""Clients start runs, find them, and wait for them."""

from __future__ import annotations

from ._client import Client
from ._execution import WorkflowExecution, WorkflowExecutionStatus
from ._handle import WorkflowHandle
from ._history import WorkflowHistory
from ._listing import (
    WorkflowExecutionAsyncIterator,
    WorkflowExecutionCount,
    WorkflowExecutionCountAggregationGroup,
)
from ._requests import HumanRequest
from ._timeline import TimelineEntry
from ._updates import WorkflowUpdateHandle, WorkflowUpdateStage
from ._with_start import WithStartWorkflowOperation

__all__ = [
    "Client",
    "HumanRequest",
    "TimelineEntry",
    "WithStartWorkflowOperation",
    "WorkflowExecution",
    "WorkflowExecutionAsyncIterator",
    "WorkflowExecutionCount",
    "WorkflowExecutionCountAggregationGroup",
    "WorkflowExecutionStatus",
    "WorkflowHandle",
    "WorkflowHistory",
    "WorkflowUpdateHandle",
    "WorkflowUpdateStage",
]
