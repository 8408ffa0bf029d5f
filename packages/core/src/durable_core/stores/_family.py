"""What the end of a run does to its children, and to what it has not read."""

from __future__ import annotations

from durable_core import exceptions as ex
from durable_core.history import (
    Activation,
    CancelRequested,
    Event,
    Packer,
    SignalReceived,
    TerminateRun,
    UpdateReceived,
)
from durable_core.payloads._failures import failure_from

from ._rows import InboxRow

__all__ = ["asked_to_end", "ended", "is_passed_on"]


def ended(parent: str, *, lineage: str, number: int, fence: int, time: float) -> bytes:
    """Return the last activation of a child that ends with its parent.

    Args:
        parent: Workflow id of the parent.
        lineage: Of the child.
        number: Of the activation.
        fence: Of the activation.
        time: When the parent ended, in seconds since the epoch.
    """
    failure = failure_from(ex.TerminatedError(f"its parent, run {parent!r}, ended"))
    end = TerminateRun(failure=failure, client=f"run {parent}")
    return Packer(lineage).pack(Activation(number=number, time=time, fence=fence, commands=(end,)))


def asked_to_end(parent: str, parent_run: str, time: float) -> InboxRow:
    """Return the event by which a child is asked to end, since its parent has.

    Args:
        parent: Workflow id of the parent.
        parent_run: Its unique id.
        time: When it ended, in seconds since the epoch.
    """
    request = f"ended:{parent_run}"
    event = CancelRequested(
        request=request,
        reason=f"its parent, run {parent!r}, ended",
        client=f"run {parent}",
        time=time,
    )
    return InboxRow(request=request, arrived=time, data=Packer.pack_whole(event))


def is_passed_on(event: Event) -> bool:
    """Return whether an event that a run has not read is for the run that takes its place.

    Others are answers to what the first one asked for, by the numbers of its commands.
    """
    return isinstance(event, SignalReceived | UpdateReceived | CancelRequested)
