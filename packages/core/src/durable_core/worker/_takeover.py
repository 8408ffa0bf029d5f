"""What the next owner of a run finds: work under way, attempts that were lost, an inbox."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable_core import exceptions as ex
from durable_core import history
from durable_core.history import (
    Attempt,
    Event,
    PendingActivity,
    PendingRequest,
    Rewound,
    UpdateReceived,
)
from durable_core.stores import PendingRow, _stalls

from ._bodies import backoff_of_lost

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from durable_core.engine import Pending, RequestFuture, Run
    from durable_core.stores import Loaded, RunRow

    from ._rewind import Rewind

__all__ = [
    "activity_row",
    "check_crash_loop",
    "inbox_of",
    "request_row",
    "resumed",
    "rewound",
    "rows_of",
    "warn_of_waits",
]

_log = logging.getLogger("durable_core.worker")


def inbox_of(loaded: Loaded) -> list[tuple[int, Event]]:
    """Return the events that no activation has taken, with their numbers."""
    items = dict(loaded.items)
    return [(n, history.resolve(history.event_from(data), items)) for n, data in loaded.inbox]


def resumed(
    run: Run, loaded: Loaded, settled: Collection[int], now: float, *, lost: bool
) -> dict[int, PendingActivity]:
    """Return what is known of each activity without an outcome.

    Args:
        run: Rebuilt from the record.
        loaded: The record.
        settled: Numbers of activities whose outcome is in the inbox.
        now: Seconds since the epoch.
        lost: Whether an attempt may have been under way, which died with its worker then.
    """
    rows = [p for p in loaded.pending if p.kind == "activity" and p.data]
    known = {p.seq: history.pending_from(p.data) for p in rows}
    found: dict[int, PendingActivity] = {}
    for seq, pending in run.pending.items():
        if seq in settled:
            continue

        state = known.get(seq, PendingActivity(seq=seq))
        # One that may begin at most once says that it began, before it does.
        begun = pending.unit.options.delivery == "at_least_once" or state.began is not None
        if lost and begun and state.retry_at <= now and loaded.row.next_number:
            number = len(state.attempts) + 1
            died = Attempt(number=number, outcome="lost", ended=now, fence=loaded.row.fence)
            attempts = (*state.attempts, died)
            retry_at = now + backoff_of_lost(pending.unit.options, attempts)
            state = replace(state, attempts=attempts, retry_at=retry_at)

        found[seq] = state

    return found


def warn_of_waits(
    workflow_id: str, run: Run, states: Mapping[int, PendingActivity], now: float
) -> None:
    """Say for what a run waits whose attempts were lost in a row: it looks as if it hung."""
    for seq, state in states.items():
        if state.retry_at > now and state.attempts and state.attempts[-1].outcome == "lost":
            _log.warning(
                "run %r: %s was under way %d times when its process ended, and is tried again in "
                "%.3g s. See: durable show %s",
                workflow_id,
                run.pending[seq].unit.name,
                sum(attempt.outcome == "lost" for attempt in state.attempts),
                state.retry_at - now,
                workflow_id,
            )


def rewound(
    run: Run, loaded: Loaded, rewind: Rewind, *, client: str, time: float
) -> tuple[Rewound, list[Event]]:
    """Return the events with which a run that had ended goes on."""
    activations = [history.activation_from(data) for data in loaded.activations]
    used = [getattr(c, "seq", 0) for a in activations for c in a.commands]
    first = Rewound(to=rewind.to, next_seq=max(used, default=0) + 1, client=client, time=time)
    kept = rewind.still_wanted(run)
    run.updates.accepted.update(e.request for e in kept if isinstance(e, UpdateReceived))
    return first, kept


def rows_of(
    run: Run, states: Mapping[int, PendingActivity], settled: Collection[int] | None
) -> list[PendingRow]:
    """Return the side rows of the work that a run has under way.

    Args:
        run: Rebuilt from the record.
        states: What is known of each activity without an outcome.
        settled: Numbers of what has an outcome that is delivered again, of a run that had ended
            and so lost all its rows; None for any other run.
    """
    rows = [activity_row(run.pending[seq], state) for seq, state in states.items()]
    if settled is not None:
        rows += [
            PendingRow(seq=seq, kind="timer", due=handle.when())
            for seq, handle in run.timers.items()
        ]
        packer = history.Packer(run.start.lineage)
        # Nobody may answer again what was answered.
        rows += [
            request_row(asked, packer)
            for seq, asked in run.requests.waiting.items()
            if seq not in settled
        ]

    return rows


def activity_row(pending: Pending, state: PendingActivity) -> PendingRow:
    """Return the side row of an activity."""
    unit = pending.unit
    data = history.Packer("").pack(state)
    return PendingRow(state.seq, "activity", unit.name, unit.key, None, data)


def request_row(asked: RequestFuture, packer: history.Packer) -> PendingRow:
    """Return the side row of a request to people."""
    state = PendingRequest(asked.asked, asked.reminders, asked.reminded)
    command = asked.asked
    return PendingRow(
        seq=command.seq,
        kind="request",
        name=command.kind,
        key=command.key,
        due=command.due,
        data=packer.pack(state),
        since=asked.since,
    )


def check_crash_loop(row: RunRow, instance: _stalls.Instance) -> None:
    """Let a run be tried once that looks like a crash loop, if something may have changed.

    Somebody asked for it, or it stalled so before and the worker was started since.

    Raises:
        WorkflowStalledError: Nothing has.
    """
    before = _stalls.read(row.stall)
    if before is not None and (before.instance != instance.id or before.revived):
        return

    raise ex.WorkflowStalledError(
        f"run {row.workflow_id!r} was taken over {row.takeovers} times without getting anywhere: "
        "what it runs next seems to kill its worker. Calling it again tries again, and so does: "
        f"durable resume {row.workflow_id}. See: durable show {row.workflow_id}",
        workflow_id=row.workflow_id,
        run_id=row.run_id,
    )
