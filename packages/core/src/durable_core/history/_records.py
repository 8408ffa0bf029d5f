"""The events, commands and records of a run's history, as they are stored.

Fields are named in the bytes and omitted when they hold their default, so a field can be added with
a default at any time: old records decode under new code, and new ones say so by their version.

A history is one `Start` and a sequence of `Activation`s. Commands carry a number, ``seq``, that is
unique in the run; events refer to it.

Invariant: records are trees of data and never part of a cycle, so the garbage collector need not
look at them (``gc=False``); going through those of a long history would make replay quadratic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ._commands import AskPeople, Command
from ._events import Event, Rewound
from ._parts import Attempt, Attribute, Payload

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Activation",
    "Note",
    "Parent",
    "PendingActivity",
    "PendingRequest",
    "Profile",
    "Start",
    "effective",
]


class Parent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The run that started a child.

    Attributes:
        workflow_id, run_id: Of the parent.
        seq: Number of the parent's command.
        depth: How many parents it has in turn.
    """

    workflow_id: str
    run_id: str
    seq: int
    depth: int = 0


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
        parent: The run whose child it is; None for any other.
        continues: Unique id of the run that it continues; empty for any other.
        memo_changes: What the runs before it in its chain changed in the memo: JSON, by key.
        first_type: Workflow of the first run of its chain, if it continues one.
        first_digest: ``args_digest`` of that run.
        version: Of this record.
        attributes: Search attributes that it began with.
        summary, details: What was said of it at the start, for people.
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
    parent: Parent | None = None
    continues: str = ""
    memo_changes: dict[str, bytes] = {}
    first_type: str = ""
    first_digest: str = ""
    version: int = 1
    attributes: tuple[Attribute, ...] = ()
    summary: str = ""
    details: str = ""


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


class Profile(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a run shows of itself now, as its side row holds it; the history says the same.

    Attributes:
        attributes: Its search attributes, by name.
        memo: What the run changed in the memo that it began with: JSON by key; null takes the key
            away.
        summary, details: What was said of it at the start, for people.
        current_details: What the run says of itself, for people.
    """

    attributes: tuple[Attribute, ...] = ()
    memo: dict[str, bytes] = msgspec.field(default_factory=dict[str, bytes])
    summary: str = ""
    details: str = ""
    current_details: str = ""


class PendingActivity(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An activity without an outcome, as its side row holds it.

    Attributes:
        attempts: Those that ended; a further one may be running.
        retry_at: Before this time no attempt starts.
        began: When the attempt under way began, of an activity that may begin at most once.
        details: JSON array of what the latest heartbeat said.
        streams: Names of those to which an attempt without an outcome wrote.
    """

    seq: int
    attempts: tuple[Attempt, ...] = ()
    retry_at: float = 0.0
    began: float | None = None
    details: bytes = b""
    streams: tuple[str, ...] = ()


class PendingRequest(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A request that nobody has answered, as its side row holds it.

    Attributes:
        asked: The command that put the question.
        reminders: How many there were.
        reminded: Time of the last of them, in seconds since the epoch.
    """

    asked: AskPeople
    reminders: int = 0
    reminded: float | None = None


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
