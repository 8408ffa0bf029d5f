"""The children of runs, as the store creates them, and what their parents hear of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable_core import _ids
from durable_core import exceptions as ex
from durable_core.history import (
    ChildEnded,
    ChildStarted,
    CompleteRun,
    ContinueRun,
    FailRun,
    Packer,
    Parent,
    Start,
    StartChild,
    TerminateRun,
)
from durable_core.payloads._failures import failure_from
from durable_core.stores import (
    Append,
    Child,
    InboxRow,
    NewRun,
    Outcome,
    Post,
    Store,
    profile_of_start,
)

from ._arrived import Arrived
from ._replay import Record
from ._start import row_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from durable_core.engine import Run
    from durable_core.history import Activation, Command
    from durable_core.stores import RunRow

__all__ = [
    "children_of",
    "claimed",
    "end_of",
    "heard_of_end",
    "outcome_row",
    "revived",
    "successor_of",
]


def children_of(start: Start, activation: Activation) -> Sequence[Child]:
    """Return the children that an activation starts.

    Args:
        start: Of the run that starts them.
        activation: Of that run.
    """
    return [
        _child(start, command, activation.time)
        for command in activation.commands
        if isinstance(command, StartChild)
    ]


def _child(start: Start, command: StartChild, now: float) -> Child:
    depth = 0 if start.parent is None else start.parent.depth + 1
    begun = Start(
        namespace=start.namespace,
        workflow_id=command.workflow_id,
        run_id=command.run_id,
        workflow_type=command.workflow_type,
        task_queue=command.task_queue,
        time=now,
        args=command.args,
        args_digest=command.digest,
        seed=_ids.seed(),
        effect_scope=command.run_id,
        lineage=command.run_id,
        client=f"run {start.workflow_id}",
        parent=Parent(
            workflow_id=start.workflow_id, run_id=start.run_id, seq=command.seq, depth=depth
        ),
    )
    packer = Packer(command.run_id)
    data = packer.pack(begun)
    row = replace(row_of(begun), parent=start.run_id, parent_seq=command.seq, policy=command.policy)

    def answer(refused: str) -> InboxRow:
        event = ChildStarted(seq=command.seq, refused=refused)
        data = Packer.pack_whole(event)
        return InboxRow(request=f"child:{command.seq}", arrived=now, data=data)

    return Child(
        row=row,
        start=data,
        items=packer.items,
        reuse=command.reuse,
        started=answer(""),
        refused=answer(f"the workflow id {command.workflow_id!r} is in use"),
    )


def successor_of(run: Run, row: RunRow, activation: Activation) -> NewRun | None:
    """Return the run that takes the place of another one by an activation of it, if one does.

    It shows of itself what that one did, but for the words of the moment.

    Args:
        run: The run that ends.
        row: Its row.
        activation: Its last.
    """
    start, shown = run.start, run.profile.record()
    last = activation.commands[-1] if activation.commands else None
    if not isinstance(last, ContinueRun):
        return None

    begun = replace(
        start,
        run_id=last.run_id,
        workflow_type=last.workflow_type,
        task_queue=last.task_queue,
        time=activation.time,
        args=last.args,
        args_digest=last.digest,
        seed=_ids.seed(),
        effect_scope=last.run_id,
        lineage=last.run_id,
        client=f"run {start.workflow_id}",
        attributes=shown.attributes,
        memo_changes=shown.memo,
        continues=start.run_id,
        first_type=start.first_type or start.workflow_type,
        first_digest=start.first_digest or start.args_digest,
    )
    packer = Packer(last.run_id)
    fresh = row_of(begun)
    kept = {name: getattr(row, name) for name in ("first", "parent", "parent_seq", "policy")}
    return NewRun(
        row=replace(fresh, **kept),
        start=packer.pack(begun),
        items=packer.items,
        profile=profile_of_start(begun),
    )


def end_of(seq: int, last: Command) -> ChildEnded | None:
    """Return what a parent hears of the command that ended its child; None if it goes on."""
    match last:
        case CompleteRun():
            return ChildEnded(seq=seq, result=last.result)
        case FailRun() | TerminateRun():
            return ChildEnded(seq=seq, failure=last.failure)
        case _:
            return None


def outcome_row(event: ChildEnded, run_id: str, now: float) -> InboxRow:
    """Return the row for the inbox of a parent that says how a child ended.

    Args:
        event: What it hears.
        run_id: Unique id of the child. One that was taken up again may end again.
        now: Seconds since the epoch.
    """
    request = f"ended:{event.seq}:{run_id}"
    return InboxRow(request=request, arrived=now, data=Packer.pack_whole(event))


def heard_of_end(start: Start, activation: Activation) -> Sequence[Post]:
    """Return what the parent of a run hears of an activation of it."""
    parent = start.parent
    if parent is None or not activation.commands:
        return ()

    event = end_of(parent.seq, activation.commands[-1])
    if event is None:
        return ()

    return [
        Post(
            namespace=start.namespace,
            workflow_id=parent.workflow_id,
            run_id=parent.run_id,
            exact=True,
            event=outcome_row(event, start.run_id, activation.time),
        )
    ]


def revived(run: Run, events: Iterable[Arrived]) -> list[str]:
    """Return the unique ids of the children that are taken up with a run.

    Not of those whose ends it is to hear of: what it made of them stands.
    """
    told = {a.event.seq for a in events if isinstance(a.event, ChildEnded)}
    return [run_id for seq, run_id in run.open_children.items() if seq not in told]


def claimed(
    store: Store, claim: Append, run: Run, events: list[Arrived]
) -> asyncio.Future[Outcome]:
    """Claim a run; if it goes on after its end, together with the children that it waits for.

    Those that ended without a result are taken up with it. How the others ended is added to the
    events: while it was not open nobody told it.
    """
    if not claim.revives:
        return store.append(claim)

    return asyncio.ensure_future(_claimed_again(store, claim, run, events))


async def _claimed_again(store: Store, claim: Append, run: Run, events: list[Arrived]) -> Outcome:
    outcome = await store.append(claim)
    if outcome is not Outcome.ACCEPTED:
        return outcome

    for seq, run_id in run.open_children.items():
        row = await store.find_last(run.start.namespace, run_id)
        if row is None:
            purged = ex.ApplicationError("it had ended, and was purged", type="PurgedError")
            events.append(Arrived(ChildEnded(seq=seq, failure=failure_from(purged))))
        elif row.status != "running":
            last = Record(await store.load(row)).activations[-1].commands[-1]
            if (event := end_of(seq, last)) is not None:
                events.append(Arrived(event))

    return outcome
