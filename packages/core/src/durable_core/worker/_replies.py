"""What became of updates, and who of this process waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from durable_core.history import AnswerUpdate, UpdateReceived
from durable_core.stores import ReplyRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from durable_core.history import Activation, Failure, Packer

__all__ = ["Replies", "Watch", "replies_of"]


def replies_of(
    activation: Activation | None, rejected: Mapping[str, Failure], packer: Packer
) -> list[ReplyRow]:
    """Return the rows that tell what an activation made of updates.

    Args:
        activation: None if nothing came of the events.
        rejected: Why updates were rejected, by id.
        packer: Takes what the answers refer to.
    """
    events: Sequence[object] = () if activation is None else activation.events
    commands: Sequence[object] = () if activation is None else activation.commands
    rows = {
        e.request: ReplyRow(e.request, "accepted") for e in events if isinstance(e, UpdateReceived)
    }
    for answer in (c for c in commands if isinstance(c, AnswerUpdate)):
        rows[answer.request] = ReplyRow(answer.request, "completed", packer.pack(answer))

    for request, failure in rejected.items():
        data = packer.pack(AnswerUpdate(request=request, failure=failure))
        rows[request] = ReplyRow(request, "rejected", data)

    return list(rows.values())


class Watch:
    """One who waits for what becomes of an update. Belongs to the worker's event loop.

    Attributes:
        row: What is known, and durable.
        ended: Whether nothing more comes from here: the run is not loaded here any more.
    """

    def __init__(self) -> None:
        self.row: ReplyRow | None = None
        self.ended = False
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def change(self) -> None:
        """Return when there is news, or when it has ended."""
        await asyncio.shield(self._changed)

    def tell(self, row: ReplyRow) -> None:
        """Bring news."""
        self.row = row
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    def end(self) -> None:
        """Say that there will be no news from here."""
        self.ended = True
        self._changed.set_result(None)


class Replies:
    """The watches of one run that is loaded."""

    def __init__(self) -> None:
        self._watches: dict[str, list[Watch]] = {}
        self._ended = False

    def watch(self, request: str) -> Watch:
        """Return what is told of an update from now on, until it has its answer."""
        watch = Watch()
        if self._ended:
            watch.end()
        else:
            self._watches.setdefault(request, []).append(watch)

        return watch

    def settle(self, rows: Iterable[ReplyRow]) -> None:
        """Tell what is durable now."""
        for row in rows:
            watches = self._watches.get(row.request, [])
            if row.stage != "accepted":
                self._watches.pop(row.request, None)

            for watch in watches:
                watch.tell(row)

    def end(self) -> None:
        """Tell that the run is not here any more."""
        self._ended = True
        watches, self._watches = self._watches, {}
        for watch in (w for some in watches.values() for w in some):
            watch.end()
