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

from ._commands import Command
from ._events import Event, Rewound
from ._parts import Attempt, Payload

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Activation",
    "Note",
    "PendingActivity",
    "Start",
    "effective",
]


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
        streams: Names of those to which an attempt without an outcome wrote.
    """

    seq: int
    attempts: tuple[Attempt, ...] = ()
    retry_at: float = 0.0
    began: float | None = None
    details: bytes = b""
    streams: tuple[str, ...] = ()


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
