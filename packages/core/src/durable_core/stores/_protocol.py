"""What the rest of durable-core asks of a store.

One protocol, several stores; a conformance suite runs on each. All calls are made from the event
loop that opened the store. Writes are grouped into commits; each write is refused or accepted on
its own, and its awaitable ends after the commit that holds it is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ._lease import Lease
    from ._profiles import ProfileRow
    from ._questions import Questions
    from ._rows import (
        Append,
        Arrivals,
        Health,
        InboxRow,
        Loaded,
        Outcome,
        ReplyRow,
        RequestFilter,
        RequestRow,
        Reuse,
        RunRow,
    )
    from ._stalls import Instance
    from ._streams import StreamMark, StreamPage, StreamRow
    from ._visibility import Visibility

__all__ = ["Store"]


class Store(Protocol):
    """Where histories live."""

    @property
    def location(self) -> str:
        """Where that is, for people."""
        ...

    @property
    def visibility(self) -> Visibility:
        """Finds runs by what they show of themselves."""
        ...

    @property
    def questions(self) -> Questions:
        """Hands queries to workers of other processes."""
        ...

    def append(self, append: Append) -> asyncio.Future[Outcome]:
        """Add to a run. The future ends when the append is durable, or refused.

        Raises (through the future):
            SearchAttributeError: An attribute has another type; nothing of the append is kept.
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
        profile: ProfileRow | None = None,
    ) -> asyncio.Future[Outcome]:
        """Create a run that some worker of its queue will pick up, with events that wait for it.

        Raises (through the future):
            SearchAttributeError: An attribute has another type; there is no such run.
            StoreError: The store could not be written.
        """
        ...

    def send(
        self, run_id: str, row: InboxRow, *, lineage: str, items: Mapping[str, bytes]
    ) -> asyncio.Future[Outcome]:
        """Put an event into the inbox of an open run; refused if the run has ended.

        An update that has a reply, or waits already, is accepted and not put there again.
        """
        ...

    def answer(self, run_id: str, seq: int, row: InboxRow) -> asyncio.Future[Outcome]:
        """Put the answer to a request into the inbox of its run.

        Refused unless the request is open: people were asked, nobody has answered, and it was not
        withdrawn. Of several answers one is accepted, whatever sends them.
        """
        ...

    def terminate(
        self,
        run_id: str,
        *,
        time: float,
        data: Callable[[int, int], bytes],
        told: InboxRow | None = None,
    ) -> asyncio.Future[Outcome]:
        """End an open run, whoever owns it: its owner is refused from then on.

        Its children end, or are asked to, as their policies say; here and wherever a run ends.

        Args:
            run_id: Of the run.
            time: Of its end.
            data: Returns the bytes of the last activation, given its number and fence.
            told: For the inbox of the run whose child it is, if that is open.
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

    async def find_last(self, namespace: str, first: str) -> RunRow | None:
        """Return the last run of the chain that began with a run, which itself may be purged."""
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

    async def requests(
        self,
        namespace: str,
        which: RequestFilter,
        *,
        after: tuple[float, str, int] | None,
        limit: int,
    ) -> Sequence[RequestRow]:
        """Return requests of open runs that nobody has answered, those that wait longest first.

        Args:
            namespace: Of the runs.
            which: Only these.
            after: Time, run and number of the last one that was returned before.
            limit: At most so many.
        """
        ...

    async def check(self) -> Health:
        """Read everything, and return what is wrong with it, and who works on it."""
        ...

    # Streams

    async def read_stream(self, run_id: str, name: str, *, offset: int, limit: int) -> StreamPage:
        """Return chunks of a stream from an offset on, about a MiB of them at most.

        Args:
            run_id: Of the run.
            name: Of the stream.
            offset: The first one.
            limit: At most so many.
        """
        ...

    async def streams(self, run_id: str) -> Sequence[StreamRow]:
        """Return the streams of a run, in the order of their names."""
        ...

    async def stream_marks(self, wanted: Sequence[tuple[str, str]]) -> Sequence[StreamMark]:
        """Return whether there is more of streams, each given by its run and its name."""
        ...

    async def purge_streams(
        self, namespace: str, task_queue: str, before: float, *, limit: int
    ) -> int:
        """Forget the chunks of runs that have ended; return how many streams there were.

        Args:
            namespace: Of the runs.
            task_queue: Of the runs.
            before: Of runs that ended before this time, in seconds since the epoch.
            limit: At most so many; there may be more if so many were forgotten.
        """
        ...

    def listen(self, streamed: Callable[[str], None]) -> None:
        """Call a function with the run of each commit of this store that added chunks.

        It is called on the event loop. Of commits by others `changed` tells.
        """
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
