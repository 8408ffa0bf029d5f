"""The store in memory, as the rest of durable-core asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from durable_core import _clock, _defaults, _forks
from durable_core.exceptions import StoreClosedError, StoreCorruptError
from durable_core.stores._lease import Lease
from durable_core.stores._rows import (
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

from ._database import Database
from ._questions import MemoryQuestions
from ._visibility import MemoryVisibility

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from durable_core.stores._profiles import ProfileRow
    from durable_core.stores._stalls import Instance
    from durable_core.stores._streams import StreamMark, StreamPage, StreamRow

__all__ = ["MemoryStore"]

T = TypeVar("T")

_shared: dict[str, Database] = {}
# One for all: what is in memory is changed in no time.
_lock = threading.Lock()


class MemoryStore:
    """A `Store` in this process, which ends with it. Belongs to the running event loop.

    Stores of one name share what they hold, also over event loops.
    """

    def __init__(self, name: str | None = None) -> None:
        self._pid = os.getpid()
        self._name = name
        self._database = Database() if name is None else _shared.setdefault(name, Database())
        self._loop = asyncio.get_running_loop()
        self._workers: dict[int, Lease] = {}
        self._renewer: threading.Thread | None = None
        self._wake = threading.Event()
        self._seen = -1
        self._streamed: Callable[[str], None] | None = None
        self._closed = False
        self.visibility = MemoryVisibility(self._read)
        self.questions = MemoryQuestions(self._read)

    @property
    def location(self) -> str:
        """Its name."""
        return f"memory://{self._name or ''}"

    # Writing

    def append(self, append: Append) -> asyncio.Future[Outcome]:
        """Add to a run; see `Store.append`."""

        def add(database: Database) -> Outcome:
            self._renew(append.owner)
            outcome = database.append(append)
            if append.chunks and outcome is Outcome.ACCEPTED and self._streamed is not None:
                self._loop.call_soon(self._streamed, append.run_id)

            return outcome

        return self._write(add)

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
        """Create a run without an owner."""
        return self._write(lambda d: d.create(row, start, items, reuse, inbox, profile))

    def send(
        self, run_id: str, row: InboxRow, *, lineage: str, items: Mapping[str, bytes]
    ) -> asyncio.Future[Outcome]:
        """Put an event into the inbox of an open run."""
        return self._write(lambda d: d.send(run_id, row, lineage, items))

    def answer(self, run_id: str, seq: int, row: InboxRow) -> asyncio.Future[Outcome]:
        """Put the answer to a request into the inbox of its run."""
        return self._write(lambda d: d.answer(run_id, seq, row))

    def terminate(
        self,
        run_id: str,
        *,
        time: float,
        data: Callable[[int, int], bytes],
        told: InboxRow | None = None,
    ) -> asyncio.Future[Outcome]:
        """End an open run, whoever owns it."""

        def end(database: Database) -> Outcome:
            found = database.run_to_end(run_id)
            if found is None:
                return Outcome.REFUSED

            number, fence = found
            database.end(run_id, time, data(number, fence + 1), told)
            return Outcome.ACCEPTED

        return self._write(end)

    def revive(self, run_id: str, *, reopen: bool) -> asyncio.Future[Outcome]:
        """Let any worker try a stalled run, or one that ended without a result, now."""
        return self._write(lambda d: d.revive(run_id, reopen=reopen))

    def pause(self, run_id: str, why: str) -> asyncio.Future[Outcome]:
        """Let nobody claim an open run until `unpause`."""
        return self._write(lambda d: d.pause(run_id, why))

    def unpause(self, run_id: str, row: InboxRow) -> asyncio.Future[Outcome]:
        """Let a paused run go on, with an event that says so."""
        return self._write(lambda d: d.unpause(run_id, row))

    def register_worker(self, identity: str, lease: Lease | None = None) -> asyncio.Future[int]:
        """Add a worker, which lives until it is released or the store is closed."""
        held = lease or Lease(_defaults.LEASE)

        def register(database: Database) -> int:
            held.until = _clock.boottime() + held.length
            worker = database.register(identity, held.until)
            self._workers[worker] = held
            return worker

        if self._renewer is None and not self._closed:
            self._renewer = threading.Thread(target=self._keep, name="durable-lease", daemon=True)
            self._renewer.start()

        registered = self._write(register)
        self._wake.set()
        return registered

    def renew_worker(self, worker: int) -> asyncio.Future[bool]:
        """Renew the lease of a worker of this store now."""
        return self._write(lambda _: self._renew(worker))

    def release_worker(self, worker: int) -> asyncio.Future[None]:
        """End a worker."""

        def release(database: Database) -> None:
            self._workers.pop(worker, None)
            database.bury(worker, released=True)

        return self._write(release)

    # Reading

    async def owner_alive(self, row: RunRow) -> bool:
        """Return whether a living worker owns the run."""
        return self._read_of_the_living(lambda d: d.alive(row.owner))

    async def find(
        self, namespace: str, workflow_id: str, run_id: str | None = None
    ) -> RunRow | None:
        """Return a run by its unique id, or the open one of a workflow id, else its newest."""
        return self._read(lambda d: d.find(namespace, workflow_id, run_id))

    async def find_last(self, namespace: str, first: str) -> RunRow | None:
        """Return the last run of the chain that began with a run."""
        return self._read(lambda d: d.find_last(namespace, first))

    async def load(self, row: RunRow) -> Loaded:
        """Return everything that rebuilds a run."""
        loaded = self._read(lambda d: d.load(row.run_id))
        if len(loaded.activations) != loaded.row.next_number:
            raise StoreCorruptError(f"run {row.run_id} has lost activations")

        return loaded

    async def read_start(self, run_id: str) -> bytes:
        """Return the start record of a run."""
        return self._read(lambda d: d.start(run_id))

    async def read_reply(self, run_id: str, request: str) -> ReplyRow | None:
        """Return what became of an update; None while nothing is known of it."""
        return self._read(lambda d: d.reply(run_id, request))

    async def read_items(self, lineage: str, addresses: Sequence[str]) -> Mapping[str, bytes]:
        """Return items by address."""
        return self._read(lambda d: d.items(lineage, addresses))

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
        """Return open runs of a queue that a worker may take now, oldest first."""
        return self._read_of_the_living(
            lambda d: d.claimable(namespace, task_queue, workflow_types, by, now, limit)
        )

    async def waiting_types(self, namespace: str, task_queue: str) -> Collection[str]:
        """Return the workflows of which open runs of a queue are owned by nobody."""
        return self._read(lambda d: d.waiting_types(namespace, task_queue))

    async def orphans(
        self, namespace: str, workflow_type: str, *, limit: int, after: RunRow | None = None
    ) -> Sequence[RunRow]:
        """Return open bound runs of a workflow that no living worker owns, oldest first."""
        return self._read_of_the_living(lambda d: d.orphans(namespace, workflow_type, limit, after))

    async def next_wake(self, namespace: str, task_queue: str) -> float | None:
        """Return when the first of a queue's sleeping runs is due."""
        return self._read(lambda d: d.next_wake(namespace, task_queue))

    async def arrivals(self, worker: int) -> Arrivals:
        """Return what came for the runs that a worker owns."""
        return self._read(lambda d: d.arrivals(worker))

    async def purge(self, namespace: str, task_queue: str, before: float, *, limit: int) -> int:
        """Forget runs that have ended, and workers that are gone; return how many runs."""
        return self._read_of_the_living(lambda d: d.purge(namespace, task_queue, before, limit))

    async def newest(
        self, namespace: str, *, workflow_type: str | None, status: str | None, limit: int
    ) -> Sequence[RunRow]:
        """Return runs, newest first."""
        return self._read(lambda d: d.newest(namespace, workflow_type, status, limit))

    async def requests(
        self,
        namespace: str,
        which: RequestFilter,
        *,
        after: tuple[float, str, int] | None,
        limit: int,
    ) -> Sequence[RequestRow]:
        """Return requests that nobody has answered, those that wait longest first."""
        return self._read(lambda d: d.requests(namespace, which, after, limit))

    async def check(self) -> Health:
        """Return who works on the store."""
        return self._read_of_the_living(Database.health)

    async def read_stream(self, run_id: str, name: str, *, offset: int, limit: int) -> StreamPage:
        """Return chunks of a stream from an offset on."""
        return self._read(lambda d: d.read_stream(run_id, name, offset, limit))

    async def streams(self, run_id: str) -> Sequence[StreamRow]:
        """Return the streams of a run."""
        return self._read(lambda d: d.streams(run_id))

    async def stream_marks(self, wanted: Sequence[tuple[str, str]]) -> Sequence[StreamMark]:
        """Return whether there is more of streams."""
        return self._read(lambda d: d.stream_marks(wanted))

    async def purge_streams(
        self, namespace: str, task_queue: str, before: float, *, limit: int
    ) -> int:
        """Forget the chunks of runs that have ended."""
        return self._read(lambda d: d.purge_streams(namespace, task_queue, before, limit))

    def listen(self, streamed: Callable[[str], None]) -> None:
        """Call a function with the run of each commit of this store that added chunks."""
        self._streamed = streamed

    def changed(self) -> bool:
        """Return whether anybody changed anything since the last call."""
        self._check_process()
        seen, self._seen = self._seen, self._database.version
        return seen != self._seen

    # The end

    async def close(self) -> None:
        """End the store's workers."""
        self.close_now()

    def close_now(self) -> None:
        """As `close`."""
        if self._pid != os.getpid() or self._closed:
            return

        with _lock:
            for worker in self._workers:
                self._database.bury(worker, released=True)

            self._workers.clear()
            self._closed = True

        if self._renewer is not None:
            self._wake.set()
            self._renewer.join()

    def _keep(self) -> None:
        """Renew leases in a thread of its own: code that blocks the event loop loses none."""
        while not self._closed:
            self._wake.clear()
            with _lock:
                for worker in [w for w, lease in self._workers.items() if lease.needed]:
                    self._renew(worker)

                shortest = min((at.length for at in self._workers.values()), default=1.0)

            self._wake.wait(shortest / 3)

    def _renew(self, worker: int) -> bool:
        """Renew a lease and return whether the worker lives. The caller holds the lock."""
        lease = self._workers.get(worker)
        if lease is None or lease.lost:
            return False

        until = _clock.boottime() + lease.length
        if self._database.renew(worker, until):
            lease.until = until
            return True

        lease.lost = True
        if lease.when_lost is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its worker with it
                self._loop.call_soon_threadsafe(lease.when_lost)

        return False

    def _write(self, change: Callable[[Database], T]) -> asyncio.Future[T]:
        self._check_process()
        future: asyncio.Future[Any] = self._loop.create_future()
        try:
            future.set_result(self._read(change))
        except Exception as error:  # noqa: BLE001  # handed to whoever waits
            future.set_exception(error)

        return future

    def _read(self, read: Callable[[Database], T]) -> T:
        self._check_process()
        if self._closed:
            raise StoreClosedError(f"{self.location} is closed")

        with _lock:
            return read(self._database)

    def _check_process(self) -> None:
        _forks.check_process(self._pid, f"this store in memory, {self.location},")

    def _read_of_the_living(self, read: Callable[[Database], T]) -> T:
        """Read after those were found dead that did not renew their lease."""

        def look(database: Database) -> T:
            database.bury_late(_clock.boottime())
            return read(database)

        return self._read(look)


def _after_in_child() -> None:
    """Forget what the parent holds, and a lock that one of its threads may have held."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _shared.clear()


os.register_at_fork(after_in_child=_after_in_child)
