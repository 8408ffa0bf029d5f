"""What a run asks for; see `_records`."""

from __future__ import annotations

from typing import Literal

import msgspec

from ._parts import Attribute, Failure, Payload

__all__ = [
    "AnswerUpdate",
    "AskPeople",
    "CancelActivity",
    "CancelTimer",
    "Command",
    "CompleteRun",
    "ContinueRun",
    "Ending",
    "FailRun",
    "RemindPeople",
    "ScheduleActivity",
    "StartChild",
    "StartTimer",
    "TellRun",
    "TerminateRun",
    "UpsertAttributes",
    "UpsertMemo",
    "WithdrawRequest",
    "describe",
    "status_after",
]


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


class StartChild(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="child"):
    """Start another run, whose end this one hears of.

    Identity: (workflow type, key, occurrence); arguments are compared too.

    Attributes:
        workflow_id, run_id, workflow_type, task_queue: Of the child.
        args: JSON array of its arguments.
        key: The workflow id, if the code chose it.
        policy: What the end of this run does to the child.
        reuse: Whether the child's id may be one that was used before.
    """

    seq: int
    workflow_id: str
    run_id: str
    workflow_type: str
    task_queue: str
    args: Payload
    digest: str
    key: str = ""
    occurrence: int = 1
    policy: Literal["terminate", "abandon", "request_cancel"] = "terminate"
    reuse: Literal["always", "failed", "never"] = "always"


class AskPeople(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="ask"):
    """Put a question to people. Identity: (kind, key, occurrence); the question is compared too.

    Attributes:
        args: JSON array of the question.
        schema: JSON Schema of the answer, by which one is checked before it is taken.
        summary: One line for people.
        due: When it is withdrawn, in seconds since the epoch; None if it never is.
    """

    seq: int
    kind: str
    args: Payload
    digest: str
    schema: bytes
    key: str = ""
    occurrence: int = 1
    summary: str = ""
    due: float | None = None


class RemindPeople(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="remind"):
    """Note that nobody has answered a request yet.

    Attributes:
        number: 1 for the first reminder.
    """

    seq: int
    number: int


class WithdrawRequest(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="unask"):
    """Take no answer to a request any more.

    Attributes:
        timed_out: Whether that is because its time was over.
    """

    seq: int
    timed_out: bool = False


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


class ContinueRun(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="continue"):
    """End the run, and let a new one with its id go on.

    Attributes:
        run_id: Unique id of the new run.
        workflow_type, task_queue: Of the new run.
        args: JSON array of its arguments.
    """

    run_id: str
    workflow_type: str
    task_queue: str
    args: Payload
    digest: str


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


class UpsertAttributes(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="attributes"):
    """Set search attributes, or take them away. Identity: (kind, occurrence).

    Attributes:
        updates: Names, types and values; all are compared.
    """

    updates: tuple[Attribute, ...]
    occurrence: int = 1


class UpsertMemo(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="memo"):
    """Change the memo. Identity: (kind, occurrence); values are compared too.

    Attributes:
        changes: JSON object; null takes a key away.
    """

    changes: Payload
    digest: str
    occurrence: int = 1


Command = (
    ScheduleActivity
    | StartTimer
    | CancelActivity
    | CancelTimer
    | TellRun
    | StartChild
    | AskPeople
    | RemindPeople
    | WithdrawRequest
    | AnswerUpdate
    | CompleteRun
    | ContinueRun
    | FailRun
    | TerminateRun
    | UpsertAttributes
    | UpsertMemo
)

Ending = CompleteRun | ContinueRun | FailRun | TerminateRun
"""The commands that end a run."""


def status_after(ending: Ending | None) -> str:
    """Return the status of a run that ended so, or has not, as its row has it."""
    match ending:
        case None:
            return "running"
        case CompleteRun():
            return "completed"
        case ContinueRun():
            return "continued_as_new"
        case TerminateRun():
            return "terminated"
        case FailRun():
            return "canceled" if ending.cancelled else "failed"


def describe(command: Command) -> str:
    """Return a command for people, such as ``activity 'charge' key 'a' #2``."""
    match command:
        case ScheduleActivity():
            key = f" key {command.key!r}" if command.key else ""
            return f"activity {command.name!r}{key} #{command.occurrence}"
        case StartTimer():
            return f"timer of {command.delay:g} s #{command.occurrence}"
        case CancelActivity():
            return f"cancellation of activity {command.seq}"
        case CancelTimer():
            return f"cancellation of timer {command.seq}"
        case TellRun():
            what = f"signal {command.signal!r} to" if command.signal else "cancellation of"
            return f"{what} run {command.workflow_id!r} #{command.occurrence}"
        case StartChild():
            key = f" id {command.key!r}" if command.key else ""
            return f"child {command.workflow_type!r}{key} #{command.occurrence}"
        case AskPeople():
            key = f" key {command.key!r}" if command.key else ""
            return f"request {command.kind!r}{key} #{command.occurrence}"
        case RemindPeople():
            return f"reminder {command.number} of request {command.seq}"
        case WithdrawRequest():
            return f"withdrawal of request {command.seq}"
        case AnswerUpdate():
            return f"answer of the update {command.request!r}"
        case ContinueRun():
            return f"continuation as new {command.workflow_type!r}"
        case CompleteRun():
            return "completion of the run"
        case FailRun():
            return "failure of the run"
        case TerminateRun():
            return "termination of the run"
        case UpsertAttributes():
            return f"change of {len(command.updates)} search attributes #{command.occurrence}"
        case UpsertMemo():
            return f"change of the memo #{command.occurrence}"
