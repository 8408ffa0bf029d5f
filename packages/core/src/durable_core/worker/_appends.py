"""What one ownership of a run writes: every kind of append, in one place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from durable_core import _defaults, history
from durable_core import exceptions as ex
from durable_core._planted import planted
from durable_core.history import (
    AskPeople,
    CancelActivity,
    CancelTimer,
    ContinueRun,
    RemindPeople,
    ScheduleActivity,
    StartTimer,
    WithdrawRequest,
)
from durable_core.stores import Append, Outcome, PendingRow, Reuse, RunRow, profile_of_start

from . import _takeover
from ._arrived import Arrived, LostRunError, unread
from ._children import children_of, heard_of_end, successor_of
from ._posts import posts_of
from ._profiles import profile_of
from ._replies import replies_of

if TYPE_CHECKING:
    from durable_core.engine import Pending, Run
    from durable_core.history import Activation, Failure, PendingActivity, Start

    from ._outbox import Outbox

__all__ = [
    "Appends",
    "Creation",
    "creation_of",
    "failure_of",
    "is_of_code",
    "log_stall",
    "stall_unloaded",
]

_log = logging.getLogger("durable_core.worker")

States = Iterable[tuple["Pending", "PendingActivity"]]


class Creation(msgspec.Struct, frozen=True):
    """What the first append of a new run writes beside its activation."""

    start: tuple[RunRow, bytes]
    items: Mapping[str, bytes]
    reuse: Reuse


class Appends:
    """The appends of one ownership.

    Args:
        row: The run's row as it was before.
        fence: Of the ownership.
        owner: Number of the worker.
        start: The run's start record.
        outbox: What is written to streams, which goes along.
    """

    def __init__(self, row: RunRow, fence: int, owner: int, start: Start, outbox: Outbox) -> None:
        self._row = row
        self._start = start
        self._outbox = outbox
        self._base = Append(
            run_id=row.run_id,
            expected_fence=fence,
            fence=fence,
            owner=owner,
            lineage=row.lineage,
        )

    def claim(
        self, pending: Sequence[PendingRow], *, reopen: bool, revives: Sequence[str] = ()
    ) -> Append:
        """Become the owner of a run that exists."""
        claim = replace(
            self._base,
            expected_fence=self._row.fence,
            claim=True,
            reopen=reopen,
            pending=pending,
            revives=revives,
        )
        return self._with_chunks(claim)

    def activation(
        self,
        run: Run,
        activation: Activation | None,
        taken: Sequence[Arrived],
        create: Creation | None,
        sooner: States = (),
    ) -> Append:
        """Write an activation and what hangs on it; None if nothing came of what arrived."""
        created = {} if create is None else create.items
        packer = history.Packer(self._row.lineage, {**created, **run.new_items})
        rejected = run.updates.rejected
        rows = [a.row for a in taken if a.row is not None]
        if activation is None:
            replies = replies_of(None, rejected, packer)
            return replace(self._base, items=packer.items, taken=rows, replies=replies)

        data = packer.pack(activation)
        replies = replies_of(activation, rejected, packer)
        resolved = [s for e in activation.events if (s := getattr(e, "seq", None)) is not None]
        resolved += [
            c.seq for c in activation.commands if isinstance(c, (CancelActivity, CancelTimer))
        ]
        withdrawn = [c.seq for c in activation.commands if isinstance(c, WithdrawRequest)]
        if isinstance(run.closed, ContinueRun):
            # What the run that takes its place does not wait for.
            withdrawn += run.requests.waiting

        resolved += withdrawn
        pending: list[PendingRow] = []
        if run.closed is not None:
            resolved += [*run.pending, *run.timers, *run.requests.waiting]
        else:
            pending = [
                row for c in activation.commands if (row := _side_row(run, c, packer)) is not None
            ]
            # Else an attempt that was asked for would be hours away again after a crash.
            pending += [_takeover.activity_row(p, s) for p, s in sooner if p.seq in run.pending]

        base = self._creating(create)
        append = replace(
            base,
            profile=profile_of(run, activation) or base.profile,
            number=activation.number,
            time=activation.time,
            data=data,
            status=run.status,
            items=packer.items,
            pending=pending,
            resolved=resolved,
            withdrawn=withdrawn,
            taken=rows,
            children=children_of(run.start, activation),
            successor=successor_of(run, self._row, activation),
            posts=[*posts_of(run.start, activation), *heard_of_end(run.start, activation)],
            replies=replies,
        )
        # Last of all: what was written by an activation that cannot be committed is not there.
        self._outbox.put(run.streams.parts, activation.number)
        return self._with_chunks(append)

    def remember(self, pending: Pending, state: PendingActivity) -> Append:
        """Write what is known of an activity, in between."""
        return replace(self._base, pending=[_takeover.activity_row(pending, state)])

    def chunks(self) -> Append:
        """Write what is there for streams, in between."""
        return self._with_chunks(self._base)

    def _with_chunks(self, append: Append) -> Append:
        if append.number is not None and planted("chunk.behind"):
            return append

        chunks, states = self._outbox.take()
        if not chunks:
            return append

        # Of a run that ends nobody waits for anything.
        begun = [_takeover.activity_row(p, s) for p, s in states if append.status == "running"]
        return replace(append, chunks=chunks, pending=[*append.pending, *begun])

    def release(
        self, due: float | None, *, left: Sequence[Arrived] = (), cut: States = (), now: float = 0.0
    ) -> Append:
        """Let the run go.

        Args:
            due: When somebody has to take it; None for when something comes.
            left: What arrived and was in no activation yet.
            cut: What is known of activities whose bodies are ended.
            now: Seconds since the epoch.
        """
        packer = history.Packer(self._row.lineage)
        rows = [_takeover.activity_row(pending, state) for pending, state in cut]
        inbox = unread(left, packer, now)
        release = replace(
            self._base,
            release=True,
            wake=_defaults.NEVER if due is None else due,
            pending=rows,
            items=packer.items,
            inbox=inbox,
        )
        return self._with_chunks(release)

    def stall(
        self,
        stall: str,
        *,
        left: Sequence[Arrived],
        cut: States,
        now: float,
        create: Creation | None,
    ) -> Append:
        """Let the run go because its code cannot go on; nothing that it received is lost."""
        packer = history.Packer(self._row.lineage, {} if create is None else dict(create.items))
        inbox = unread(left, packer, now)
        stalled = replace(
            self._creating(create),
            release=True,
            wake=_defaults.NEVER,
            items=packer.items,
            inbox=inbox,
            pending=[_takeover.activity_row(pending, state) for pending, state in cut],
            stall=stall,
        )
        return self._with_chunks(stalled)

    def late(self, before: Append, left: Sequence[Arrived], now: float) -> Append | None:
        """Add to a stalled run what arrived while its stall was being written, if anything did."""
        packer = history.Packer(self._row.lineage)
        inbox = unread(left, packer, now)
        if not inbox:
            return None

        return replace(
            self._base,
            expected_fence=before.fence,
            fence=before.fence + 1,
            claim=True,
            release=True,
            wake=before.wake,
            items=packer.items,
            inbox=inbox,
            stall=before.stall,
        )

    def _creating(self, create: Creation | None) -> Append:
        if create is None:
            return self._base

        return replace(
            self._base,
            expected_fence=self._row.fence,
            claim=True,
            start=create.start,
            reuse=create.reuse,
            profile=profile_of_start(self._start),
        )


def creation_of(append: Append) -> Creation | None:
    """Return what an append was to create beside its activation, if it was."""
    return None if append.start is None else Creation(append.start, append.items, append.reuse)


def is_of_code(error: ex.SearchAttributeError, run: Run, append: Append) -> bool:
    """Return whether a run's code made what a store refuses, and not whoever started the run.

    The activation that holds it does not count.
    """
    began_with = {each.name for each in run.start.attributes}
    if append.start is not None and error.name in began_with:
        return False

    run.next_number -= 1
    return True


def stall_unloaded(row: RunRow, owner: int, stall: str) -> Append:
    """Record why a run that is not loaded cannot go on."""
    return Append(
        run_id=row.run_id,
        expected_fence=row.fence,
        fence=row.fence + 1,
        owner=owner,
        claim=True,
        release=True,
        wake=_defaults.NEVER,
        stall=stall,
    )


def _side_row(run: Run, command: history.Command, packer: history.Packer) -> PendingRow | None:
    if isinstance(command, ScheduleActivity) and command.seq in run.pending:
        return PendingRow(seq=command.seq, kind="activity", name=command.name, key=command.key)

    if isinstance(command, StartTimer):
        return PendingRow(seq=command.seq, kind="timer", due=command.due)

    if isinstance(command, (AskPeople, RemindPeople)):
        asked = run.requests.waiting.get(command.seq)
        return None if asked is None else _takeover.request_row(asked, packer)

    return None


def log_stall(row: RunRow, failure: Failure, bug: BaseException | None) -> None:
    """Say that a run cannot go on, with the traceback if ``bug`` is given."""
    _log.error(
        "run %r stalled: %s: %s. Its history is kept; fixed code continues it. See: durable "
        "show %s",
        *(row.workflow_id, failure.type, failure.message, row.workflow_id),
        exc_info=bug,
    )


def failure_of(row: RunRow, done: asyncio.Future[Outcome]) -> BaseException | None:
    """Return why a write for a run did not happen; None if it did."""
    if done.cancelled():
        return ex.StoreClosedError("the event loop ended")

    error = done.exception()
    if error is not None:
        return error

    match done.result():
        case Outcome.ACCEPTED:
            return None
        case Outcome.ID_IN_USE:
            return ex.WorkflowAlreadyStartedError(
                f"the workflow id {row.workflow_id!r} is in use: use its handle, or another id. "
                f"See: durable show {row.workflow_id}",
                workflow_id=row.workflow_id,
            )
        case Outcome.REFUSED:
            _log.info(
                "run %r: what it was to record here was refused, for this worker does not own it "
                "any more",
                row.workflow_id,
            )
            return LostRunError(row.run_id)
