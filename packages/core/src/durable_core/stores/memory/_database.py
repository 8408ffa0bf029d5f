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
from durable_core.history import (
    Packer,
    activation_from,
    event_from,
    references,
    resolve,
    start_from,
)
from durable_core.stores import _family
from durable_core.stores._profiles import ProfileRow, clash
from durable_core.stores._questions import Answer, Question
from durable_core.stores._rows import (
    Append,
    Arrivals,
    Health,
    InboxRow,
    Loaded,
    NewRun,
    Outcome,
    PendingRow,
    ReplyRow,
    RequestFilter,
    RequestRow,
    Reuse,
    RunRow,
)
from durable_core.stores._stalls import Instance, may_try

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
    profile: ProfileRow | None = None


class Database:
    """Tables as mappings. Not safe for threads by itself.

    Attributes:
        version: Grows with every change.
        kinds: The types of search attributes, by namespace and name.
        questions: Queries of other processes by number, each with its answer.
        question_numbers: Numbers for them.
    """

    def __init__(self) -> None:
        self.version = 0
        self._runs: dict[str, _Run] = {}
        self._items: dict[tuple[str, str], bytes] = {}
        self._workers: dict[int, _Worker] = {}
        self._inbox_numbers = itertools.count(1)
        self._worker_numbers = itertools.count(1)
        self.kinds: dict[tuple[str, str], str] = {}
        self.questions: dict[int, tuple[Question, Answer | None]] = {}
        self.question_numbers = itertools.count(1)

    # Writing

    def create(
        self,
        row: RunRow,
        start: bytes,
        items: Mapping[str, bytes],
        reuse: Reuse,
        inbox: Sequence[InboxRow],
        profile: ProfileRow | None,
    ) -> Outcome:
        """Create a run without an owner."""
        self._check_kinds(profile)
        if self._in_use(row, reuse):
            return Outcome.ID_IN_USE

        run = self._runs[row.run_id] = _Run(row, start)
        self._show(run, profile)
        for event in inbox:
            self._put(run, event)

        self._add_items(row.lineage, items)
        self.version += 1
        return Outcome.ACCEPTED

    def append(self, append: Append) -> Outcome:
        """Add to a run; see `Store.append`."""
        if not self.alive(append.owner):
            return Outcome.REFUSED

        self._check_kinds(append.profile)
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
        for first in append.revives:
            chain = [r.row for r in self._runs.values() if r.row.first == first]
            if chain:
                last = max(chain, key=lambda r: (r.started, r.run_id))
                self.revive(last.run_id, reopen=True)

        if append.successor is not None:
            self._hand_over(run, append.successor)

        for child in append.children:
            made = self.create(child.row, child.start, child.items, child.reuse, (), None)
            if append.status == "running":
                there = made is Outcome.ACCEPTED
                self._put(run, child.started if there else child.refused)

        for post in append.posts:
            target = self.find(post.namespace, post.workflow_id, None)
            there = (
                target is not None
                and target.status == "running"
                and post.run_id
                in ({target.run_id} if post.exact else {"", target.run_id, target.first})
            )
            heard = post.told if there else post.missed
            if target is not None and there:
                self._put(self._runs[target.run_id], post.event)

            if heard is not None and append.status == "running":
                self._put(run, heard)

        if append.status != "running":
            self._end_children(append.run_id, append.time)

        self.version += 1
        return Outcome.ACCEPTED

    def _hand_over(self, run: _Run, successor: NewRun) -> None:
        """Let another run take the place of one, with what that has not read."""
        row, start, items = successor.row, successor.start, successor.items
        self.create(row, start, items, successor.reuse, (), successor.profile)
        other = self._runs[successor.row.run_id]
        for number, event in run.inbox.items():
            record = event_from(event.data)
            if not _family.is_passed_on(record):
                continue

            items = self.items(run.row.lineage, references(record))
            data = Packer.pack_whole(resolve(record, items))
            other.inbox[number] = replace(event, data=data)

        run.inbox.clear()
        run.row = replace(run.row, successor=other.row.run_id)

    def _end_children(self, parent_run: str, time: float) -> None:
        """Do to the open children of a run that ended what their policies say."""
        parent = self._runs[parent_run].row.workflow_id
        for run in list(self._runs.values()):
            row = run.row
            if row.parent != parent_run or row.status != "running":
                continue

            if row.policy == "request_cancel":
                self._put(run, _family.asked_to_end(parent, parent_run, time))
            elif row.policy != "abandon":
                number, fence = row.next_number, row.fence + 1
                data = _family.ended(
                    parent, lineage=row.lineage, number=number, fence=fence, time=time
                )
                self.end(row.run_id, time, data)

    def _may(self, run: _Run, append: Append) -> bool:
        row = run.row
        unfit = {"completed", "continued_as_new"}
        reopens = append.reopen and row.status not in unfit and self._open(row) is None
        if row.fence != append.expected_fence or not (row.status == "running" or reopens):
            return False

        if append.number is not None and row.next_number != append.number:
            return False

        free = row.owner is None or row.owner == append.owner or not self.alive(row.owner)
        may = free and row.paused is None if append.claim else row.owner == append.owner
        if not may:
            return False

        if not {f"answer:{seq}" for seq in append.withdrawn}.isdisjoint(_requests_in(run)):
            return False

        passes_on = append.status in {"running", "continued_as_new"}
        return passes_on or len(run.inbox) == len(append.taken)

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

        self._show(run, append.profile)
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

    def _check_kinds(self, profile: ProfileRow | None) -> None:
        for name, kind in () if profile is None else profile.kinds:
            assert profile is not None
            known = self.kinds.get((profile.namespace, name), kind)
            if known != kind:
                raise clash(name, kind, known)

    def _show(self, run: _Run, profile: ProfileRow | None) -> None:
        if profile is not None:
            run.profile = profile
            self.kinds.update({(profile.namespace, name): kind for name, kind in profile.kinds})

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

    def answer(self, run_id: str, seq: int, row: InboxRow) -> Outcome:
        """Put the answer to an open request into the inbox of its run."""
        run = self._runs.get(run_id)
        asked = None if run is None else run.pending.get(seq)
        if run is None or run.row.status != "running" or asked is None or asked.kind != "request":
            return Outcome.REFUSED

        if row.request in _requests_in(run):
            return Outcome.REFUSED

        self._put(run, row)
        self.version += 1
        return Outcome.ACCEPTED

    def run_to_end(self, run_id: str) -> tuple[int, int] | None:
        """Return number and fence of an open run; None if it is not open."""
        run = self._runs.get(run_id)
        if run is None or run.row.status != "running":
            return None

        return run.row.next_number, run.row.fence

    def end(self, run_id: str, time: float, data: bytes, told: InboxRow | None = None) -> None:
        """End an open run from outside, with its children, and tell its parent."""
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
        parent = self._runs.get(run.row.parent or "")
        if told is not None and parent is not None and parent.row.status == "running":
            self._put(parent, told)

        self._end_children(run_id, time)
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

        self.questions = {n: q for n, q in self.questions.items() if q[0].run_id in self._runs}
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

    def requests(
        self,
        namespace: str,
        which: RequestFilter,
        after: tuple[float, str, int] | None,
        limit: int,
    ) -> list[RequestRow]:
        """Return requests that nobody has answered, those that wait longest first."""
        found: list[RequestRow] = []
        for run in self._runs.values():
            row = run.row
            if row.namespace != namespace or row.status != "running":
                continue

            answered = _requests_in(run)
            for p in run.pending.values():
                fits = (
                    which.kind in (None, p.name)
                    and which.workflow_type in (None, row.workflow_type)
                    and which.workflow_id in (None, row.workflow_id)
                    and which.run_id in (None, row.run_id)
                )
                if p.kind == "request" and fits and f"answer:{p.seq}" not in answered:
                    found.append(
                        RequestRow(
                            row.run_id,
                            row.workflow_id,
                            row.workflow_type,
                            row.lineage,
                            p.seq,
                            p.since or 0.0,
                            p.data,
                        )
                    )

        found = [r for r in found if after is None or (r.since, r.run_id, r.seq) > after]
        return sorted(found, key=lambda r: (r.since, r.run_id, r.seq))[:limit]

    def shown(self) -> list[tuple[RunRow, ProfileRow | None]]:
        """Return all runs with what they show of themselves."""
        return [(run.row, run.profile) for run in self._runs.values()]

    def profile(self, run_id: str) -> bytes:
        """Return what a run shows of itself; empty if that is nothing."""
        run = self._runs.get(run_id)
        return b"" if run is None or run.profile is None else run.profile.data

    def health(self) -> Health:
        """Return who works here; memory is not damaged."""
        living = [w.identity for w in self._workers.values() if w.alive]
        return Health(problems=(), workers=living)

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
            "never": {r.status for r in rows},
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


def _requests_in(run: _Run) -> set[str]:
    """Return the ids of the events that wait for a run."""
    return {event.request for event in run.inbox.values()}


def _is_free(row: RunRow) -> bool:
    """Return whether nobody owns a run, and nobody has paused it."""
    return row.owner is None and row.paused is None
