"""A run's history as people read it: one line per thing that happened."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from durable_core import history as h
from durable_core.payloads import _json

if TYPE_CHECKING:
    from ._history import WorkflowHistory

__all__ = ["TimelineEntry", "timeline_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One activity, timer, signal, update, or turn of fortune of a run.

    Attributes:
        kind: What it is.
        seq: Number of its command; 0 for what is no command.
        name, key, summary: Of an activity or a request; the name also of a signal, an update or a
            note, the key also the id of an update, of a child, or of the run that was ``told``
            something.
        status: ``completed``, ``failed``, ``cancelled``, ``fired``, ``pending``, ``retrying``,
            ``set aside``, …
        time: When it was asked for, or happened; seconds since the epoch.
        ended: When its outcome was known, if it is.
        due: When a timer fires, or before when no further attempt of an activity starts.
        attempts: Of an activity, in order.
        args, text, result: Decoded as JSON's own types; absent is None. Lists inside ``text`` that
            are stored item by item are references.
        failure: Why it failed.
        detail: Anything else worth a word.
    """

    kind: Literal[
        "started",
        "activity",
        "timer",
        "child",
        "signal",
        "update",
        "cancel",
        "told",
        "retry",
        "request",
        "reminder",
        "paused",
        "taken",
        "rewound",
        "note",
        "stalled",
        "closed",
        "attributes",
        "memo",
    ]
    status: str
    time: float
    seq: int = 0
    name: str = ""
    key: str = ""
    summary: str = ""
    ended: float | None = None
    due: float | None = None
    attempts: Sequence[h.Attempt] = ()
    args: Any = None
    text: Any = None
    result: Any = None
    failure: h.Failure | None = None
    detail: str = ""


def timeline_of(history: WorkflowHistory) -> list[TimelineEntry]:
    """Return what happened in a run, in the order in which it was asked for."""
    entries: dict[int, TimelineEntry] = {}
    others: list[tuple[float, TimelineEntry]] = []
    start = history.start
    others.append(
        (
            start.time,
            TimelineEntry(
                kind="started",
                status="started",
                time=start.time,
                name=start.workflow_type,
                args=_value(start.args),
                detail=f"{start.python} by {start.client}",
            ),
        )
    )
    asked_in: dict[int, int] = {}
    settled_in: dict[int, int] = {}
    for activation in history.activations:
        for event in activation.events:
            if isinstance(event, h.Rewound):
                _set_aside(entries, event, asked_in, settled_in, activation.time)

            if (turn := _turn(event)) is not None:
                others.append((turn.time, turn))
            else:
                seq = getattr(event, "seq", 0)
                settled_in[seq] = activation.number
                _settle(entries, event, activation.time)

        for command in activation.commands:
            seq = getattr(command, "seq", 0)
            if isinstance(command, h.CancelActivity | h.CancelTimer | h.WithdrawRequest):
                settled_in[seq] = activation.number
            elif not isinstance(command, h.RemindPeople):
                asked_in[seq] = activation.number

            _open(history, entries, others, command, activation.time)

        others += [(activation.time, _note(n, activation.time)) for n in activation.notes]
        if any(isinstance(c, _ENDS) for c in activation.commands):
            for seq in _drop_unsettled(entries, activation.time):
                settled_in[seq] = activation.number

    for event in history.waiting:
        if (turn := _turn(event, waiting=True)) is not None:
            others.append((turn.time, turn))
        else:
            _settle(entries, event, None)

    if history.stall is not None:
        time = float(history.stall.get("time", start.time))
        entry = TimelineEntry(
            kind="stalled", status="stalled", time=time, detail=str(history.stall.get("cause", ""))
        )
        others.append((time, entry))

    merged = [(e.time, 1, seq, e) for seq, e in entries.items()]
    merged += [
        (t, 0 if e.kind == "started" else 2 if e.kind == "closed" else 1, 0, e) for t, e in others
    ]
    return [e for *_, e in sorted(merged, key=lambda m: m[:3])]


def _open(
    history: WorkflowHistory,
    entries: dict[int, TimelineEntry],
    others: list[tuple[float, TimelineEntry]],
    command: h.Command,
    time: float,
) -> None:
    match command:
        case h.ScheduleActivity():
            known = history.pending.get(command.seq)
            entries[command.seq] = TimelineEntry(
                kind="activity",
                status="retrying" if known is not None and known.attempts else "pending",
                time=time,
                seq=command.seq,
                name=command.name,
                key=command.key,
                summary=command.summary,
                args=_value(command.args),
                text=_value(command.text),
                due=known.retry_at or None if known is not None else None,
                attempts=known.attempts if known is not None else (),
            )
        case h.StartTimer():
            entries[command.seq] = TimelineEntry(
                kind="timer",
                status="pending",
                time=time,
                seq=command.seq,
                due=command.due,
                detail=f"{command.delay:g} s",
            )
        case h.TellRun():
            entries[command.seq] = TimelineEntry(
                kind="told",
                status="sent",
                time=time,
                seq=command.seq,
                name=command.signal or "cancel",
                key=command.workflow_id,
                args=_value(command.args) if command.signal else None,
                detail=command.reason,
            )
        case h.StartChild():
            entries[command.seq] = TimelineEntry(
                kind="child",
                status="pending",
                time=time,
                seq=command.seq,
                name=command.workflow_type,
                key=command.workflow_id,
                args=_value(command.args),
                detail="" if command.policy == "terminate" else command.policy,
            )
        case h.AskPeople():
            entries[command.seq] = TimelineEntry(
                kind="request",
                status="pending",
                time=time,
                seq=command.seq,
                name=command.kind,
                key=command.key,
                summary=command.summary,
                args=_value(command.args),
                due=command.due,
            )
        case h.RemindPeople():
            asked = entries.get(command.seq)
            name = "" if asked is None else asked.name
            detail = f"reminder {command.number}: nobody has answered"
            reminder = TimelineEntry(
                kind="reminder", status="noted", time=time, name=name, detail=detail
            )
            others.append((time, reminder))
        case h.WithdrawRequest():
            if command.seq in entries:
                status = "timed out" if command.timed_out else "withdrawn"
                entries[command.seq] = _replace(entries[command.seq], status=status, ended=time)
        case h.CancelActivity() | h.CancelTimer():
            if command.seq in entries:
                # Unless the code waits for what the body makes of it.
                waits = isinstance(command, h.CancelActivity) and command.wait
                status, ended = ("cancelling", None) if waits else ("cancelled", time)
                entries[command.seq] = _replace(entries[command.seq], status=status, ended=ended)
        case h.AnswerUpdate():
            _answer(others, command, time)
        case h.UpsertAttributes():
            others.append((time, _changed("attributes", _attributes(command), time)))
        case h.UpsertMemo():
            (changes,) = _value(command.changes)
            others.append((time, _changed("memo", changes, time)))
        case h.CompleteRun():
            done = TimelineEntry(
                kind="closed", status="completed", time=time, result=_value(command.result)
            )
            others.append((time, done))
        case h.ContinueRun():
            entry = TimelineEntry(
                kind="closed",
                status="continued as new",
                time=time,
                name=command.workflow_type,
                key=command.run_id,
                args=_value(command.args),
                detail=f"by run {command.run_id}",
            )
            others.append((time, entry))
        case h.TerminateRun():
            entry = TimelineEntry(
                kind="closed",
                status="terminated",
                time=time,
                failure=command.failure,
                detail=f"by {command.client}" if command.client else "",
            )
            others.append((time, entry))
        case h.FailRun():
            status = "canceled" if command.cancelled else "failed"
            others.append(
                (
                    time,
                    TimelineEntry(kind="closed", status=status, time=time, failure=command.failure),
                )
            )


def _changed(kind: Literal["attributes", "memo"], values: Any, time: float) -> TimelineEntry:
    return TimelineEntry(kind=kind, status="changed", time=time, result=values)


def _attributes(command: h.UpsertAttributes) -> dict[str, Any]:
    return {
        each.name: list(each.value) if isinstance(each.value, tuple) else each.value
        for each in command.updates
    }


def _answer(others: list[tuple[float, TimelineEntry]], answer: h.AnswerUpdate, time: float) -> None:
    for n, (received, entry) in reversed(list(enumerate(others))):
        if entry.kind == "update" and entry.key == answer.request:
            answered = dataclasses.replace(
                entry,
                status="completed" if answer.failure is None else "failed",
                ended=time,
                result=_value(answer.result),
                failure=answer.failure,
            )
            others[n] = received, answered
            return


_ENDS = (h.CompleteRun, h.FailRun, h.TerminateRun)


def _turn(event: h.Event, *, waiting: bool = False) -> TimelineEntry | None:
    """Return the entry of an event that is no outcome of a command."""
    match event:
        case h.Taken():
            detail = f"by {event.worker}, {event.python}"
            return TimelineEntry(kind="taken", status="continued", time=event.time, detail=detail)
        case h.SignalReceived():
            return TimelineEntry(
                kind="signal",
                status="waiting" if waiting else "received",
                time=event.time,
                name=event.name,
                args=_value(event.args),
                detail=f"from {event.client}" if event.client else "",
            )
        case h.UpdateReceived():
            return TimelineEntry(
                kind="update",
                status="waiting" if waiting else "accepted",
                time=event.time,
                name=event.name,
                key=event.request,
                args=_value(event.args),
                detail=f"from {event.client}" if event.client else "",
            )
        case h.CancelRequested():
            asked = f"by {event.client}" if event.client else "by its caller"
            return TimelineEntry(
                kind="cancel",
                status="waiting" if waiting else "requested",
                time=event.time,
                detail=f"{asked}: {event.reason}" if event.reason else asked,
            )
        case h.RetryAsked():
            return TimelineEntry(
                kind="retry",
                status="waiting" if waiting else "requested",
                time=event.time,
                key=str(event.activity or ""),
                detail=f"by {event.client}",
            )
        case h.WasPaused():
            paused = f"by {event.paused_by}"
            return TimelineEntry(
                kind="paused",
                status="continued",
                time=event.since,
                ended=event.time,
                detail=f"{paused}: {event.reason}" if event.reason else paused,
            )
        case h.Rewound():
            return TimelineEntry(
                kind="rewound",
                status="continued",
                time=event.time,
                detail=f"from step {event.to}" + (f": {event.reason}" if event.reason else ""),
            )
        case _:
            return None


def _note(note: h.Note, time: float) -> TimelineEntry:
    value = _json.decode(note.value, Any, what="a note")
    return TimelineEntry(kind="note", status="noted", time=time, name=note.name, result=value)


def _set_aside(
    entries: dict[int, TimelineEntry],
    event: h.Rewound,
    asked_in: Mapping[int, int],
    settled_in: Mapping[int, int],
    time: float,
) -> None:
    """Take back what the activations did that a run passes over from now on."""
    for seq, entry in entries.items():
        if asked_in.get(seq, 0) >= event.to:
            entries[seq] = _replace(entry, status="set aside", ended=time)
        elif settled_in.get(seq, -1) >= event.to:
            entries[seq] = _replace(entry, status="pending", ended=None, failure=None, result=None)


def _settle(entries: dict[int, TimelineEntry], event: h.Event, time: float | None) -> None:
    seq = getattr(event, "seq", 0)
    if seq not in entries:
        return

    entry = entries[seq]
    match event:
        case h.ActivityCompleted():
            entries[seq] = _replace(
                entry,
                status="completed",
                ended=time,
                attempts=_all(entry, event.attempts),
                result=_value(event.result),
            )
        case h.ActivityFailed():
            entries[seq] = _replace(
                entry,
                status="failed",
                ended=time,
                attempts=_all(entry, event.attempts),
                failure=event.failure,
            )
        case h.ActivityCancelled():
            attempts = _all(entry, event.attempts)
            entries[seq] = _replace(entry, status="cancelled", ended=time, attempts=attempts)
        case h.TimerFired():
            entries[seq] = _replace(entry, status="fired", ended=time)
        case h.ChildStarted():
            status = "failed" if event.refused else "running"
            ended, detail = (time, event.refused) if event.refused else (None, entry.detail)
            entries[seq] = _replace(entry, status=status, ended=ended, detail=detail)
        case h.ChildEnded():
            status = "completed" if event.failure is None else "failed"
            result, failure = _value(event.result), event.failure
            entries[seq] = _replace(
                entry, status=status, ended=time, result=result, failure=failure
            )
        case h.RunTold():
            status = "failed" if event.refused else "delivered"
            detail = event.refused or entry.detail
            entries[seq] = _replace(entry, status=status, ended=time, detail=detail)
        case h.RequestAnswered():
            detail = f"by {event.by}" + (f": {event.note}" if event.note else "")
            entries[seq] = _replace(
                entry, status="answered", ended=time, result=_value(event.value), detail=detail
            )
        case _:
            pass


def _all(entry: TimelineEntry, attempts: Sequence[h.Attempt]) -> list[h.Attempt]:
    """Return the attempts of an outcome, behind those before the run was taken up again."""
    known = {(a.fence, a.number) for a in attempts}
    return [*(a for a in entry.attempts if (a.fence, a.number) not in known), *attempts]


# What becomes of a child whose parent has ended, by its policy.
_LEFT = {"abandon": "abandoned", "request_cancel": "asked to end"}


def _drop_unsettled(entries: dict[int, TimelineEntry], time: float) -> list[int]:
    """Mark as cancelled what had no outcome when the run ended; return which that is."""
    left = [s for s, e in entries.items() if e.status in {"pending", "retrying", "cancelling"}]
    for seq in left:
        entries[seq] = _replace(entries[seq], status="cancelled", ended=time)

    for seq, entry in entries.items():
        if entry.kind == "child" and entry.status == "running":
            entries[seq] = _replace(entry, status=_LEFT.get(entry.detail, "terminated"), ended=time)
            left.append(seq)

    return left


def _replace(entry: TimelineEntry, **changes: Any) -> TimelineEntry:
    return dataclasses.replace(entry, **changes)


def _value(payload: h.Payload | None) -> Any:
    return None if payload is None else _json.decode(payload.data, Any, what="a recorded value")
