"""Events on their way into an activation, and those who wait for them to be durable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from durable_core.history import ChildStarted, Event, Packer, Rewound, Taken, TimerFired
from durable_core.stores import InboxRow

__all__ = [
    "Arrived",
    "Inbox",
    "LostRunError",
    "ReleasedRunError",
    "Waiters",
    "accept",
    "refuse",
    "retrieved",
    "unread",
]


class LostRunError(Exception):
    """Internal: this worker does not own the run any more; look at it anew."""


class ReleasedRunError(LostRunError):
    """Internal: this worker let the run go."""


class Arrived(msgspec.Struct):
    """An event that no committed activation holds.

    Attributes:
        row: Its number in the inbox, if it is there.
        accepted: Ends when it is durable.
        recorded: Whether an activation that is to be set aside holds it, so that it is found again.
    """

    event: Event
    row: int | None = None
    accepted: asyncio.Future[None] | None = None
    recorded: bool = False


class Inbox(msgspec.Struct):
    """How far the inbox of a run that is loaded was read.

    Invariant: what one sender put into it, before the run was loaded, comes before what the same
    sender hands to the owner afterwards.

    Attributes:
        rows: Numbers of those that were handed in.
        sent: Grows when this process puts something into it, perhaps after it was read.
        seen: What ``sent`` was when the last look at it began.
    """

    rows: set[int] = set()
    sent: int = 1
    seen: int = 0


class Waiters:
    """Those who wait for something to change. Belongs to the worker's event loop."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Return at the next change."""
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(change)
        await change

    def wake(self) -> None:
        """Tell all of a change."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)


def accept(arrived: Iterable[Arrived]) -> None:
    """Tell those who wait that their events are durable."""
    for each in arrived:
        if each.accepted is not None and not each.accepted.done():
            each.accepted.set_result(None)


def refuse(arrived: Iterable[Arrived], run_id: str) -> None:
    """Tell those who wait that their events are not taken here."""
    for each in arrived:
        if each.accepted is not None and not each.accepted.done():
            each.accepted.set_exception(LostRunError(run_id))


def unread(arrived: Iterable[Arrived], packer: Packer, now: float) -> list[InboxRow]:
    """Return the inbox rows of events that are only in memory.

    A timer fires again by itself, and what became of the ownership is recorded by the next owner.
    """
    return [
        InboxRow(request=_request(a.event), arrived=now, data=packer.pack(a.event))
        for a in arrived
        if a.row is None
        and not a.recorded
        and not isinstance(a.event, (TimerFired, Taken, Rewound))
    ]


def _request(event: Event) -> str:
    kind = "started" if isinstance(event, ChildStarted) else "seq"
    return getattr(event, "request", "") or f"{kind}:{getattr(event, 'seq', 0)}"


def retrieved(done: asyncio.Future[Any]) -> None:
    """Mark the exception as seen: a run without a waiter has said so in the log and in its row."""
    if not done.cancelled():
        done.exception()
