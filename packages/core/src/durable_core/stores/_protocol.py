"""What the rest of durable-core asks of a store.

One protocol, several stores; a conformance suite runs on each. All calls are made from the event
loop that opened the store. Writes are grouped into commits; each write is refused or accepted on
its own, and its awaitable ends after the commit that holds it is durable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

__all__ = ["Append", "InboxRow", "Loaded", "Outcome", "PendingRow", "RunRow", "Store"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as its row says.

    Attributes:
        status: ``running``, ``completed``, ``failed`` or ``canceled``.
        started, closed: Seconds since the epoch.
        fence: Grows with every change of owner.
        owner: Id of the worker that owns it, which may be dead.
        takeovers: How often it was taken over from a dead worker since its last activation.
        bound: Whether only a caller with its objects, or a registered factory, may continue it.
        stall: JSON that says why it stalled, if it did.
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


@dataclass(frozen=True, slots=True)
class PendingRow:
    """Work without an outcome: an activity or a timer."""

    seq: int
    kind: str
    name: str = ""
    key: str = ""
    due: float | None = None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class InboxRow:
    """An event that no activation has taken. ``request`` makes repeated sending harmless."""

    request: str
    arrived: float
    data: bytes


@dataclass(slots=True, kw_only=True)
class Append:
    """What one run adds, all of it or nothing.

    Attributes:
        run_id: Of the run.
        expected_fence: The fence that the row must have.
        fence: The fence that it has afterwards; one more if ``claim``.
        owner: Worker that makes the append.
        claim: Whether the append takes the run over: from nobody, from a dead worker, or again from
            this one.
        release: Whether nobody owns the run afterwards.
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
        start: Row and start record of a run that this append creates.
    """

    run_id: str
    expected_fence: int
    fence: int
    owner: int
    claim: bool = False
    release: bool = False
    number: int | None = None
    time: float = 0.0
    data: bytes = b""
    status: str = "running"
    stall: str | None = None
    lineage: str = ""
    items: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    pending: Sequence[PendingRow] = ()
    resolved: Sequence[int] = ()
    taken: Sequence[int] = ()
    inbox: Sequence[InboxRow] = ()
    start: tuple[RunRow, bytes] | None = None


class Outcome(Enum):
    """How an append ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    ID_IN_USE = "id in use"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything that rebuilds a run, read in one transaction."""

    row: RunRow
    start: bytes
    activations: Sequence[bytes]
    pending: Sequence[PendingRow]
    inbox: Sequence[tuple[int, bytes]]
    items: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


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
        self, row: RunRow, start: bytes, items: Mapping[str, bytes]
    ) -> asyncio.Future[Outcome]:
        """Create a run that some worker of its queue will pick up."""
        ...

    def register_worker(self, identity: str) -> asyncio.Future[int]:
        """Add a worker that lives until `release_worker` or until this process ends."""
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
            StoreCorruptError: Something of it is missing.
        """
        ...

    async def read_start(self, run_id: str) -> bytes:
        """Return the start record of a run.

        Raises:
            StoreCorruptError: It is missing.
        """
        ...

    async def read_items(self, lineage: str, addresses: Sequence[str]) -> Mapping[str, bytes]:
        """Return items by address; those that do not exist are left out."""
        ...

    async def claimable(
        self, namespace: str, task_queue: str, *, worker: int, limit: int
    ) -> Sequence[RunRow]:
        """Return open runs of a queue that no living worker but this one owns, oldest first.

        A run that the worker owns and has dropped, after a failed write, is its own to take again.
        """
        ...

    async def newest(
        self, namespace: str, *, workflow_type: str | None, status: str | None, limit: int
    ) -> Sequence[RunRow]:
        """Return runs, newest first."""
        ...

    def changed(self) -> bool:
        """Return whether anybody committed since the last call; cheap enough to poll."""
        ...

    async def close(self) -> None:
        """Finish the writes under way and close."""
        ...

    def close_now(self) -> None:
        """As `close`, without an event loop: the store's own was closed before the store."""
        ...
