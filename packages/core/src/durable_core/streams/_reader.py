"""Reading a stream: from any offset, live, in any process, without the code of the run.

A reader holds one page in memory. It needs no clean-up: between two items it holds nothing open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from durable_core.exceptions import StreamError, WorkflowNotFoundError
from durable_core.payloads import _chunks, _json

from ._items import Collected, StreamItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_core.client import Client
    from durable_core.stores import StreamChunk, StreamPage

    from ._news import Topic

__all__ = ["StreamReader"]

T = TypeVar("T")

_ITEMS = 500


class StreamReader(AsyncIterator[T]):
    """Follows one stream of a run, in order, until it was ended or its run has.

    Iterating yields the values of chunks as they come, also of an attempt that fails later::

        async for token in handle.stream("tokens", result_type=str):
            print(token, end="", flush=True)

    A retried activity writes its text anew. Whoever must show every text once iterates over
    `items`, and drops what a reset voids, as `Collected` does; or calls `collect`, which returns
    what counts in the end. One task reads at a time; a wait that is cancelled loses nothing.

    Raises (while reading):
        StreamError: The run has ended without this stream, or with fewer items; or they were
            purged.
        WorkflowNotFoundError: There is no such run, or it was purged.
        DecodeError: A chunk does not fit ``result_type``.
        StoreError: The store cannot be read.
    """

    def __init__(
        self,
        client: Client,
        workflow_id: str,
        run_id: str | None,
        name: str,
        *,
        from_offset: int,
        result_type: Any,
    ) -> None:
        _chunks.check_name(name)
        if from_offset < 0:
            raise ValueError(f"from_offset must be 0 or more, got {from_offset}")

        self._client = client
        self._workflow_id = workflow_id
        self._run_id = run_id
        self._name = name
        self._offset = from_offset
        self._type = result_type
        self._topic: Topic | None = None
        self._page: deque[StreamChunk] = deque()
        self._over = False

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self._name

    @property
    def offset(self) -> int:
        """Where the next item stands: from there a later reader goes on."""
        return self._offset

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> T:
        """Return the value of the next chunk, once there is one."""
        while True:
            item = await self.next_item()
            if item is None:
                raise StopAsyncIteration

            if item.kind == "chunk":
                return cast("T", item.value)

    def items(self) -> AsyncIterator[StreamItem[T]]:
        """Return what iterates over all items, resets and the end among them."""
        return _Items(self)

    async def collect(self) -> list[T]:
        """Return the values that count, once the stream was ended or its run has."""
        collected = Collected[T]()
        async for item in self.items():
            collected.add(item)

        return list(collected.values)

    async def next_item(self) -> StreamItem[Any] | None:
        """Return the next item, once there is one; None when nothing more comes."""
        while not self._page and not self._over:
            await self._turn_page()

        if not self._page:
            return None

        item = self._item_of(self._page[0])
        self._page.popleft()
        self._offset += 1
        return item

    async def _turn_page(self) -> None:
        client, news = self._client, self._client.streams
        if self._topic is None:
            # A later run of the same id is another one.
            row = await client.run_row(self._workflow_id, self._run_id)
            self._topic = news.topic(row.run_id)

        since = news.seen(self._topic)
        run_id = self._topic.run_id
        page = await client.store.read_stream(run_id, self._name, offset=self._offset, limit=_ITEMS)
        self._check(page, await self._others(page))
        if page.chunks:
            self._page.extend(page.chunks)
        elif _is_over(page):
            self._over = True
        else:
            with client.clock.waiting():
                await news.wait(self._topic, self._name, page.mark, since=since)

    async def _others(self, page: StreamPage) -> Sequence[str]:
        """Return which streams there are instead, if that is of interest."""
        if self._topic is None or page.row is not None or page.status in ("", "running"):
            return ()

        return [row.name for row in await self._client.store.streams(self._topic.run_id)]

    def _check(self, page: StreamPage, others: Sequence[str]) -> None:
        """Check that what is asked for is there, or may come to be.

        Raises:
            StreamError: It does not.
            WorkflowNotFoundError: The run was purged.
        """
        run, name, row = f"run {self._workflow_id!r}", self._name, page.row
        if not page.status:
            raise WorkflowNotFoundError(
                f"{run} is not there any more: it had ended, and was purged"
            )

        if row is None:
            if page.status != "running":
                there = ", ".join(map(repr, others)) or "none"
                raise StreamError(
                    f"{run} has ended ({page.status}) without a stream {name!r}; it has: {there}"
                )
        elif self._offset < row.kept:
            raise StreamError(
                f"the stream {name!r} of {run} was purged up to offset {row.kept}, and offset "
                f"{self._offset} was asked for: the result of the run is kept longer. See: durable "
                f"show {self._workflow_id}"
            )
        elif self._offset > row.length and _is_over(page):
            raise StreamError(
                f"the stream {name!r} of {run} has ended with {row.length} items, and offset "
                f"{self._offset} was asked for"
            )

    def _item_of(self, chunk: StreamChunk) -> StreamItem[Any]:
        value, since, again = None, None, ()
        if chunk.kind == "chunk":
            what = f"chunk {chunk.offset} of the stream {self._name!r}"
            if self._type is None:
                value = _json.decode_untyped(chunk.data, what=what)
            else:
                value = _json.decode(chunk.data, self._type, what=what)
        elif chunk.kind == "reset" and chunk.number >= 0:
            since = chunk.number, chunk.seq
            again = tuple(_json.decode_untyped(chunk.data, what=f"reset {chunk.offset}"))

        of_an_activity = chunk.seq > 0 and since is None
        return StreamItem(
            offset=chunk.offset,
            kind=chunk.kind,
            value=value,
            activity_id=str(chunk.seq) if of_an_activity else None,
            attempt=chunk.attempt,
            time=chunk.time,
            since=since,
            again=again,
            activation=chunk.number if chunk.number >= 0 and since is None else None,
        )


class _Items(AsyncIterator[StreamItem[T]], Generic[T]):
    """Iterates over all items of a reader."""

    def __init__(self, reader: StreamReader[T]) -> None:
        self._reader = reader

    async def __anext__(self) -> StreamItem[T]:
        """Return the next item, once there is one."""
        item = await self._reader.next_item()
        if item is None:
            raise StopAsyncIteration

        return item


def _is_over(page: StreamPage) -> bool:
    """Return whether nothing can be added any more."""
    return page.status != "running" or (page.row is not None and page.row.ended >= 0)
