"""One run, as a client refers to it: looked up, described, read, and sent events."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from durable_core import exceptions as ex
from durable_core import history
from durable_core.stores import InboxRow, Outcome
from durable_core.worker._owned import LostRunError

from ._execution import execution_of
from ._history import WorkflowHistory

if TYPE_CHECKING:
    from durable_core.stores import RunRow
    from durable_core.worker._replies import Watch
    from durable_core.workflow._defn import Definition

    from ._client import Client
    from ._execution import WorkflowExecution

    Sent = (
        history.SignalReceived
        | history.UpdateReceived
        | history.CancelRequested
        | history.RetryAsked
    )

__all__ = ["RunReference"]


class RunReference:
    """One run, or, without ``run_id``, whichever run of the workflow id is open or newest."""

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

    async def send(self, event: Sent, what: str) -> tuple[str, Watch | None]:
        """Hand an event to the run, or to its inbox.

        Return the run's id, and what tells of an update if the run is loaded in this process.
        """
        run_id = self._run_id
        while True:
            owned = self._client.owned(self._id, run_id)
            if owned is not None:
                with contextlib.suppress(LostRunError):
                    await owned.caught_up()
                    # Before it can be answered.
                    updates = isinstance(event, history.UpdateReceived)
                    watch = owned.replies.watch(event.request) if updates else None
                    await owned.receive(event)
                    return owned.row.run_id, watch

            row = await self._row()
            if row.status != "running":
                raise await self._ended(what)

            if run_id is not None:
                run_id = row.run_id

            packer = history.Packer(row.lineage)
            inbox = InboxRow(
                request=event.request, arrived=self._client.clock.now(), data=packer.pack(event)
            )
            sent = self._client.store.send(
                row.run_id, inbox, lineage=row.lineage, items=packer.items
            )
            if await sent is Outcome.ACCEPTED:
                # It may have been loaded meanwhile, and its inbox read before.
                if (owned := self._client.owned(self._id, row.run_id)) is not None:
                    owned.inbox.sent += 1

                return row.run_id, None

    async def _ended(self, what: str) -> ex.WorkflowNotFoundError:
        row = await self._row()
        return ex.WorkflowNotFoundError(
            f"run {row.workflow_id!r} has ended ({row.status}): {what}. See: durable show "
            f"{row.workflow_id}"
        )

    async def describe(self) -> WorkflowExecution:
        """Return what is known of the run.

        Raises:
            WorkflowNotFoundError: There is no such run.
        """
        row, store = await self._client.run_row(self._id, self._run_id), self._client.store
        return execution_of(store, row, await store.visibility.profile(row.run_id))

    async def fetch_history(self) -> WorkflowHistory:
        """Return everything recorded of the run.

        Raises:
            WorkflowNotFoundError: There is no such run.
            StoreCorruptError: A part of the record is missing or damaged.
        """
        return await self._recorded(await self._client.run_row(self._id, self._run_id))

    async def _recorded(self, row: RunRow) -> WorkflowHistory:
        loaded = await self._client.store.load(row)
        items = history.intact(loaded.items.items(), row.lineage)
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
        """Return the row of the run, or of the newest that takes its place."""
        return await self._client.current_row(self._id, self._run_id)
