"""One group commit: a fixed, small number of statements, whatever the number of its members.

Each statement takes the whole batch as one JSON array and one byte string, so that the interpreter
lock is taken a few times per batch and not a few times per row (ENGINE R39). Members stay apart:
one that is refused drops out alone (R3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from durable_core._planted import planted
from durable_core.stores._rows import Append, InboxRow, NewRun, Outcome, Post, Reuse, RunRow

from . import _chunks, _family, _profiles

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import apsw

    from durable_core.stores._profiles import ProfileRow

__all__ = ["Create", "Member", "Send", "write"]


class Create(msgspec.Struct, kw_only=True):
    """A run without an owner."""

    row: RunRow
    start: bytes
    items: Mapping[str, bytes]
    reuse: Reuse
    inbox: Sequence[InboxRow] = ()
    profile: ProfileRow | None = None


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
) -> list[Outcome | Exception]:
    """Write a batch inside the open transaction and return what became of each member.

    Args:
        connection: Its transaction is open.
        sql: The statements.
        members: What is to be written.
        living: Those of the workers that make appends that nobody has found dead.

    Invariant: no two members are of one run, sent events apart.
    """
    outcomes: dict[int, Outcome | Exception] = dict.fromkeys(range(len(members)), Outcome.ACCEPTED)
    for i, member in enumerate(members):
        # Also what would create a run: it must not be there without its first activation.
        if isinstance(member, Append) and member.owner not in living:
            outcomes[i] = Outcome.REFUSED

    profiles = [
        (i, m.profile)
        for i, m in enumerate(members)
        if isinstance(m, (Append, Create)) and m.profile and outcomes[i] is Outcome.ACCEPTED
    ]
    outcomes.update(_profiles.refused(connection, sql, profiles))

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
            pending.add(append.run_id, p.seq, p.kind, p.name, p.key, p.due, p.since, blob=p.data)

        for event in append.inbox:
            inbox.add(append.run_id, event.request, event.arrived, blob=event.data)

        for reply in append.replies:
            replies.add(append.run_id, reply.request, reply.stage, blob=reply.data)

    for append in accepted:
        for run_id in append.revives:
            connection.execute(sql["revive_chain"], (run_id,))

    news = [*_create_others(connection, sql, accepted, items)]
    for run, event in (*news, *_posted(connection, sql, accepted)):
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
    for append in accepted:
        if append.successor is not None:
            _family.hand_over(connection, sql, append.run_id, append.successor.row.run_id)

    _family.end_children(
        connection, sql, {a.run_id: a.time for a in accepted if a.status != "running"}
    )
    kept = [(i, p) for i, p in profiles if outcomes[i] is Outcome.ACCEPTED]
    shown = [(_run_of(members[i]), p) for i, p in kept]
    made = [a.successor for a in accepted if a.successor is not None]
    shown += [(m.row.run_id, m.profile) for m in made if m.profile is not None]
    _profiles.put(connection, sql, shown)

    return list(outcomes.values())


def _posted(
    connection: apsw.Connection, sql: Mapping[str, str], accepted: Sequence[Append]
) -> Iterable[tuple[str, InboxRow]]:
    """Return for which runs there are events of other runs, and answers to these."""
    posts: list[tuple[Append, Post]] = [(a, p) for a in accepted for p in a.posts]
    if not posts:
        return

    asked = _json([[p.namespace, p.workflow_id, p.run_id, int(p.exact)] for _, p in posts])
    rows: Any = connection.execute(sql["find_targets"], (asked,))
    targets: dict[int, str] = dict(rows)
    for i, (append, post) in enumerate(posts):
        target = targets.get(i)
        if target is not None:
            yield target, post.event

        heard = post.missed if target is None else post.told
        if heard is not None and append.status == "running":
            yield append.run_id, heard


def _create_others(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    accepted: Sequence[Append],
    items: _Rows,
) -> Iterable[tuple[str, InboxRow]]:
    """Create the children and successors of runs; return what the parents hear of that."""
    # Successors first: the id of each was in use until this very commit.
    made: list[NewRun] = [a.successor for a in accepted if a.successor is not None]
    made += [child for append in accepted for child in append.children]
    inserted = _insert_runs(connection, sql, [(m.row, m.start, m.reuse) for m in made])
    for each in made:
        if each.row.run_id in inserted:
            _add_items(items, each.row.lineage, each.items.items())

    for append, child in [(a, c) for a in accepted for c in a.children]:
        if append.status == "running":
            is_there = child.row.run_id in inserted
            yield append.run_id, child.started if is_there else child.refused


def _send(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    members: Sequence[Member],
    outcomes: dict[int, Outcome | Exception],
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
    outcomes: dict[int, Outcome | Exception],
) -> None:
    created: list[tuple[int, RunRow, bytes, Reuse]] = []
    for i, member in enumerate(members):
        if outcomes[i] is not Outcome.ACCEPTED:
            continue

        if isinstance(member, Create):
            created.append((i, member.row, member.start, member.reuse))
        elif isinstance(member, Append) and member.start is not None:
            created.append((i, *member.start, member.reuse))

    inserted = _insert_runs(connection, sql, [each for _, *each in created])
    for i, row, *_ in created:
        if row.run_id not in inserted:
            outcomes[i] = Outcome.ID_IN_USE


def _insert_runs(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    created: Sequence[Sequence[Any]],
) -> set[str]:
    """Insert runs, each with its start record and reuse policy; return those that are there now."""
    if not created:
        return set()

    runs, records = _Rows(), _Rows()
    for row, _, reuse in created:
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
            row.first,
            row.parent,
            row.parent_seq,
            row.policy,
        )

    inserted = {r[0] for r in connection.execute(sql["start_runs"], runs.bindings()[:1])}
    for row, data, _ in created:
        if row.run_id in inserted:
            records.add(row.run_id, blob=data)

    if records.rows:
        connection.execute(sql["start_records"], records.bindings())

    return inserted


def _advance(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    appends: Sequence[tuple[int, Append]],
    outcomes: dict[int, Outcome | Exception],
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
            list(a.withdrawn) or None,
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


def _run_of(member: Member) -> str:
    return member.row.run_id if isinstance(member, Create) else member.run_id
