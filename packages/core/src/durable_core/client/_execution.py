"""A run as a list shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from durable_core import _clock, history
from durable_core._arguments import UNSET
from durable_core._search_attributes import untyped
from durable_core.engine._profile import memo_parts, removes, typed
from durable_core.payloads import _json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from durable_core.common import TypedSearchAttributes
    from durable_core.stores import RunRow, Store

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
        typed_search_attributes: Its search attributes.
        current_details: What its code says of it, for people.
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
    typed_search_attributes: TypedSearchAttributes
    current_details: str
    _profile: history.Profile = field(repr=False)
    _store: Store = field(repr=False, compare=False)

    @property
    def search_attributes(self) -> Mapping[str, Sequence[Any]]:
        """Values of its search attributes by name, each as a list: temporalio's older form."""
        return untyped(self.typed_search_attributes)

    async def static_summary(self) -> str | None:
        """Return what was said of it at its start, on one line."""
        return self._profile.summary or None

    async def static_details(self) -> str | None:
        """Return what else was said of it at its start."""
        return self._profile.details or None

    async def memo(self) -> Mapping[str, Any]:
        """Return its memo, the values as JSON has them; `memo_value` knows types.

        Raises:
            StoreCorruptError: The run was purged meanwhile, or its record is damaged.
        """
        parts = await self._memo()
        return {key: _json.decode_untyped(data, what="a memo") for key, data in parts.items()}

    async def memo_value(self, key: str, default: Any = UNSET, *, type_hint: Any = None) -> Any:
        """Return one value of its memo.

        Args:
            key: Of the value.
            default: Returned if there is none.
            type_hint: What it is decoded to; JSON's own types without one.

        Raises:
            KeyError: There is none, and no default.
            DecodeError: It does not fit the type.
            StoreCorruptError: The run was purged meanwhile, or its record is damaged.
        """
        parts = await self._memo()
        if key not in parts and default is not UNSET:
            return default

        what = f"{key!r} of the memo of run {self.id!r}"
        if type_hint is None:
            return _json.decode_untyped(parts[key], what=what)

        return _json.decode(parts[key], type_hint, what=what)

    async def _memo(self) -> dict[str, bytes]:
        start = history.start_from(await self._store.read_start(self.run_id))
        items = await self._store.read_items(start.lineage, history.references(start))
        start = history.resolve(start, history.intact(items.items(), start.lineage))
        parts = {} if start.memo is None else memo_parts(start.memo.data)
        for key, part in self._profile.memo.items():
            if removes(part):
                parts.pop(key, None)
            else:
                parts[key] = part

        return parts


def execution_of(store: Store, row: RunRow, profile: bytes) -> WorkflowExecution:
    """Return what a row, and what it shows, say of a run.

    Args:
        store: Where it lives.
        row: Of the run.
        profile: Bytes of the `Profile`; empty if it shows nothing.
    """
    shown = history.profile_from(profile) if profile else history.Profile()
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
        typed_search_attributes=typed(shown.attributes),
        current_details=shown.current_details,
        _profile=shown,
        _store=store,
    )
