"""What the rest of durable-core asks of a store.

One protocol, several stores; a conformance suite runs on each. All calls are made from the event
loop that opened the store. Writes are grouped into commits; each write is refused or accepted on
its own, and its awaitable ends after the commit that holds it is durable.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ._lease import Lease
    from ._stalls import Instance

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
    "Store",
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
    """

    row: RunRow
    start: bytes
    activations: Sequence[bytes]
    pending: Sequence[PendingRow]
    inbox: Sequence[tuple[int, bytes]]
    items: Mapping[str, bytes] = msgspec.field(default_factory=dict[str, bytes])
    rejected: Sequence[str] = ()


class Store(Protocol):
    """Where histories live."""

    @property
    def location(self) -> str:
        """Where that is, for people."""
        ...

    def append(self, append: Append) -> asyncio.Future[Outcome]:
        """Add to a run. The future ends when the append is durable, or refused.

        Raises (through the future):
            StoreError: The store could not be written; nothing of the append is kept.
        """
        ...

    def create(
        self,
        row: RunRow,
        start: bytes,
        items: Mapping[str, bytes],
        *,
        reuse: Reuse = "always",
        inbox: Sequence[InboxRow] = (),
    ) -> asyncio.Future[Outcome]:
        """Create a run that some worker of its queue will pick up, with events that wait for it."""
        ...

    def send(
        self, run_id: str, row: InboxRow, *, lineage: str, items: Mapping[str, bytes]
    ) -> asyncio.Future[Outcome]:
        """Put an event into the inbox of an open run; refused if the run has ended.

        An update that has a reply, or waits already, is accepted and not put there again.
        """
        ...

    def terminate(
        self, run_id: str, *, time: float, data: Callable[[int, int], bytes]
    ) -> asyncio.Future[Outcome]:
        """End an open run, whoever owns it: its owner is refused from then on.

        Args:
            run_id: Of the run.
            time: Of its end.
            data: Returns the bytes of the last activation, given its number and fence.
        """
        ...

    def revive(self, run_id: str, *, reopen: bool) -> asyncio.Future[Outcome]:
        """Let any worker try a stalled run now; with ``reopen``, also one that failed.

        Refused if the run is neither.
        """
        ...

    def pause(self, run_id: str, why: str) -> asyncio.Future[Outcome]:
        """Let nobody claim an open run until `unpause`; its owner is told by `arrivals`.

        Refused if the run has ended or is paused already.

        Args:
            run_id: Of the run.
            why: JSON of the `Pause`.
        """
        ...

    def unpause(self, run_id: str, row: InboxRow) -> asyncio.Future[Outcome]:
        """Let a paused run go on, with an event that says so; refused if it is not paused."""
        ...

    def register_worker(self, identity: str, lease: Lease | None = None) -> asyncio.Future[int]:
        """Add a worker that lives until `release_worker` or until this process ends.

        Args:
            identity: Its name in histories.
            lease: Renewed from now on, as long as it is needed. If the worker owns runs when it is
                past, whoever looks next marks the worker as dead: every append of it is refused
                then. Of the default length, and always needed, if it is None.
        """
        ...

    def renew_worker(self, worker: int) -> asyncio.Future[bool]:
        """Renew the lease of a worker of this store now; return whether the worker lives."""
        ...

    def release_worker(self, worker: int) -> asyncio.Future[None]:
        """End a worker: its runs may be taken over at once."""
        ...

    async def owner_alive(self, row: RunRow) -> bool:
        """Return whether a living worker owns the run; a dead one is marked as such."""
        ...

    async def find(
        self, namespace: str, workflow_id: str, run_id: str | None = None
    ) -> RunRow | None:
        """Return a run by its unique id, or the open one of a workflow id, else its newest."""
        ...

    async def load(self, row: RunRow) -> Loaded:
        """Return everything that rebuilds a run.

        Raises:
            WorkflowNotFoundError: It was purged.
            StoreCorruptError: Something of it is missing.
        """
        ...

    async def read_start(self, run_id: str) -> bytes:
        """Return the start record of a run.

        Raises:
            StoreCorruptError: It is missing.
        """
        ...

    async def read_reply(self, run_id: str, request: str) -> ReplyRow | None:
        """Return what became of an update; None while nothing is known of it."""
        ...

    async def read_items(self, lineage: str, addresses: Sequence[str]) -> Mapping[str, bytes]:
        """Return items by address; those that do not exist are left out."""
        ...

    async def claimable(
        self,
        namespace: str,
        task_queue: str,
        *,
        workflow_types: Collection[str],
        by: Instance,
        now: float,
        limit: int,
    ) -> Sequence[RunRow]:
        """Return open runs of a queue that a worker may take now, oldest first.

        Those that no living worker owns, and that neither sleep until later nor, having stalled,
        have to rest (`durable_core.stores._stalls.may_try`).

        Args:
            namespace: Of the runs.
            task_queue: Of the runs.
            workflow_types: That the worker knows.
            by: The worker.
            now: Seconds since the epoch.
            limit: At most so many.
        """
        ...

    async def waiting_types(self, namespace: str, task_queue: str) -> Collection[str]:
        """Return the workflows of which open runs of a queue are owned by nobody."""
        ...

    async def orphans(
        self, namespace: str, workflow_type: str, *, limit: int, after: RunRow | None = None
    ) -> Sequence[RunRow]:
        """Return open bound runs of a workflow that no living worker owns, oldest first.

        Args:
            namespace: Of the runs.
            workflow_type: Name of the workflow.
            limit: At most so many.
            after: The last of those that were returned before; only later ones follow.
        """
        ...

    async def next_wake(self, namespace: str, task_queue: str) -> float | None:
        """Return when the first of a queue's sleeping runs is due; None if none sleeps."""
        ...

    async def arrivals(self, worker: int) -> Arrivals:
        """Return what came for the runs that a worker owns, as of one moment."""
        ...

    async def purge(self, namespace: str, task_queue: str, before: float, *, limit: int) -> int:
        """Forget runs that have ended, and workers that are gone; return how many runs.

        Everything of a run goes; shared items with the last run of their lineage. The space is
        given back to the file system little by little.

        Args:
            namespace: Of the runs.
            task_queue: Of the runs.
            before: Runs that ended before this time, in seconds since the epoch, the oldest first.
            limit: At most so many; there may be more if so many were forgotten.
        """
        ...

    async def newest(
        self, namespace: str, *, workflow_type: str | None, status: str | None, limit: int
    ) -> Sequence[RunRow]:
        """Return runs, newest first."""
        ...

    async def check(self) -> Health:
        """Read everything, and return what is wrong with it, and who works on it."""
        ...

    def changed(self) -> bool:
        """Return whether anybody committed since the last call; cheap enough to poll.

        Appends by which the owner of a run only goes on with it need not count.
        """
        ...

    async def close(self) -> None:
        """Finish the writes under way and close."""
        ...

    def close_now(self) -> None:
        """As `close`, without an event loop: the store's own was closed before the store."""
        ...
