"""A handle on one run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durable_core import _clock, _defaults, history
from durable_core import exceptions as ex
from durable_core.activity import _defn as activity_defn
from durable_core.payloads import _json

from ._history import WorkflowHistory

if TYPE_CHECKING:
    from datetime import datetime

    from durable_core.stores import RunRow
    from durable_core.workflow._defn import Definition

    from ._client import Client

__all__ = ["WorkflowExecution", "WorkflowExecutionStatus", "WorkflowHandle"]

R = TypeVar("R")


class WorkflowExecutionStatus(Enum):
    """What became of a run."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


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
    )


class WorkflowHandle(Generic[R]):
    """One run, or, without ``run_id``, whichever run of the workflow id is open or newest.

    Get one from `Client.start_workflow` or `Client.get_workflow_handle`; it is valid as long as its
    client is.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        *,
        run_id: str | None = None,
        definition: Definition | None = None,
    ) -> None:
        self._client = client
        self._id = id
        self._run_id = run_id
        self._definition = definition

    def __repr__(self) -> str:
        return f"WorkflowHandle(id={self._id!r}, run_id={self._run_id!r})"

    @property
    def id(self) -> str:
        """Id of the run, as its user chose it."""
        return self._id

    @property
    def run_id(self) -> str | None:
        """Unique id of the run, if the handle is for that run alone."""
        return self._run_id

    async def result(self) -> R:
        """Wait for the run to end and return its result.

        A stalled run is waited for: fixed code continues it.

        Raises:
            WorkflowFailureError: It ended without a result; the cause says why.
            WorkflowNotFoundError: There is no such run.
        """
        while True:
            seen = self._client.changes.count
            row = await self._row()
            if row.status != "running":
                return await self._outcome(row)

            # Polled also when the run is of this process: another may take it over at any time.
            await self._client.changes.wait(
                timeout=1.0, interval=_defaults.POLL_WAITING, since=seen
            )

    async def describe(self) -> WorkflowExecution:
        """Return what is known of the run.

        Raises:
            WorkflowNotFoundError: There is no such run.
        """
        return execution_of(await self._row())

    async def fetch_history(self) -> WorkflowHistory:
        """Return everything recorded of the run.

        Raises:
            WorkflowNotFoundError: There is no such run.
            StoreCorruptError: A part of the record is missing or damaged.
        """
        row = await self._row()
        loaded = await self._client.store.load(row)
        items = dict(loaded.items)
        pending = [
            history.pending_from(p.data) for p in loaded.pending if p.kind == "activity" and p.data
        ]
        return WorkflowHistory(
            workflow_id=row.workflow_id,
            run_id=row.run_id,
            start=history.resolve(history.start_from(loaded.start), items),
            activations=[
                history.resolve(history.activation_from(a), items) for a in loaded.activations
            ],
            pending={p.seq: p for p in pending},
            waiting=[history.resolve(history.event_from(data), items) for _, data in loaded.inbox],
            stall=None if loaded.row.stall is None else json.loads(loaded.row.stall),
        )

    async def _row(self) -> RunRow:
        row = await self._client.store.find(self._client.namespace, self._id, self._run_id)
        if row is None:
            which = f" and run id {self._run_id!r}" if self._run_id else ""
            raise ex.WorkflowNotFoundError(
                f"there is no run with the workflow id {self._id!r}{which} in "
                f"{self._client.store.location} (namespace {self._client.namespace!r}). See: "
                "durable list"
            )

        return row

    async def _outcome(self, row: RunRow) -> R:
        recorded = await self.fetch_history()
        last = recorded.activations[-1].commands[-1]
        failures = self._client.failures
        if isinstance(last, history.CompleteRun):
            type_ = (
                Any
                if self._definition is None
                else activity_defn.signature_types(self._definition.run_fn)[1]
            )
            what = f"the recorded result of workflow {row.workflow_type!r}"
            value: R = _json.decode(last.result.data, type_, what=what)
            return value

        if isinstance(last, history.FailRun):
            raise failure_error(row, failures.rebuild(last.failure))

        raise ex.StoreCorruptError(f"run {row.run_id} is {row.status} and its record has no end")


def failure_error(row: RunRow, cause: BaseException) -> ex.WorkflowFailureError:
    """Return what a client raises for a run that ended without a result."""
    error = ex.WorkflowFailureError(
        f"run {row.workflow_id!r} {row.status}: {type(cause).__name__}: {cause}. See: durable show "
        f"{row.workflow_id}"
    )
    error.__cause__ = cause
    return error
