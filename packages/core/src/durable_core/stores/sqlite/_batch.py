"""One group commit: a fixed, small number of statements, whatever the number of its members.

Each statement takes the whole batch as one JSON array and one byte string, so that the interpreter
lock is taken a few times per batch and not a few times per row (ENGINE R39). Members stay apart:
one that is refused drops out alone (R3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from durable_core._planted import planted
from durable_core.stores._rows import Append, InboxRow, Outcome, Post, Reuse, RunRow

from . import _chunks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import apsw

__all__ = ["Create", "Member", "Send", "write"]


class Create(msgspec.Struct, kw_only=True):
    """A run without an owner."""

    row: RunRow
    start: bytes
    items: Mapping[str, bytes]
    reuse: Reuse
    inbox: Sequence[InboxRow] = ()


class Send(msgspec.Struct, kw_only=True):
    """An event for a run, whoever owns it."""

    run_id: str
    row: InboxRow
    lineage: str
    items: Mapping[str, bytes]


Member = Append | Create | Send

_encoder = msgspec.json.Encoder()


def _json(rows: list[Any]) -> str:
    # As text: SQLite takes bytes for its own binary form.
    return _encoder.encode(rows).decode()


class _Rows(msgspec.Struct):
    """Rows of one statement: a JSON array, and the blobs that it points into."""

    rows: list[list[Any]] = []
    blobs: list[bytes] = []
    size: int = 0

    def add(self, *values: Any, blob: bytes | None = None) -> None:
        row = list(values)
        if blob is not None:
            row += [self.size, len(blob)]
            self.blobs.append(blob)
            self.size += len(blob)

        self.rows.append(row)

    def bindings(self) -> tuple[str, bytes]:
        return _json(self.rows), b"".join(self.blobs)


def write(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    members: Sequence[Member],
    living: Collection[int],
) -> list[Outcome]:
    """Write a batch inside the open transaction and return what became of each member.

    Args:
        connection: Its transaction is open.
        sql: The statements.
        members: What is to be written.
        living: Those of the workers that make appends that nobody has found dead.

    Invariant: no two members are of one run, sent events apart.
    """
    outcomes = dict.fromkeys(range(len(members)), Outcome.ACCEPTED)
    for i, member in enumerate(members):
        # Also what would create a run: it must not be there without its first activation.
        if isinstance(member, Append) and member.owner not in living:
            outcomes[i] = Outcome.REFUSED

    # First, so that a run whose last activation is in this batch is still open to them; it is then
    # refused, and takes them up.
    _send(connection, sql, members, outcomes)
    _create_runs(connection, sql, members, outcomes)
    appends = [
        (i, m)
        for i, m in enumerate(members)
        if isinstance(m, Append) and outcomes[i] is Outcome.ACCEPTED
    ]
    accepted = _advance(connection, sql, appends, outcomes)
    if planted("batch.last") and len(accepted) > 1:
        accepted.pop()

    activations, items, pending, inbox, replies = (_Rows() for _ in range(5))
    resolved: list[list[Any]] = []
    taken: list[int] = []
    for i, member in enumerate(members):
        if outcomes[i] is Outcome.ACCEPTED and isinstance(member, (Create, Send)):
            lineage = member.row.lineage if isinstance(member, Create) else member.lineage
            _add_items(items, lineage, member.items.items())
            if isinstance(member, Create):
                for event in member.inbox:
                    inbox.add(member.row.run_id, event.request, event.arrived, blob=event.data)

    for append in accepted:
        if append.number is not None:
            activations.add(
                append.run_id, append.number, append.fence, append.time, blob=append.data
            )

        _add_items(items, append.lineage, append.items.items())
        resolved += [[append.run_id, seq] for seq in append.resolved]
        taken += append.taken
        for p in append.pending:
            pending.add(append.run_id, p.seq, p.kind, p.name, p.key, p.due, blob=p.data)

        for event in append.inbox:
            inbox.add(append.run_id, event.request, event.arrived, blob=event.data)

        for reply in append.replies:
            replies.add(append.run_id, reply.request, reply.stage, blob=reply.data)

    for run, event in _posted(connection, sql, accepted):
        inbox.add(run, event.request, event.arrived, blob=event.data)

    for name, rows in (
        ("insert_activations", activations),
        ("insert_items", items),
        ("put_pending", pending),
        ("insert_inbox", inbox),
        ("put_replies", replies),
    ):
        if rows.rows:
            connection.execute(sql[name], rows.bindings())

    if resolved:
        connection.execute(sql["delete_pending"], (_json(resolved),))

    if taken:
        connection.execute(sql["delete_inbox"], (_json(taken),))

    _chunks.add(connection, sql, accepted)
    return list(outcomes.values())


def _posted(
    connection: apsw.Connection, sql: Mapping[str, str], accepted: Sequence[Append]
) -> Iterable[tuple[str, InboxRow]]:
    """Return for which runs there are events of other runs, and answers to these."""
    posts: list[tuple[Append, Post]] = [(a, p) for a in accepted for p in a.posts]
    if not posts:
        return

    asked = _json([[p.namespace, p.workflow_id, p.run_id] for _, p in posts])
    rows: Any = connection.execute(sql["find_targets"], (asked,))
    targets: dict[int, str] = dict(rows)
    for i, (append, post) in enumerate(posts):
        target = targets.get(i)
        if target is not None:
            yield target, post.event

        if append.status == "running":
            yield append.run_id, post.missed if target is None else post.told


def _send(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    members: Sequence[Member],
    outcomes: dict[int, Outcome],
) -> None:
    sent = [(i, m) for i, m in enumerate(members) if isinstance(m, Send)]
    if not sent:
        return

    rows = _Rows()
    for _, m in sent:
        rows.add(m.run_id, m.row.request, m.row.arrived, blob=m.row.data)

    connection.execute(sql["insert_sent"], rows.bindings())
    # Not "those inserted": one that was sent before is accepted, too.
    runs = _json([m.run_id for _, m in sent])
    opened = {r[0] for r in connection.execute(sql["open_runs"], (runs,))}
    for i, m in sent:
        if m.run_id not in opened:
            outcomes[i] = Outcome.REFUSED


def _create_runs(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    members: Sequence[Member],
    outcomes: dict[int, Outcome],
) -> None:
    runs, records = _Rows(), _Rows()
    created: list[tuple[int, RunRow, bytes, Reuse]] = []
    for i, member in enumerate(members):
        if isinstance(member, Create):
            created.append((i, member.row, member.start, member.reuse))
        elif (
            isinstance(member, Append)
            and member.start is not None
            and outcomes[i] is Outcome.ACCEPTED
        ):
            created.append((i, *member.start, member.reuse))

    if not created:
        return

    for _, row, _, reuse in created:
        runs.add(
            row.run_id,
            row.namespace,
            row.workflow_id,
            row.workflow_type,
            row.task_queue,
            int(row.bound),
            row.started,
            row.lineage,
            reuse,
        )

    inserted = {r[0] for r in connection.execute(sql["start_runs"], runs.bindings()[:1])}
    for i, row, data, _ in created:
        if row.run_id in inserted:
            records.add(row.run_id, blob=data)
        else:
            outcomes[i] = Outcome.ID_IN_USE

    if records.rows:
        connection.execute(sql["start_records"], records.bindings())


def _advance(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    appends: Sequence[tuple[int, Append]],
    outcomes: dict[int, Outcome],
) -> list[Append]:
    if not appends:
        return []

    rows = _Rows()
    for _, a in appends:
        closed = a.time if a.status != "running" else None
        drops = closed is not None and not a.taken and planted("close.unread")
        if drops or (a.claim and planted("inbox.dropped")):
            connection.execute(sql["drop_inbox"], (a.run_id,))

        rows.add(
            a.run_id,
            a.expected_fence,
            a.fence,
            int(a.claim),
            a.owner,
            a.number,
            a.status,
            closed,
            a.stall,
            len(a.taken),
            int(a.release),
            int(a.reopen),
            a.wake,
        )

    moved = {r[0] for r in connection.execute(sql["advance_runs"], rows.bindings()[:1])}
    accepted: list[Append] = []
    for i, append in appends:
        if append.run_id in moved or planted("append.refused"):
            accepted.append(append)
        else:
            outcomes[i] = Outcome.REFUSED

    return accepted


def _add_items(rows: _Rows, lineage: str, items: Iterable[tuple[str, bytes]]) -> None:
    # Sorted by key, so that two writers never wait for each other in opposite orders (R3).
    for address, data in sorted(items):
        rows.add(lineage, address, blob=data)
