"""What is written to a store, and what is read from it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ._streams import StreamChunk, StreamRow

__all__ = [
    "Append",
    "Arrivals",
    "Health",
    "InboxRow",
    "Loaded",
    "Outcome",
    "Pause",
    "PendingRow",
    "Post",
    "ReplyRow",
    "Reuse",
    "RunRow",
]


class RunRow(msgspec.Struct, frozen=True):
    """A run as its row says.

    Attributes:
        status: ``running``, ``completed``, ``failed``, ``canceled`` or ``terminated``.
        started, closed: Seconds since the epoch.
        fence: Grows with every change of owner.
        owner: Id of the worker that owns it, which may be dead.
        takeovers: How often it was taken over from a dead worker since its last activation.
        bound: Whether only a caller with its objects, or a registered factory, may continue it.
        stall: JSON that says why it stalled, if it did.
        paused: JSON of the `Pause`, if it is paused: nobody may claim it.
        wake: Before this time nobody needs to claim it, unless its inbox holds something; seconds
            since the epoch.
    """

    run_id: str
    namespace: str
    workflow_id: str
    workflow_type: str
    task_queue: str
    bound: bool
    status: str
    started: float
    closed: float | None
    fence: int
    owner: int | None
    next_number: int
    takeovers: int
    lineage: str
    stall: str | None
    wake: float = 0.0
    paused: str | None = None


class Pause(msgspec.Struct, frozen=True):
    """Who wanted a run to stand still.

    Attributes:
        time: Since when, in seconds since the epoch.
        reason: Why, in the words of whoever paused it.
        client: Identity of whoever did.
    """

    time: float
    reason: str = ""
    client: str = ""


class PendingRow(msgspec.Struct, frozen=True):
    """Work without an outcome: an activity or a timer."""

    seq: int
    kind: str
    name: str = ""
    key: str = ""
    due: float | None = None
    data: bytes = b""


class InboxRow(msgspec.Struct, frozen=True):
    """An event that no activation has taken. ``request`` makes repeated sending harmless."""

    request: str
    arrived: float
    data: bytes


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """An event for another run, and what the run that posts it hears of that.

    Attributes:
        namespace, workflow_id: Of the other run.
        run_id: Its unique id; empty for the one that is open.
        event: For the inbox of the other run; it refers to no items, which are of one lineage.
        told: For the own inbox, if the other run is open.
        missed: For the own inbox, if it is not.
    """

    namespace: str
    workflow_id: str
    run_id: str
    event: InboxRow
    told: InboxRow
    missed: InboxRow


class ReplyRow(msgspec.Struct, frozen=True):
    """What became of an update, for whoever waits for it or asks again.

    Attributes:
        request: Id of the update.
        stage: How far it came. What is no more than ``accepted`` may change, the others stay.
        data: Bytes of the answer; empty before there is one.
    """

    request: str
    stage: Literal["accepted", "completed", "rejected"]
    data: bytes = b""


class Append(msgspec.Struct, kw_only=True):
    """What one run adds, all of it or nothing.

    Attributes:
        run_id: Of the run.
        expected_fence: The fence that the row must have.
        fence: The fence that it has afterwards; one more if ``claim``.
        owner: Worker that makes the append.
        claim: Whether the append takes the run over: from nobody, from a dead worker, or again from
            this one.
        release: Whether nobody owns the run afterwards.
        reopen: Whether the append takes up a run that has ended without a result.
        wake: Of the run afterwards, if it is released.
        number: Number of the activation; None if the append holds none.
        time: Of the activation.
        data: Frozen bytes of the activation.
        status: Of the run afterwards.
        stall: JSON that says why the run stalls; None clears it.
        lineage: Scope of the items.
        items: Items to add, by address.
        pending: Work to add or to replace.
        resolved: Numbers of the commands whose work has an outcome.
        taken: Ids of the inbox rows that became events.
        inbox: Events to put into the inbox instead of into an activation.
        posts: Events for other runs.
        replies: What became of updates.
        start: Row and start record of a run that this append creates.
        reuse: Whether that run's id may be one that was used before.
        chunks: Added to streams, in order.
    """

    run_id: str
    expected_fence: int
    fence: int
    owner: int
    claim: bool = False
    release: bool = False
    reopen: bool = False
    wake: float = 0.0
    number: int | None = None
    time: float = 0.0
    data: bytes = b""
    status: str = "running"
    stall: str | None = None
    lineage: str = ""
    items: Mapping[str, bytes] = msgspec.field(default_factory=dict[str, bytes])
    pending: Sequence[PendingRow] = ()
    resolved: Sequence[int] = ()
    taken: Sequence[int] = ()
    inbox: Sequence[InboxRow] = ()
    posts: Sequence[Post] = ()
    replies: Sequence[ReplyRow] = ()
    start: tuple[RunRow, bytes] | None = None
    reuse: Reuse = "always"
    chunks: Sequence[StreamChunk] = ()


Reuse = Literal["always", "failed", "never"]
"""When the id of a run that has ended may be used again: see `WorkflowIDReusePolicy`."""


class Arrivals(msgspec.Struct, frozen=True):
    """What came for the runs of a worker.

    Attributes:
        owned: Ids of the open runs that it owns.
        paused: Those of them that it is to let go.
        inbox: Run, number and bytes of each event that no activation has taken.
    """

    owned: Collection[str]
    paused: Collection[str]
    inbox: Sequence[tuple[str, int, bytes]]


class Health(msgspec.Struct, frozen=True):
    """How a store is.

    Attributes:
        problems: What is damaged.
        workers: Identities of the living workers.
    """

    problems: Sequence[str]
    workers: Sequence[str]


class Outcome(Enum):
    """How an append ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    ID_IN_USE = "id in use"


class Loaded(msgspec.Struct, frozen=True):
    """Everything that rebuilds a run, read in one transaction.

    Attributes:
        rejected: Ids of the updates that were rejected.
        streams: Those that were written to.
    """

    row: RunRow
    start: bytes
    activations: Sequence[bytes]
    pending: Sequence[PendingRow]
    inbox: Sequence[tuple[int, bytes]]
    items: Mapping[str, bytes] = msgspec.field(default_factory=dict[str, bytes])
    rejected: Sequence[str] = ()
    streams: Sequence[StreamRow] = ()
