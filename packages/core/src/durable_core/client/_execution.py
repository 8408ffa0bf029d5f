"""A run as a list shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from durable_core import _clock

if TYPE_CHECKING:
    from datetime import datetime

    from durable_core.stores import RunRow

__all__ = ["WorkflowExecution", "WorkflowExecutionStatus", "execution_of"]


class WorkflowExecutionStatus(Enum):
    """What became of a run."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    TERMINATED = "terminated"
    CONTINUED_AS_NEW = "continued_as_new"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowExecution:
    """A run as a list or `WorkflowHandle.describe` shows it.

    Attributes:
        id: Id of the run, as its user chose it.
        run_id: Unique id of the run.
        workflow_type: Name of the workflow.
        task_queue: Queue that it was started on.
        namespace: Namespace of the run.
        status: What became of it.
        start_time: When it was started.
        close_time: When it ended, if it did.
        history_length: How many activations it has.
        stalled: Why it stalled, if it did; fixed code continues it.
        paused: Why it was paused, if it is; empty if nobody said why.
    """

    id: str
    run_id: str
    workflow_type: str
    task_queue: str
    namespace: str
    status: WorkflowExecutionStatus
    start_time: datetime
    close_time: datetime | None
    history_length: int
    stalled: str | None
    paused: str | None


def execution_of(row: RunRow) -> WorkflowExecution:
    """Return what a row says of its run."""
    return WorkflowExecution(
        id=row.workflow_id,
        run_id=row.run_id,
        workflow_type=row.workflow_type,
        task_queue=row.task_queue,
        namespace=row.namespace,
        status=WorkflowExecutionStatus(row.status),
        start_time=_clock.from_timestamp(row.started),
        close_time=None if row.closed is None else _clock.from_timestamp(row.closed),
        history_length=row.next_number,
        stalled=None if row.stall is None else str(json.loads(row.stall)["cause"]),
        paused=None if row.paused is None else str(json.loads(row.paused)["reason"]),
    )
