"""The SQLite store: one file in WAL mode, a writer thread with group commit, readers beside it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from durable_core import _clock, _defaults, _forks, _ids
from durable_core.exceptions import (
    StoreClosedError,
)
from durable_core.stores import _sql
from durable_core.stores._lease import Lease, boot_id
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

from . import _batch, _chunks, _family, _handles, _locks, _open, _reading
from ._handles import Handle
from ._leases import Leases
from ._questions import SqliteQuestions
from ._turns import turn_of
from ._visibility import SqliteVisibility
from ._writer import Call, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import apsw

    from durable_core.stores._profiles import ProfileRow
    from durable_core.stores._stalls import Instance
    from durable_core.stores._streams import StreamMark, StreamPage, StreamRow

__all__ = ["SqliteStore"]

T = TypeVar("T")

_log = logging.getLogger("durable_core.stores")
# A worker that waits for others to write notes so many times in a second.
_WAITS_ON = 3.0

_RUN_COLUMNS = (
    "id, namespace, workflow_id, workflow_type, task_queue, bound, status, started, closed, "
    "fence, owner, next_number, takeovers, lineage, stall, wake, paused, first, parent, "
    "parent_seq, policy, successor"
)
_SQL = _sql.statements(__package__ or "", "queries.sql", run=_RUN_COLUMNS)


class SqliteStore:
    """A `Store` on one SQLite file. Open it by `open`; it belongs to the running event loop."""

    def __init__(self, path: Path, handles: Sequence[Handle]) -> None:
        self._path = path
        self._pid = os.getpid()
        writer, self._reader = handles
        self._leases = Leases(_SQL)
        turn = turn_of(path, self._lock_folder)
        self._writer = Writer(path, writer, _SQL, self._leases, turn)
        # Reads of long histories must not hold up the loop; one thread keeps them in order.
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="durable-reader")
        self._locks: dict[int, _locks.WorkerLock] = {}
        self._closed = False
        self.visibility = SqliteVisibility(self._read, _RUN_COLUMNS, _reading.run_row)
        self.questions = SqliteQuestions(self._read, self._writer, _SQL)

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Open a database file; it is made if it does not exist.

        Raises:
            StoreError: It cannot be used; the subclass says why.
        """
        path = path.absolute()  # noqa: ASYNC240  # reads nothing but the working directory
        return cls(path, await asyncio.to_thread(_handles.opened, path, 2))

    @property
    def location(self) -> str:
        """The absolute path of the file."""
        return str(self._path)

    def append(self, append: Append) -> asyncio.Future[Outcome]:
        """Add to a run; see `Store.append`."""
        self._check_process()
        return self._writer.submit(append)

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
        self._check_process()
        create = _batch.Create(
            row=row, start=start, items=items, reuse=reuse, inbox=inbox, profile=profile
        )
        return self._writer.submit(create)

    def send(
        self, run_id: str, row: InboxRow, *, lineage: str, items: Mapping[str, bytes]
    ) -> asyncio.Future[Outcome]:
        """Put an event into the inbox of an open run."""
        self._check_process()
        return self._writer.submit(
            _batch.Send(run_id=run_id, row=row, lineage=lineage, items=items)
        )

    def answer(self, run_id: str, seq: int, row: InboxRow) -> asyncio.Future[Outcome]:
        """Put the answer to a request into the inbox of its run."""
        self._check_process()

        def answer(connection: apsw.Connection) -> Outcome:
            values = (run_id, seq, row.request, row.arrived, row.data)
            added = connection.execute(_SQL["insert_answer"], values).fetchall()
            return Outcome.ACCEPTED if added else Outcome.REFUSED

        return self._writer.submit(Call(answer))

    def terminate(
        self,
        run_id: str,
        *,
        time: float,
        data: Callable[[int, int], bytes],
        told: InboxRow | None = None,
    ) -> asyncio.Future[Outcome]:
        """End an open run, whoever owns it."""
        self._check_process()

        def end(connection: apsw.Connection) -> Outcome:
            found = connection.execute(_SQL["run_to_end"], (run_id,)).fetchone()
            if found is None:
                return Outcome.REFUSED

            number, fence = cast("tuple[int, int]", found)
            last = data(number, fence + 1)
            _family.end_run(connection, _SQL, run_id, number, fence + 1, time, last)
            if told is not None:
                values = (run_id, told.request, told.arrived, told.data)
                connection.execute(_SQL["tell_parent"], values)

            _family.end_children(connection, _SQL, {run_id: time})
            return Outcome.ACCEPTED

        return self._writer.submit(Call(end))

    def revive(self, run_id: str, *, reopen: bool) -> asyncio.Future[Outcome]:
        """Let any worker try a stalled run, or one that ended without a result, now."""
        self._check_process()

        def revive(connection: apsw.Connection) -> Outcome:
            moved = connection.execute(_SQL["revive_run"], (run_id, reopen)).fetchall()
            return Outcome.ACCEPTED if moved else Outcome.REFUSED

        return self._writer.submit(Call(revive))

    def pause(self, run_id: str, why: str) -> asyncio.Future[Outcome]:
        """Let nobody claim an open run until `unpause`."""
        self._check_process()

        def pause(connection: apsw.Connection) -> Outcome:
            moved = connection.execute(_SQL["pause_run"], (run_id, why)).fetchall()
            return Outcome.ACCEPTED if moved else Outcome.REFUSED

        return self._writer.submit(Call(pause))

    def unpause(self, run_id: str, row: InboxRow) -> asyncio.Future[Outcome]:
        """Let a paused run go on, with an event that says so."""
        self._check_process()

        def unpause(connection: apsw.Connection) -> Outcome:
            if not connection.execute(_SQL["unpause_run"], (run_id,)).fetchall():
                return Outcome.REFUSED

            values = (run_id, row.request, row.arrived, row.data)
            connection.execute(_SQL["put_inbox"], values)
            return Outcome.ACCEPTED

        return self._writer.submit(Call(unpause))

    def register_worker(self, identity: str, lease: Lease | None = None) -> asyncio.Future[int]:
        """Add a worker and take the lock that says it lives."""
        self._check_process()
        held = lease or Lease(_defaults.LEASE)
        lock = _locks.WorkerLock(self._lock_folder, _ids.uuid7())

        def insert(connection: apsw.Connection) -> int:
            held.until = _clock.boottime() + held.length
            values = (identity, lock.path.name, _clock.now(), boot_id(), held.until)
            return int(cast("int", connection.execute(_SQL["register_worker"], values).get))

        async def register() -> int:
            try:
                worker: int = await self._writer.submit(Call(insert))
            except BaseException:
                lock.release()
                raise

            self._locks[worker] = lock
            self._leases.add(worker, held, lock)
            self._writer.look_again()
            return worker

        return asyncio.ensure_future(register())

    def renew_worker(self, worker: int) -> asyncio.Future[bool]:
        """Renew the lease of a worker of this store now."""
        self._check_process()
        return self._writer.submit(Call(lambda c: self._leases.renew(c, worker)))

    def release_worker(self, worker: int) -> asyncio.Future[None]:
        """Mark a worker as dead and drop its lock."""
        self._check_process()

        self._leases.remove(worker)

        async def release() -> None:
            try:
                await self._bury(worker, released=True)
            finally:
                # Whoever looks next finds it dead, if that could not be written.
                lock = self._locks.pop(worker, None)
                if lock is not None:
                    lock.release()

        return asyncio.ensure_future(release())

    async def owner_alive(self, row: RunRow) -> bool:
        """Return whether a living worker owns the run; a dead one is marked as such."""
        if row.owner is None:
            return False

        if row.owner in self._locks:
            return True

        owner = row.owner
        found = await self._read(lambda c: c.execute(_SQL["worker"], (owner,)).fetchone())
        return found is not None and not await self._bury_if_dead(found)

    async def bury_dead(self) -> None:
        """Mark every worker as dead whose process ended, or whose lease ran out."""
        rows: list[Any] = await self._read(lambda c: c.execute(_SQL["living_workers"]).fetchall())
        for row in rows:
            if row[0] not in self._locks:
                await self._bury_if_dead(row)

    async def _bury_if_dead(self, row: Any) -> bool:
        """Mark a worker as dead if it is, unless it renews its lease meanwhile."""
        worker, identity, lock_file, boot, until, owns = row
        path = self._lock_folder / str(lock_file)
        if boot != boot_id() or _locks.is_dead(path):
            await self._bury(worker)
            return True

        # One that owns nothing does not renew its lease, and nobody waits for its runs.
        now = _clock.boottime()
        late = now - until
        if not owns or late < 0 or now - _locks.waited(path) < _WAITS_ON:
            return False

        buried = bool(await self._bury(worker, lease_until=until))
        if buried:
            _log.warning(
                "worker %s is stopped or stuck: its lease ran out %.1f s ago, and it is refused "
                "from now on. Its runs go to other workers",
                identity,
                late,
            )

        return buried

    async def find(
        self, namespace: str, workflow_id: str, run_id: str | None = None
    ) -> RunRow | None:
        """Return a run by its unique id, or the open one of a workflow id, else its newest."""
        if run_id is None:
            name, values = "run_newest", (namespace, workflow_id)
        else:
            name, values = "run_by_run_id", (namespace, run_id)

        row = await self._read(lambda c: c.execute(_SQL[name], values).fetchone())
        found = None if row is None else _reading.run_row(row)
        return (
            None
            if found is None or (run_id and workflow_id and found.workflow_id != workflow_id)
            else found
        )

    async def find_last(self, namespace: str, first: str) -> RunRow | None:
        """Return the last run of the chain that began with a run."""
        rows = await self._runs("run_of_chain", (namespace, first))
        return rows[0] if rows else None

    async def load(self, row: RunRow) -> Loaded:
        """Return everything that rebuilds a run, as of one moment."""
        return await self._read(lambda c: _reading.load(c, _SQL, row, self._path))

    async def read_start(self, run_id: str) -> bytes:
        """Return the start record of a run."""
        return await self._read(lambda c: _reading.start_of(c, _SQL, run_id, self._path))

    async def read_reply(self, run_id: str, request: str) -> ReplyRow | None:
        """Return what became of an update; None while nothing is known of it."""
        found: Any = await self._read(
            lambda c: c.execute(_SQL["reply"], (run_id, request)).fetchone()
        )
        return None if found is None else ReplyRow(*found)

    async def read_items(self, lineage: str, addresses: Sequence[str]) -> Mapping[str, bytes]:
        """Return items by address."""
        return await self._read(lambda c: _reading.items_of(c, _SQL, lineage, addresses))

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
        await self.bury_dead()
        types = json.dumps(list(workflow_types))
        values = (namespace, task_queue, limit, types, now, by.id, by.started, by.build)
        return await self._runs("runs_claimable", values)

    async def waiting_types(self, namespace: str, task_queue: str) -> Collection[str]:
        """Return the workflows of which open runs of a queue are owned by nobody."""
        values = (namespace, task_queue)
        rows = await self._read(lambda c: c.execute(_SQL["waiting_types"], values).fetchall())
        return {cast("str", name) for (name,) in rows}

    async def orphans(
        self, namespace: str, workflow_type: str, *, limit: int, after: RunRow | None = None
    ) -> Sequence[RunRow]:
        """Return open bound runs of a workflow that no living worker owns, oldest first."""
        await self.bury_dead()
        started, run_id = (0.0, "") if after is None else (after.started, after.run_id)
        values = (namespace, workflow_type, limit, started, run_id)
        return await self._runs("runs_orphaned", values)

    async def next_wake(self, namespace: str, task_queue: str) -> float | None:
        """Return when the first of a queue's sleeping runs is due."""
        values = (namespace, task_queue)
        found = await self._read(lambda c: c.execute(_SQL["next_wake"], values).get)
        return cast("float | None", found)

    async def arrivals(self, worker: int) -> Arrivals:
        """Return what came for the runs that a worker owns."""
        rows: list[Any] = await self._read(
            lambda c: c.execute(_SQL["arrivals"], (worker,)).fetchall()
        )
        return Arrivals(
            owned={run for run, *_ in rows},
            paused={run for run, paused, *_ in rows if paused},
            inbox=[(run, number, data) for run, _, number, data in rows if number is not None],
        )

    async def purge(self, namespace: str, task_queue: str, before: float, *, limit: int) -> int:
        """Forget runs that have ended, and workers that are gone; return how many runs."""
        await self.bury_dead()
        # Found by a reader, so that looking through all runs holds up no commit.
        values = (namespace, before, limit, task_queue)
        rows: list[Any] = await self._read(
            lambda c: c.execute(_SQL["runs_closed"], values).fetchall()
        )

        def forget(connection: apsw.Connection) -> tuple[int, list[str]]:
            asked = json.dumps([run for (run,) in rows])
            gone: list[Any] = connection.execute(_SQL["forget_runs"], (asked, before)).fetchall()
            runs = json.dumps([run for run, _ in gone])
            tables = ("starts", "activations", "pending", "inbox", "replies", "chunks", "streams")
            for what in (*tables, "profiles", "attributes", "questions"):
                connection.execute(_SQL[f"forget_{what}"], (runs,))

            lineages = json.dumps([lineage for _, lineage in gone])
            connection.execute(_SQL["forget_items"], (lineages,))
            files: list[Any] = connection.execute(_SQL["forget_workers"]).fetchall()
            connection.execute(_SQL["shrink"]).fetchall()
            return len(gone), [file for (file,) in files]

        gone, files = await self._writer.submit(Call(forget))
        for file in files:
            # That of a worker which was stopped and then killed is still there.
            _locks.is_dead(self._lock_folder / file)

        return int(gone)

    async def newest(
        self, namespace: str, *, workflow_type: str | None, status: str | None, limit: int
    ) -> Sequence[RunRow]:
        """Return runs, newest first."""
        return await self._runs("runs_newest", (namespace, workflow_type, status, limit))

    async def requests(
        self,
        namespace: str,
        which: RequestFilter,
        *,
        after: tuple[float, str, int] | None,
        limit: int,
    ) -> Sequence[RequestRow]:
        """Return requests that nobody has answered, those that wait longest first."""
        first = after or (0.0, "", 0)
        fields = (which.workflow_type, which.workflow_id, which.run_id, which.kind)
        values = (namespace, *fields, *first, limit)
        rows: Any = await self._read(lambda c: c.execute(_SQL["requests"], values).fetchall())
        return [RequestRow(*row) for row in rows]

    async def check(self) -> Health:
        """Read every page, and return what is wrong, and who works on the store."""
        await self.bury_dead()
        rows: list[Any] = await self._read(lambda c: c.execute(_SQL["living_workers"]).fetchall())
        found = await self._read(lambda c: c.execute("PRAGMA quick_check(20)").fetchall())
        problems = [str(problem) for (problem,) in found if problem != "ok"]
        return Health(problems=problems, workers=[str(identity) for _, identity, *_ in rows])

    async def read_stream(self, run_id: str, name: str, *, offset: int, limit: int) -> StreamPage:
        """Return chunks of a stream from an offset on."""
        return await self._read(lambda c: _chunks.read(c, _SQL, run_id, name, offset, limit))

    async def streams(self, run_id: str) -> Sequence[StreamRow]:
        """Return the streams of a run."""
        return await self._read(lambda c: _chunks.rows(c, _SQL, run_id))

    async def stream_marks(self, wanted: Sequence[tuple[str, str]]) -> Sequence[StreamMark]:
        """Return whether there is more of streams."""
        return await self._read(lambda c: _chunks.marks(c, _SQL, wanted))

    async def purge_streams(
        self, namespace: str, task_queue: str, before: float, *, limit: int
    ) -> int:
        """Forget the chunks of runs that have ended."""
        values = (namespace, before, limit, task_queue)
        found: list[Any] = await self._read(
            lambda c: c.execute(_SQL["streams_closed"], values).fetchall()
        )
        if not found:
            return 0

        streams = [stream for (stream,) in found]
        gone = await self._writer.submit(Call(lambda c: _chunks.purge(c, _SQL, streams, before)))
        return int(gone)

    def listen(self, streamed: Callable[[str], None]) -> None:
        """Call a function with the run of each commit of this store that added chunks."""
        self._writer.streamed = streamed

    def changed(self) -> bool:
        """Return whether there may be something new for others than a run's owner."""
        self._check_process()
        return self._writer.changed()

    async def close(self) -> None:
        """Write what is queued, drop the locks, and end the threads. May be called again."""
        if self._pid != os.getpid() or self._closed:
            return

        self._closed = True
        loop = asyncio.get_running_loop()
        try:
            for worker in list(self._locks):
                await self.release_worker(worker)
        finally:
            await loop.run_in_executor(self._reads, self._writer.close)
            self._reads.shutdown()
            self._reader.close()

    def close_now(self) -> None:
        """As `close`, when the loop ended before anybody closed the store."""
        if self._pid != os.getpid() or self._closed:
            return

        self._closed = True
        self._writer.close()
        for lock in self._locks.values():
            lock.release()

        self._locks.clear()
        self._reads.shutdown()
        self._reader.close()

    @property
    def _lock_folder(self) -> Path:
        return self._path.with_name(self._path.name + "-workers")

    def _bury(
        self, worker: int, *, released: bool = False, lease_until: float | None = None
    ) -> asyncio.Future[Any]:
        values = (worker, released, lease_until)
        return self._writer.submit(
            Call(lambda c: c.execute(_SQL["bury_worker"], values).fetchall())
        )

    async def _runs(self, name: str, values: tuple[Any, ...]) -> list[RunRow]:
        rows = await self._read(lambda c: c.execute(_SQL[name], values).fetchall())
        return [_reading.run_row(row) for row in rows]

    async def _read(self, read: Callable[[apsw.Connection], T]) -> T:
        self._check_process()
        if self._closed:
            raise StoreClosedError(f"{self._path} is closed")

        def work() -> T:
            with _open.translated(str(self._path)), self._reader.use() as connection:
                connection.set_busy_timeout(10_000)
                return read(connection)

        return await asyncio.get_running_loop().run_in_executor(self._reads, work)

    def _check_process(self) -> None:
        _forks.check_process(self._pid, f"this connection to {self._path}")
