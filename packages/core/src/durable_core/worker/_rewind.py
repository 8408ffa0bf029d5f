"""Taking up a run that has ended without a result.

What led to the end is set aside, not removed: the run goes back to before the failure that ended
it was delivered (or the request to cancel it, or the start of the timer that ran out), else to
before its last activation, and receives again what it had received since. What is recorded is not
done again; the activity that failed is tried anew, and so is the child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durable_core.history import (
    Activation,
    ActivityCompleted,
    ActivityFailed,
    AskPeople,
    CancelRequested,
    ChildEnded,
    ChildStarted,
    CompleteRun,
    Event,
    FailRun,
    RequestAnswered,
    Rewound,
    ScheduleActivity,
    SignalReceived,
    StartChild,
    StartTimer,
    Taken,
    TerminateRun,
    TimerFired,
    UpdateReceived,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_core.engine import Run

__all__ = ["Rewind", "rewind_of"]


class Rewind(msgspec.Struct, frozen=True):
    """How far a run goes back.

    Attributes:
        kept: Activations that still count.
        to: Number of the first one that does not.
        events: What had been received since, without the failures that ended the run.
    """

    kept: Sequence[Activation]
    to: int
    events: Sequence[Event]

    def still_wanted(self, run: Run) -> list[Event]:
        """Return those of the events that the run, rebuilt from what is kept, waits for."""
        waiting = {*run.pending, *run.timers, *run.told_later, *run.requests.waiting}
        return [
            e
            for e in self.events
            if isinstance(e, SignalReceived | UpdateReceived) or getattr(e, "seq", None) in waiting
        ]


def rewind_of(activations: Sequence[Activation]) -> Rewind | None:
    """Return how to take up a run with these activations in force; None if it has not ended."""
    last = activations[-1].commands[-1] if activations and activations[-1].commands else None
    if not isinstance(last, FailRun | TerminateRun | CompleteRun):
        return None

    culprits = set(last.culprits) if isinstance(last, FailRun) else set[int]()
    # What may begin at most once is not tried again: its failure stays.
    culprits -= {
        c.seq for a in activations for c in a.commands if isinstance(c, ScheduleActivity) and c.once
    }
    cancelled = isinstance(last, FailRun) and last.cancelled
    to = min(
        (
            a.number
            for a in activations
            for e in a.events
            if _blamed(e, culprits) or (cancelled and isinstance(e, CancelRequested))
        ),
        default=activations[-1].number,
    )
    if not culprits and not cancelled and isinstance(last, FailRun):
        to = min(to, _timed_since(activations))

    refused = {
        e.seq
        for a in activations
        for e in a.events
        if isinstance(e, ChildStarted) and _blamed(e, culprits)
    }
    # A child that could not be started is asked for again; one that exists is taken up again.
    to = min((a.number for a in activations if _starts(a, refused)), default=to)
    aside = [a for a in activations if a.number >= to]
    return Rewind(
        kept=[a for a in activations if a.number < to],
        to=to,
        events=[
            e
            for a in aside
            for e in a.events
            if _counts(e) and not _blamed(e, culprits) and not (cancelled and _is_child_failure(e))
        ],
    )


def _timed_since(activations: Sequence[Activation]) -> int:
    """Return where the timer was started that ended a run, if nothing was achieved since.

    So that what ran out of time gets its time again.
    """
    last = activations[-1]
    fired = {e.seq for e in last.events if isinstance(e, TimerFired)}
    for started in activations:
        if any(isinstance(c, StartTimer) and c.seq in fired for c in started.commands):
            break
    else:
        return last.number

    later = [a for a in activations if a.number >= started.number]
    calls = (ScheduleActivity, StartChild, AskPeople)
    asked = {c.seq for a in later for c in a.commands if isinstance(c, calls)}
    kinds = (ActivityCompleted, ActivityFailed, ChildEnded, RequestAnswered)
    achieved = any(isinstance(e, kinds) and e.seq in asked for a in later for e in a.events)
    return last.number if achieved else started.number


def _blamed(event: Event, culprits: set[int]) -> bool:
    match event:
        case ActivityFailed() | ChildEnded():
            return event.seq in culprits
        case ChildStarted():
            return event.seq in culprits and bool(event.refused)
        case _:
            return False


def _starts(activation: Activation, children: set[int]) -> bool:
    return any(isinstance(c, StartChild) and c.seq in children for c in activation.commands)


def _is_child_failure(event: Event) -> bool:
    """Return whether an event says that a child failed: of a run that was cancelled, with it."""
    return isinstance(event, ChildEnded) and event.failure is not None


def _counts(event: Event) -> bool:
    """Return whether an event is one that the run must not lose: not who owned or ended it."""
    return not isinstance(event, Taken | Rewound | CancelRequested)
