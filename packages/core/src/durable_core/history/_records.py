"""The events, commands and records of a run's history, as they are stored.

Fields are named in the bytes and omitted when they hold their default, so a field can be added with
a default at any time: old records decode under new code, and new ones say so by their version.

A history is one `Start` and a sequence of `Activation`s. Commands carry a number, ``seq``, that is
unique in the run; events refer to it.

Invariant: records are trees of data and never part of a cycle, so the garbage collector need not
look at them (``gc=False``); going through those of a long history would make replay quadratic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Activation",
    "ActivityCancelled",
    "ActivityCompleted",
    "ActivityFailed",
    "AnswerUpdate",
    "Attempt",
    "CancelActivity",
    "CancelRequested",
    "CancelTimer",
    "Command",
    "CompleteRun",
    "Event",
    "FailRun",
    "Failure",
    "Note",
    "Payload",
    "PendingActivity",
    "RetryAsked",
    "Rewound",
    "RunTold",
    "ScheduleActivity",
    "SignalReceived",
    "Start",
    "StartTimer",
    "Taken",
    "TellRun",
    "TerminateRun",
    "TimerFired",
    "UpdateReceived",
    "WasPaused",
    "effective",
]


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Bytes of a recorded value, here or by reference.

    Attributes:
        data: The bytes, unless ``ref`` is set.
        ref: Content address of the item that holds them.
        size: Number of bytes, of a referenced payload.
        codec: What was done to the JSON, in order of doing; empty for plain JSON.
        key: Id of the key that encrypted it; empty for plain text.
    """

    data: bytes = b""
    ref: str = ""
    size: int = 0
    codec: str = ""
    key: str = ""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An exception as it is recorded.

    Attributes:
        type: Qualified name of its class, or the ``type`` of an `ApplicationError`.
        message: Its text.
        kind: Which of our own exceptions it is; empty for any other class.
        stack: Its traceback, for people.
        state: JSON that rebuilds it, if its class knows how.
        details: JSON array of an `ApplicationError`'s details.
        non_retryable: Whether it said that another attempt is pointless.
        retry_after: Seconds until the next attempt, if it said so.
        cause: The failure below it.
        members: The failures inside it, of an exception group.
        notes: What `add_note` added to it.
    """

    type: str
    message: str = ""
    kind: Literal["", "application", "cancelled", "terminated", "timeout", "activity"] = ""
    stack: str = ""
    state: bytes = b""
    details: bytes = b""
    non_retryable: bool = False
    retry_after: float | None = None
    cause: Failure | None = None
    members: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One try of an activity.

    Attributes:
        number: 1 for the first.
        outcome: How it ended; ``lost`` if its worker died.
        started: Seconds since the epoch; None if it died with its worker before that was recorded.
        ended: Seconds since the epoch; of a lost attempt, when the loss was found.
        worker: Identity of the worker.
        fence: Fence of the ownership under which it ran.
        failure: Why it failed.
    """

    number: int
    outcome: Literal["completed", "failed", "timed_out", "lost", "cancelled"]
    started: float | None = None
    ended: float | None = None
    worker: str = ""
    fence: int = 0
    failure: Failure | None = None


class Start(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How a run began; written once.

    Attributes:
        namespace, workflow_id, run_id, workflow_type, task_queue: As everywhere.
        time: Seconds since the epoch.
        args: JSON array of the arguments.
        args_digest: Tells the same input from another.
        seed: Source of everything random in the run; never its id.
        effect_scope: Source of idempotency keys; inherited by a reset, new for a fork.
        lineage: Scope of shared items and keys: the run's own id, or that of the run it was reset
            or forked from.
        bound: Whether only a caller with the run's objects, or a registered factory, may continue
            it.
        python: Implementation and minor version that ran it first, such as ``cpython-3.11``.
        client: Identity of the process that started it.
        memo: JSON of what was noted at the start, for readers and adapters; never compared.
        key: Id of the key from which content addresses derive; empty without encryption.
        version: Of this record.
    """

    namespace: str
    workflow_id: str
    run_id: str
    workflow_type: str
    task_queue: str
    time: float
    args: Payload
    args_digest: str
    seed: str
    effect_scope: str
    lineage: str
    bound: bool = False
    python: str = ""
    client: str = ""
    memo: Payload | None = None
    key: str = ""
    version: int = 1


class Taken(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="taken"):
    """A worker became the owner of the run."""

    worker: str
    fence: int
    python: str
    time: float


class ActivityCompleted(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="completed"):
    """An activity returned."""

    seq: int
    result: Payload
    attempts: tuple[Attempt, ...] = ()


class ActivityFailed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="failed"):
    """An activity failed for good."""

    seq: int
    failure: Failure
    retry_state: int = 0
    attempts: tuple[Attempt, ...] = ()


class ActivityCancelled(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="cancelled"):
    """An activity ended because its cancellation was asked for."""

    seq: int
    attempts: tuple[Attempt, ...] = ()


class TimerFired(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="fired"):
    """A timer reached its due time."""

    seq: int


class SignalReceived(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="signal"):
    """A signal was accepted.

    Attributes:
        name: Of the signal.
        args: JSON array of the arguments.
        request: Unique id of the sending.
        client: Identity of the sender.
        time: When it was accepted, in seconds since the epoch.
    """

    name: str
    args: Payload
    request: str
    client: str = ""
    time: float = 0.0


class UpdateReceived(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="update"):
    """An update was accepted: nothing refused it.

    Attributes:
        name: Of the update.
        args: JSON array of the arguments.
        request: Id of the update, unique in the run: what has it again is the same update.
        client: Identity of the sender.
        time: When it was sent, in seconds since the epoch.
    """

    name: str
    args: Payload
    request: str
    client: str = ""
    time: float = 0.0


class CancelRequested(
    msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="cancel_requested"
):
    """Somebody asked for the end of the run.

    Attributes:
        request: Unique id of the sending.
        reason: Why, in the words of whoever asked.
        client: Identity of whoever asked; empty for the caller whose own call the run is.
        time: When it was accepted, in seconds since the epoch.
    """

    request: str
    reason: str = ""
    client: str = ""
    time: float = 0.0


class RetryAsked(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="retry_asked"):
    """Somebody does not want to wait for the next attempt of an activity.

    Attributes:
        request: Unique id of the sending.
        activity: Number of its command; 0 for every activity that waits for one.
        client: Identity of whoever asked.
        time: When it was accepted, in seconds since the epoch.
    """

    request: str
    activity: int = 0
    client: str = ""
    time: float = 0.0


class WasPaused(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="paused"):
    """The run stood still for a while, since somebody wanted it to; its code does not learn of it.

    Attributes:
        request: Unique id of the sending.
        since, time: From when until when, in seconds since the epoch.
        reason: Why, in the words of whoever paused it.
        paused_by: Identity of whoever paused it.
        client: Identity of whoever let it go on.
    """

    request: str
    since: float
    time: float
    reason: str = ""
    paused_by: str = ""
    client: str = ""


class RunTold(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="told"):
    """What the run had to tell another one is in that one's inbox, or cannot be.

    Attributes:
        refused: Why it cannot be; empty if it is there.
    """

    seq: int
    refused: str = ""


class Rewound(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="rewound"):
    """The run had ended and goes on: the activations from ``to`` on are set aside.

    They stay in the history for readers; a replay passes over them. The first event of its
    activation, which also holds again what had been received since and still counts.

    Attributes:
        to: Number of the first activation that is set aside.
        next_seq: Where the numbers of commands go on, so that none is used twice.
        reason: Why, for people.
        client: Identity of whoever asked for it.
        time: In seconds since the epoch.
    """

    to: int
    next_seq: int
    reason: str = ""
    client: str = ""
    time: float = 0.0


Event = (
    Taken
    | ActivityCompleted
    | ActivityFailed
    | ActivityCancelled
    | TimerFired
    | SignalReceived
    | UpdateReceived
    | CancelRequested
    | RunTold
    | RetryAsked
    | WasPaused
    | Rewound
)


class ScheduleActivity(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="schedule"):
    """Ask for an activity. Identity: (kind, name, key, occurrence); arguments are compared too.

    Attributes:
        text: JSON that is recorded for readers and may differ on replay.
        timeout, schedule_to_close, schedule_to_start, heartbeat, max_attempts: The options that
            were in force, for readers; times in seconds.
        once: Whether it may begin at most once.
    """

    seq: int
    name: str
    args: Payload
    digest: str
    key: str = ""
    occurrence: int = 1
    text: Payload | None = None
    summary: str = ""
    timeout: float | None = None
    schedule_to_close: float | None = None
    schedule_to_start: float | None = None
    heartbeat: float | None = None
    max_attempts: int = 0
    once: bool = False


class StartTimer(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="timer"):
    """Ask for an event at a time."""

    seq: int
    delay: float
    due: float
    occurrence: int = 1


class CancelActivity(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="cancel"):
    """Withdraw an activity; what it may still bring is dropped unless it was asked to wait.

    Attributes:
        abandon: Whether its body is left alone.
    """

    seq: int
    wait: bool = False
    abandon: bool = False


class CancelTimer(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="untimer"):
    """Withdraw a timer."""

    seq: int


class TellRun(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="tell"):
    """Send a signal to another run, or ask for its end.

    Identity: (run, signal, occurrence); arguments are compared too.

    Attributes:
        workflow_id: Of the other run.
        run_id: Its unique id; empty for the one that is open.
        signal: Name of the signal; empty to ask for the run's end.
        args: JSON array of the signal's arguments.
        reason: Why its end is asked for, in the words of whoever asks.
    """

    seq: int
    workflow_id: str
    run_id: str = ""
    signal: str = ""
    args: Payload = Payload()
    digest: str = ""
    reason: str = ""
    occurrence: int = 1


class AnswerUpdate(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="answer"):
    """Tell the sender of an update what became of it: a result or a failure.

    Attributes:
        request: Id of the update.
    """

    request: str
    result: Payload | None = None
    failure: Failure | None = None


class CompleteRun(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="complete"):
    """End the run with a result."""

    result: Payload


class FailRun(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="fail"):
    """End the run with a failure.

    Attributes:
        cancelled: Whether it ended because its cancellation was asked for.
        culprits: Numbers of the activities whose failures the run's failure came from.
    """

    failure: Failure
    cancelled: bool = False
    culprits: tuple[int, ...] = ()


class TerminateRun(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="terminate"):
    """The run was ended from outside; its code did not learn of it.

    Attributes:
        client: Identity of whoever ended it.
        details: JSON array of what that said beside the reason.
    """

    failure: Failure
    client: str = ""
    details: bytes = b""


Command = (
    ScheduleActivity
    | StartTimer
    | CancelActivity
    | CancelTimer
    | TellRun
    | AnswerUpdate
    | CompleteRun
    | FailRun
    | TerminateRun
)


class Note(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A fact for readers; replay ignores it."""

    name: str
    value: bytes


class Activation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The atomic step of a run: events in, commands out.

    Attributes:
        number: 0 for the first; without gaps.
        time: Seconds since the epoch; never below that of the activation before, nor below the due
            time of a timer it fires.
        fence: Of the ownership that wrote it.
        version: Of this record.
    """

    number: int
    time: float
    fence: int
    events: tuple[Event, ...] = ()
    commands: tuple[Command, ...] = ()
    notes: tuple[Note, ...] = ()
    version: int = 1


class PendingActivity(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An activity without an outcome, as its side row holds it.

    Attributes:
        attempts: Those that ended; a further one may be running.
        retry_at: Before this time no attempt starts.
        began: When the attempt under way began, of an activity that may begin at most once.
        details: JSON array of what the latest heartbeat said.
    """

    seq: int
    attempts: tuple[Attempt, ...] = ()
    retry_at: float = 0.0
    began: float | None = None
    details: bytes = b""


def effective(activations: Iterable[Activation]) -> list[Activation]:
    """Return the activations that a replay runs: without those that were set aside."""
    kept: list[Activation] = []
    for activation in activations:
        first = activation.events[0] if activation.events else None
        if isinstance(first, Rewound):
            while kept and kept[-1].number >= first.to:
                kept.pop()

        kept.append(activation)

    return kept
