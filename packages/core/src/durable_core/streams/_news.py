"""Waiting for more of streams: one look at the store for all readers of a client.

What a worker of the same client commits is told at once. For what others commit, the store is asked
every 10 ms whether anybody committed, while somebody waits; only then it is asked, once for all
readers, which streams have grown.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING

from durable_core import _defaults

if TYPE_CHECKING:
    from durable_core.client._changes import Changes
    from durable_core.stores import Store, StreamMark

__all__ = ["News", "Topic"]


class Topic:
    """One run whose streams are read.

    Attributes:
        count: How often a worker of this client added to them.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.count = 0
        self.waiting: set[asyncio.Future[None]] = set()


class News:
    """What all readers of one client wait by. Belongs to its event loop; idle if nobody waits."""

    def __init__(self, store: Store, changes: Changes) -> None:
        self._store = store
        self._changes = changes
        self._topics: weakref.WeakValueDictionary[str, Topic] = weakref.WeakValueDictionary()
        # The stream, and what the reader knows of it.
        self._waiting: dict[asyncio.Future[None], tuple[str, str, StreamMark]] = {}
        self._looking: asyncio.Task[None] | None = None

    def topic(self, run_id: str) -> Topic:
        """Return the topic of a run; the reader keeps it for as long as it reads."""
        found = self._topics.get(run_id)
        if found is None:
            self._store.listen(self._tell)
            found = self._topics[run_id] = Topic(run_id)

        return found

    def seen(self, topic: Topic) -> tuple[int, int]:
        """Return where a reader is; it asks before it reads, and waits from there."""
        return self._changes.count, topic.count

    async def wait(
        self, topic: Topic, name: str, mark: StreamMark, *, since: tuple[int, int]
    ) -> None:
        """Return when there may be more of a stream than its mark says.

        Args:
            topic: Of the run.
            name: Of the stream.
            mark: As it was read.
            since: What `seen` returned before.

        Raises:
            StoreError: The store cannot be read.
        """
        if since != self.seen(topic):
            return

        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = topic.run_id, name, mark
        topic.waiting.add(future)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(since[0]), name="durable-streams")

        try:
            await future
        finally:
            self._waiting.pop(future, None)
            topic.waiting.discard(future)

    async def close(self) -> None:
        """Wake everybody up, and end."""
        for future in self._waiting:
            _settle(future)

        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _tell(self, run_id: str) -> None:
        topic = self._topics.get(run_id)
        if topic is not None:
            topic.count += 1
            for future in topic.waiting:
                _settle(future)

    async def _look(self, seen: int) -> None:
        """Wake those whose streams have grown, for as long as anybody waits."""
        while self._waiting:
            await self._changes.wait(timeout=1.0, interval=_defaults.STREAM_LOOK, since=seen)
            seen = self._changes.count
            waiting = [(f, w) for f, w in self._waiting.items() if not f.done()]
            wanted = list(dict.fromkeys((run, name) for _, (run, name, _) in waiting))
            try:
                found = dict(zip(wanted, await self._store.stream_marks(wanted), strict=True))
            except Exception as error:  # noqa: BLE001  # for those who wait
                for future, _ in waiting:
                    if not future.done():
                        future.set_exception(error)

                return

            for future, (run, name, mark) in waiting:
                if found[run, name] != mark:
                    _settle(future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
