"""What is written to a store, and what is read from it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ._profiles import ProfileRow
    from ._streams import StreamChunk, StreamRow

__all__ = [
    "Append",
    "Arrivals",
    "Child",
    "Health",
    "InboxRow",
    "Loaded",
    "NewRun",
    "Outcome",
    "Pause",
    "PendingRow",
    "Post",
    "ReplyRow",
    "RequestFilter",
    "RequestRow",
    "Reuse",
    "RunRow",
]


class RunRow(msgspec.Struct, frozen=True):
    """A run as its row says.

    Attributes:
        status: ``running``, ``completed``, ``failed``, ``canceled``, ``terminated`` or
            ``continued_as_new``.
        started, closed: Seconds since the epoch.
        fence: Grows with every change of owner.
        owner: Id of the worker that owns it, which may be dead.
        takeovers: How often it was taken over from a dead worker since its last activation.
        bound: Whether only a caller with its objects, or a registered factory, may continue it.
        stall: JSON that says why it stalled, if it did.
        paused: JSON of the `Pause`, if it is paused: nobody may claim it.
        wake: Before this time nobody needs to claim it, unless its inbox holds something; seconds
            since the epoch.
        first: Unique id of the first run of its chain: its own, unless it continues another one.
        successor: Unique id of the run that took its place, if one did.
        parent: Unique id of the run whose child it is.
        parent_seq: Number of the command that started it there.
        policy: What the end of that run does to it: ``terminate``, ``abandon`` or
            ``request_cancel``.
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
    first: str = ""
    parent: str | None = None
    parent_seq: int = 0
    policy: str = ""
    successor: str | None = None


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
    """Work without an outcome: an activity, a timer, or a request to people.

    Attributes:
        since: When people were asked, in seconds since the epoch.
    """

    seq: int
    kind: str
    name: str = ""
    key: str = ""
    due: float | None = None
    data: bytes = b""
    since: float | None = None


class InboxRow(msgspec.Struct, frozen=True):
    """An event that no activation has taken. ``request`` makes repeated sending harmless."""

    request: str
    arrived: float
    data: bytes


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """An event for another run, and what the run that posts it hears of that.

    Attributes:
        namespace, workflow_id: Of the other run.
        run_id: Its unique id, or that of the first run of its chain; empty for the one that is
            open.
        exact: Whether it is for that very run, and for no other of its chain.
        event: For the inbox of the other run; it refers to no items, which are of one lineage.
        told: For the own inbox, if the other run is open.
        missed: For the own inbox, if it is not. Neither is read by a run that ends with the post.
    """

    namespace: str
    workflow_id: str
    run_id: str
    event: InboxRow
    exact: bool = False
    told: InboxRow | None = None
    missed: InboxRow | None = None


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that another one makes.

    Attributes:
        row, start, items: Its row, its start record, and what that refers to.
        reuse: Whether its id may be one that was used before.
        profile: What it shows of itself.
    """

    row: RunRow
    start: bytes
    items: Mapping[str, bytes]
    reuse: Reuse = "always"
    profile: ProfileRow | None = None


class Child(NewRun, frozen=True, kw_only=True):
    """A run that another one starts, and what that one hears of it.

    Attributes:
        started: For the inbox of the parent, if it exists now.
        refused: For the inbox of the parent, if its id is in use.
    """

    started: InboxRow
    refused: InboxRow


class RequestFilter(msgspec.Struct, frozen=True):
    """Which requests are wanted; None for any."""

    kind: str | None = None
    workflow_type: str | None = None
    workflow_id: str | None = None
    run_id: str | None = None


class RequestRow(msgspec.Struct, frozen=True):
    """A request that nobody has answered, of any run.

    Attributes:
        since: When people were asked, in seconds since the epoch.
        data: Bytes of the `PendingRequest`; it may refer to items of the run's lineage.
    """

    run_id: str
    workflow_id: str
    workflow_type: str
    lineage: str
    seq: int
    since: float
    data: bytes


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
        withdrawn: Those of them that are requests and get no answer: if one of these has an unread
            answer, the append is refused.
        taken: Ids of the inbox rows that became events.
        inbox: Events to put into the inbox instead of into an activation.
        children: Runs that it starts; they exist, or are refused, before anything is posted.
        successor: The run that takes its place, with everything that it has not read.
        posts: Events for other runs.
        revives: Unique ids of the first runs of chains that are taken up with it, where they ended
            without a result.
        replies: What became of updates.
        start: Row and start record of a run that this append creates.
        reuse: Whether that run's id may be one that was used before.
        profile: What the run shows of itself from now on; None if that stays as it is.
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
    withdrawn: Sequence[int] = ()
    taken: Sequence[int] = ()
    inbox: Sequence[InboxRow] = ()
    children: Sequence[Child] = ()
    successor: NewRun | None = None
    posts: Sequence[Post] = ()
    revives: Sequence[str] = ()
    replies: Sequence[ReplyRow] = ()
    start: tuple[RunRow, bytes] | None = None
    reuse: Reuse = "always"
    profile: ProfileRow | None = None
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
