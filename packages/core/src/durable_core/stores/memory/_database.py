"""What a store in memory holds, and the rules by which it changes; the same as the SQLite store's.

Every method is one transaction: it changes everything or, when it refuses, nothing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from durable_core.exceptions import StoreCorruptError, WorkflowNotFoundError
from durable_core.history import activation_from, event_from, references, start_from
from durable_core.stores._rows import (
    Append,
    Arrivals,
    Health,
    InboxRow,
    Loaded,
    Outcome,
    PendingRow,
    ReplyRow,
    Reuse,
    RunRow,
)
from durable_core.stores._stalls import Instance, may_try
from durable_core.stores._streams import StreamMark, StreamPage, StreamRow

from ._streams import Streams

__all__ = ["Database"]


class _Worker(msgspec.Struct):
    identity: str
    until: float
    alive: bool = True
    released: bool = False


class _Run(msgspec.Struct):
    row: RunRow
    start: bytes
    activations: list[bytes] = []
    fences: list[int] = []
    pending: dict[int, PendingRow] = {}
    inbox: dict[int, InboxRow] = {}
    replies: dict[str, ReplyRow] = {}
    streams: Streams = msgspec.field(default_factory=Streams)


class Database:
    """Tables as mappings. Not safe for threads by itself.

    Attributes:
        version: Grows with every change.
    """

    def __init__(self) -> None:
        self.version = 0
        self._runs: dict[str, _Run] = {}
        self._items: dict[tuple[str, str], bytes] = {}
        self._workers: dict[int, _Worker] = {}
        self._inbox_numbers = itertools.count(1)
        self._worker_numbers = itertools.count(1)

    # Writing

    def create(
        self,
        row: RunRow,
        start: bytes,
        items: Mapping[str, bytes],
        reuse: Reuse,
        inbox: Sequence[InboxRow],
    ) -> Outcome:
        """Create a run without an owner."""
        if self._in_use(row, reuse):
            return Outcome.ID_IN_USE

        run = self._runs[row.run_id] = _Run(row, start)
        for event in inbox:
            self._put(run, event)

        self._add_items(row.lineage, items)
        self.version += 1
        return Outcome.ACCEPTED

    def append(self, append: Append) -> Outcome:
        """Add to a run; see `Store.append`."""
        if not self.alive(append.owner):
            return Outcome.REFUSED

        if append.start is not None:
            row, start = append.start
            if self._in_use(row, append.reuse):
                return Outcome.ID_IN_USE

            run = _Run(row, start)
        else:
            found = self._runs.get(append.run_id)
            if found is None:
                return Outcome.REFUSED

            run = found

        if not self._may(run, append):
            return Outcome.REFUSED

        self._runs[append.run_id] = run
        self._advance(run, append)
        for post in append.posts:
            target = self.find(post.namespace, post.workflow_id, post.run_id or None)
            there = target is not None and target.status == "running"
            if target is not None and there:
                self._put(self._runs[target.run_id], post.event)

            if append.status == "running":
                self._put(run, post.told if there else post.missed)

        self.version += 1
        return Outcome.ACCEPTED

    def _may(self, run: _Run, append: Append) -> bool:
        row = run.row
        reopens = append.reopen and row.status != "completed" and self._open(row) is None
        if row.fence != append.expected_fence or not (row.status == "running" or reopens):
            return False

        if append.number is not None and row.next_number != append.number:
            return False

        free = row.owner is None or row.owner == append.owner or not self.alive(row.owner)
        may = free and row.paused is None if append.claim else row.owner == append.owner
        if not may:
            return False

        return append.status == "running" or len(run.inbox) == len(append.taken)

    def _advance(self, run: _Run, append: Append) -> None:
        row = run.row
        died = False
        if append.claim and row.owner is not None:
            worker = self._workers.get(row.owner)
            died = worker is not None and not worker.alive and not worker.released

        run.row = replace(
            row,
            fence=append.fence,
            owner=append.owner if append.status == "running" and not append.release else None,
            next_number=row.next_number + (append.number is not None),
            takeovers=0 if append.number is not None else row.takeovers + died,
            status=append.status,
            closed=None if append.status == "running" else append.time,
            stall=append.stall,
            wake=append.wake,
            paused=row.paused if append.status == "running" else None,
        )
        if append.number is not None:
            run.activations.append(append.data)
            run.fences.append(append.fence)

        self._add_items(append.lineage, append.items)
        for pending in append.pending:
            known = run.pending.get(pending.seq)
            # What identifies it stays, as it was when it was asked for.
            run.pending[pending.seq] = (
                pending if known is None else replace(known, due=pending.due, data=pending.data)
            )

        for seq in append.resolved:
            run.pending.pop(seq, None)

        for number in append.taken:
            run.inbox.pop(number, None)

        for event in append.inbox:
            self._put(run, event)

        for reply in append.replies:
            known_reply = run.replies.get(reply.request)
            if known_reply is None or known_reply.stage == "accepted":
                run.replies[reply.request] = reply

        run.streams.add(append.chunks)

    def send(self, run_id: str, row: InboxRow, lineage: str, items: Mapping[str, bytes]) -> Outcome:
        """Put an event into the inbox of an open run."""
        run = self._runs.get(run_id)
        if run is None or run.row.status != "running":
            return Outcome.REFUSED

        if row.request not in run.replies:
            self._put(run, row)
            self._add_items(lineage, items)

        self.version += 1
        return Outcome.ACCEPTED

    def run_to_end(self, run_id: str) -> tuple[int, int] | None:
        """Return number and fence of an open run; None if it is not open."""
        run = self._runs.get(run_id)
        if run is None or run.row.status != "running":
            return None

        return run.row.next_number, run.row.fence

    def end(self, run_id: str, time: float, data: bytes) -> None:
        """End an open run from outside."""
        run = self._runs[run_id]
        run.activations.append(data)
        run.fences.append(run.row.fence + 1)
        run.row = replace(
            run.row,
            status="terminated",
            closed=time,
            fence=run.row.fence + 1,
            next_number=run.row.next_number + 1,
            owner=None,
            stall=None,
            paused=None,
        )
        run.pending.clear()
        run.inbox.clear()
        self.version += 1

    def revive(self, run_id: str, *, reopen: bool) -> Outcome:
        """Open a run again, or let a stalled one be tried now."""
        run = self._runs.get(run_id)
        if run is None:
            return Outcome.REFUSED

        row = run.row
        ended = row.status in {"failed", "canceled", "terminated"} and self._open(row) is None
        if not ((row.status == "running" and row.stall is not None) or (reopen and ended)):
            return Outcome.REFUSED

        stall = row.stall
        if stall is not None:
            stall = json.dumps({**json.loads(stall), "next_try": 0, "revived": 1})

        run.row = replace(row, status="running", closed=None, wake=0.0, stall=stall)
        self.version += 1
        return Outcome.ACCEPTED

    def pause(self, run_id: str, why: str) -> Outcome:
        """Let nobody claim an open run."""
        run = self._runs.get(run_id)
        if run is None or run.row.status != "running" or run.row.paused is not None:
            return Outcome.REFUSED

        run.row = replace(run.row, paused=why)
        self.version += 1
        return Outcome.ACCEPTED

    def unpause(self, run_id: str, row: InboxRow) -> Outcome:
        """Let a paused run go on."""
        run = self._runs.get(run_id)
        if run is None or run.row.paused is None:
            return Outcome.REFUSED

        run.row = replace(run.row, paused=None)
        self._put(run, row)
        self.version += 1
        return Outcome.ACCEPTED

    def register(self, identity: str, until: float) -> int:
        """Add a worker whose lease ends at a time, and return its number."""
        number = next(self._worker_numbers)
        self._workers[number] = _Worker(identity, until)
        self.version += 1
        return number

    def renew(self, worker: int, until: float) -> bool:
        """Let a lease end later; return whether the worker lives."""
        if self.alive(worker):
            self._workers[worker].until = until
            return True

        return False

    def bury_late(self, now: float) -> None:
        """Mark workers that own runs and did not renew their lease as dead."""
        owners = {run.row.owner for run in self._runs.values()}
        for number, worker in self._workers.items():
            if worker.until <= now and number in owners:
                self.bury(number, released=False)

    def bury(self, worker: int, *, released: bool) -> None:
        """Mark a worker as dead, or as shut down."""
        known = self._workers.get(worker)
        if known is not None and known.alive:
            known.alive, known.released = False, released
            self.version += 1

    # Reading

    def alive(self, worker: int | None) -> bool:
        """Return whether a worker lives."""
        return worker is not None and worker in self._workers and self._workers[worker].alive

    def find(self, namespace: str, workflow_id: str, run_id: str | None) -> RunRow | None:
        """Return a run by its unique id, or the open one of a workflow id, else its newest."""
        if run_id is not None:
            run = self._runs.get(run_id)
            if run is None or run.row.namespace != namespace:
                return None

            return run.row if workflow_id in {"", run.row.workflow_id} else None

        rows = [r.row for r in self._runs.values() if r.row.namespace == namespace]
        rows = [row for row in rows if row.workflow_id == workflow_id]
        return max(rows, key=lambda r: (r.status == "running", r.started, r.run_id), default=None)

    def load(self, run_id: str) -> Loaded:
        """Return everything that rebuilds a run."""
        if run_id not in self._runs:
            raise WorkflowNotFoundError(f"run {run_id} is not there any more: it was purged")

        run = self._run(run_id)
        wanted = references(start_from(run.start))
        for data in run.activations:
            wanted += references(activation_from(data))

        for event in run.inbox.values():
            wanted += references(event_from(event.data))

        return Loaded(
            row=run.row,
            start=run.start,
            activations=list(run.activations),
            pending=[run.pending[seq] for seq in sorted(run.pending)],
            inbox=[(number, row.data) for number, row in run.inbox.items()],
            items=self.items(run.row.lineage, wanted),
            streams=run.streams.rows(),
            rejected=[r.request for r in run.replies.values() if r.stage == "rejected"],
        )

    def start(self, run_id: str) -> bytes:
        """Return the start record of a run."""
        return self._run(run_id).start

    def reply(self, run_id: str, request: str) -> ReplyRow | None:
        """Return what became of an update."""
        run = self._runs.get(run_id)
        return None if run is None else run.replies.get(request)

    def items(self, lineage: str, addresses: Sequence[str]) -> dict[str, bytes]:
        """Return items by address."""
        keys = ((lineage, address) for address in addresses)
        return {key[1]: self._items[key] for key in keys if key in self._items}

    def claimable(
        self,
        namespace: str,
        task_queue: str,
        workflow_types: Collection[str],
        by: Instance,
        now: float,
        limit: int,
    ) -> list[RunRow]:
        """Return open runs of a queue that a worker may take now, oldest first."""

        def ready(run: _Run) -> bool:
            row = run.row
            if row.paused is not None:
                return False

            if row.owner is not None:
                return not self.alive(row.owner)

            if row.stall is not None:
                return may_try(row.stall, by, now)

            return row.wake <= now or bool(run.inbox)

        waiting = self._waiting(namespace, task_queue)
        found = [r.row for r in waiting if ready(r) and r.row.workflow_type in workflow_types]
        return sorted(found, key=lambda r: (r.started, r.run_id))[:limit]

    def waiting_types(self, namespace: str, task_queue: str) -> set[str]:
        """Return the workflows of which open runs of a queue are owned by nobody."""
        waiting = self._waiting(namespace, task_queue)
        return {r.row.workflow_type for r in waiting if _is_free(r.row)}

    def orphans(
        self, namespace: str, workflow_type: str, limit: int, after: RunRow | None
    ) -> list[RunRow]:
        """Return open bound runs of a workflow that no living worker owns, oldest first."""
        first = (0.0, "") if after is None else (after.started, after.run_id)
        rows = (run.row for run in self._runs.values())
        found = [
            r
            for r in rows
            if (r.namespace, r.workflow_type) == (namespace, workflow_type)
            and r.bound
            and r.status == "running"
            and r.paused is None
            and not self.alive(r.owner)
            and (r.started, r.run_id) > first
        ]
        return sorted(found, key=lambda r: (r.started, r.run_id))[:limit]

    def purge(self, namespace: str, task_queue: str, before: float, limit: int) -> int:
        """Forget runs that have ended, and workers that are gone; return how many runs."""
        ended = [
            (run.row.closed, run_id)
            for run_id, run in self._runs.items()
            if (run.row.namespace, run.row.task_queue) == (namespace, task_queue)
            and run.row.status != "running"
            and run.row.closed is not None
            and run.row.closed < before
        ]
        for _, run_id in sorted(ended)[:limit]:
            del self._runs[run_id]

        lineages = {run.row.lineage for run in self._runs.values()}
        owners = {run.row.owner for run in self._runs.values()}
        self._items = {k: v for k, v in self._items.items() if k[0] in lineages}
        self._workers = {k: w for k, w in self._workers.items() if w.alive or k in owners}
        return min(len(ended), limit)

    def next_wake(self, namespace: str, task_queue: str) -> float | None:
        """Return when the first sleeping run of a queue is due."""
        waiting = self._waiting(namespace, task_queue)
        return min((r.row.wake for r in waiting if _is_free(r.row)), default=None)

    def arrivals(self, worker: int) -> Arrivals:
        """Return what came for the runs that a worker owns."""
        runs = [
            r for r in self._runs.values() if r.row.owner == worker and r.row.status == "running"
        ]
        inbox = [(r.row.run_id, number, e.data) for r in runs for number, e in r.inbox.items()]
        return Arrivals(
            owned={r.row.run_id for r in runs},
            paused={r.row.run_id for r in runs if r.row.paused is not None},
            inbox=sorted(inbox, key=lambda i: i[1]),
        )

    def newest(
        self, namespace: str, workflow_type: str | None, status: str | None, limit: int
    ) -> list[RunRow]:
        """Return runs, newest first."""
        rows = (run.row for run in self._runs.values())
        found = [
            r
            for r in rows
            if r.namespace == namespace
            and workflow_type in (None, r.workflow_type)
            and status in (None, r.status)
        ]
        return sorted(found, key=lambda r: (r.started, r.run_id), reverse=True)[:limit]

    def health(self) -> Health:
        """Return who works here; memory is not damaged."""
        living = [w.identity for w in self._workers.values() if w.alive]
        return Health(problems=(), workers=living)

    # Streams

    def read_stream(self, run_id: str, name: str, offset: int, limit: int) -> StreamPage:
        """Return chunks of a stream from an offset on."""
        run = self._runs.get(run_id)
        if run is None:
            return StreamPage("")

        return run.streams.read(run.row.status, name, offset, limit)

    def streams(self, run_id: str) -> list[StreamRow]:
        """Return the streams of a run."""
        run = self._runs.get(run_id)
        return [] if run is None else run.streams.rows()

    def stream_marks(self, wanted: Sequence[tuple[str, str]]) -> list[StreamMark]:
        """Return whether there is more of streams."""
        found = [(self._runs.get(run_id), name) for run_id, name in wanted]
        return [
            ("", 0, False) if run is None else run.streams.mark(run.row.status, name)
            for run, name in found
        ]

    def purge_streams(self, namespace: str, task_queue: str, before: float, limit: int) -> int:
        """Forget the chunks of runs that have ended; return of how many streams."""
        gone = 0
        for run in self._runs.values():
            row = run.row
            if (
                (row.namespace, row.task_queue) == (namespace, task_queue)
                and row.status != "running"
                and row.closed is not None
                and row.closed < before
            ):
                gone += run.streams.purge(limit - gone)

        self.version += 1
        return gone

    # Parts

    def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            raise StoreCorruptError(f"run {run_id} is not in the store in memory")

        return run

    def _open(self, row: RunRow) -> RunRow | None:
        """Return the open run of a run's workflow id."""
        found = self.find(row.namespace, row.workflow_id, None)
        return found if found is not None and found.status == "running" else None

    def _in_use(self, row: RunRow, reuse: Reuse) -> bool:
        rows = [
            r.row
            for r in self._runs.values()
            if (r.row.namespace, r.row.workflow_id) == (row.namespace, row.workflow_id)
        ]
        blocking = {
            "always": {"running"},
            "failed": {"running", "completed"},
            "never": {"running", "completed", "failed", "canceled", "terminated"},
        }
        return any(r.status in blocking[reuse] for r in rows)

    def _waiting(self, namespace: str, task_queue: str) -> list[_Run]:
        return [
            run
            for run in self._runs.values()
            if (run.row.namespace, run.row.task_queue) == (namespace, task_queue)
            and run.row.status == "running"
            and not run.row.bound
        ]

    def _put(self, run: _Run, event: InboxRow) -> None:
        if all(event.request != other.request for other in run.inbox.values()):
            run.inbox[next(self._inbox_numbers)] = event

    def _add_items(self, lineage: str, items: Mapping[str, bytes]) -> None:
        for address, data in items.items():
            self._items.setdefault((lineage, address), data)


def _is_free(row: RunRow) -> bool:
    """Return whether nobody owns a run, and nobody has paused it."""
    return row.owner is None and row.paused is None
