"""The tables of a store in memory, and what is read from them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

import msgspec

from durable_core.exceptions import StoreCorruptError, WorkflowNotFoundError
from durable_core.history import (
    activation_from,
    event_from,
    references,
    start_from,
)
from durable_core.stores._profiles import ProfileRow
from durable_core.stores._questions import Answer, Question
from durable_core.stores._rows import (
    Arrivals,
    Health,
    InboxRow,
    Loaded,
    PendingRow,
    ReplyRow,
    RequestFilter,
    RequestRow,
    Reuse,
    RunRow,
)
from durable_core.stores._stalls import Instance, may_try
from durable_core.stores._streams import StreamMark, StreamPage, StreamRow

from ._streams import Streams

__all__ = ["Entry", "Member", "Tables", "requests_in"]


class Member(msgspec.Struct):
    """A worker: alive, dead, or shut down."""

    identity: str
    until: float
    alive: bool = True
    released: bool = False


class Entry(msgspec.Struct):
    """A run, with everything of it."""

    row: RunRow
    start: bytes
    activations: list[bytes] = []
    fences: list[int] = []
    pending: dict[int, PendingRow] = {}
    inbox: dict[int, InboxRow] = {}
    replies: dict[str, ReplyRow] = {}
    profile: ProfileRow | None = None
    streams: Streams = msgspec.field(default_factory=Streams)


class Tables:
    """Tables as mappings. Not safe for threads by itself.

    Attributes:
        version: Grows with every change.
        kinds: The types of search attributes, by namespace and name.
        questions: Queries of other processes by number, each with its answer.
        question_numbers: Numbers for them.
    """

    def __init__(self) -> None:
        self.version = 0
        self._runs: dict[str, Entry] = {}
        self._items: dict[tuple[str, str], bytes] = {}
        self._workers: dict[int, Member] = {}
        self._inbox_numbers = itertools.count(1)
        self._worker_numbers = itertools.count(1)
        self.kinds: dict[tuple[str, str], str] = {}
        self.questions: dict[int, tuple[Question, Answer | None]] = {}
        self.question_numbers = itertools.count(1)

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

        def order(row: RunRow) -> tuple[bool, float, bool, str]:
            return row.status == "running", row.started, row.successor is None, row.run_id

        return max(rows, key=order, default=None)

    def find_last(self, namespace: str, first: str) -> RunRow | None:
        """Return the last run of the chain that began with a run."""
        rows = (run.row for run in self._runs.values() if run.row.namespace == namespace)
        found = (r for r in rows if first in {r.run_id, r.first} and r.successor is None)
        return next(found, None)

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

        def ready(run: Entry) -> bool:
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

            answered = requests_in(run)
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

    def _run(self, run_id: str) -> Entry:
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

    def _waiting(self, namespace: str, task_queue: str) -> list[Entry]:
        return [
            run
            for run in self._runs.values()
            if (run.row.namespace, run.row.task_queue) == (namespace, task_queue)
            and run.row.status == "running"
            and not run.row.bound
        ]


def requests_in(run: Entry) -> set[str]:
    """Return the ids of the events that wait for a run."""
    return {event.request for event in run.inbox.values()}


def _is_free(row: RunRow) -> bool:
    """Return whether nobody owns a run, and nobody has paused it."""
    return row.owner is None and row.paused is None
