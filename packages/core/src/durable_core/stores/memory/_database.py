"""What a store in memory holds, and the rules by which it changes; the same as the SQLite store's.

Every method is one transaction: it changes everything or, when it refuses, nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from durable_core.history import (
    Packer,
    event_from,
    references,
    resolve,
)
from durable_core.stores import _family
from durable_core.stores._profiles import ProfileRow, clash
from durable_core.stores._rows import (
    Append,
    InboxRow,
    NewRun,
    Outcome,
    Reuse,
    RunRow,
)

from ._tables import Entry, Member, Tables, requests_in

__all__ = ["Database"]


class Database(Tables):
    """The rules by which the tables change. Not safe for threads by itself."""

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

        run = self._runs[row.run_id] = Entry(row, start)
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

            run = Entry(row, start)
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
            last = self.find_last(run.row.namespace, first)
            if last is not None and last.status != "running":
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

    def _hand_over(self, run: Entry, successor: NewRun) -> None:
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
        other.row = replace(other.row, paused=run.row.paused)
        run.row = replace(run.row, successor=other.row.run_id, paused=None)

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

    def _may(self, run: Entry, append: Append) -> bool:
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

        if not {f"answer:{seq}" for seq in append.withdrawn}.isdisjoint(requests_in(run)):
            return False

        passes_on = append.status in {"running", "continued_as_new"}
        return passes_on or len(run.inbox) == len(append.taken)

    def _advance(self, run: Entry, append: Append) -> None:
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
            paused=row.paused if append.status in {"running", "continued_as_new"} else None,
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

        run.streams.add(append.chunks)

    def _check_kinds(self, profile: ProfileRow | None) -> None:
        for name, kind in () if profile is None else profile.kinds:
            assert profile is not None
            known = self.kinds.get((profile.namespace, name), kind)
            if known != kind:
                raise clash(name, kind, known)

    def _show(self, run: Entry, profile: ProfileRow | None) -> None:
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

        if row.request in requests_in(run):
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
        self._workers[number] = Member(identity, until)
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

    def _put(self, run: Entry, event: InboxRow) -> None:
        if all(event.request != other.request for other in run.inbox.values()):
            run.inbox[next(self._inbox_numbers)] = event

    def _add_items(self, lineage: str, items: Mapping[str, bytes]) -> None:
        for address, data in items.items():
            self._items.setdefault((lineage, address), data)
