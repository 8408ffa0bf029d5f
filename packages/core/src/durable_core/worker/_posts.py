"""What a run tells other runs, as events for their inboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_core.history import (
    CancelRequested,
    Packer,
    RunTold,
    SignalReceived,
    TellRun,
)
from durable_core.stores import InboxRow, Post

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_core.history import Activation, Start

__all__ = ["posts_of"]


def posts_of(start: Start, activation: Activation) -> Sequence[Post]:
    """Return what an activation tells other runs.

    Args:
        start: Of the run that tells it.
        activation: Of that run.
    """
    return [
        _post(start, command, activation.time)
        for command in activation.commands
        if isinstance(command, TellRun)
    ]


def _post(start: Start, command: TellRun, now: float) -> Post:
    request, client = f"{start.run_id}:{command.seq}", f"run {start.workflow_id}"
    event: SignalReceived | CancelRequested
    if command.signal:
        event = SignalReceived(
            name=command.signal, args=command.args, request=request, client=client, time=now
        )
    else:
        event = CancelRequested(request=request, reason=command.reason, client=client, time=now)

    def answer(refused: str) -> InboxRow:
        told = RunTold(seq=command.seq, refused=refused)
        return InboxRow(request=f"told:{command.seq}", arrived=now, data=Packer.pack_whole(told))

    return Post(
        namespace=start.namespace,
        workflow_id=command.workflow_id,
        run_id=command.run_id,
        event=InboxRow(request=request, arrived=now, data=Packer.pack_whole(event)),
        told=answer(""),
        missed=answer("there is no such run, or it has ended"),
    )
