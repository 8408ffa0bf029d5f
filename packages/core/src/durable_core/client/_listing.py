"""Runs by the page, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Self
from zlib import crc32

import msgspec

from durable_core.exceptions import CallError
from durable_core.stores._filter import STATUSES
from durable_core.stores._filter_parser import parse
from durable_core.stores._visibility import Place

from ._execution import execution_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from durable_core.stores._visibility import Listed

    from ._client import Client
    from ._execution import WorkflowExecution
    from ._history import WorkflowHistory

__all__ = [
    "WorkflowExecutionAsyncIterator",
    "WorkflowExecutionCount",
    "WorkflowExecutionCountAggregationGroup",
    "counted",
    "page_of",
]

_CHECKSUM = 4
_places = msgspec.msgpack.Decoder(tuple[bytes, Place])


@dataclass(frozen=True, slots=True)
class WorkflowExecutionCountAggregationGroup:
    """How many runs of one status there are.

    Attributes:
        count: So many.
        group_values: The status, as filters name it.
    """

    count: int
    group_values: Sequence[str]


@dataclass(frozen=True, slots=True)
class WorkflowExecutionCount:
    """How many runs there are.

    Attributes:
        count: So many in all.
        groups: Those of each status, if that was asked for.
    """

    count: int
    groups: Sequence[WorkflowExecutionCountAggregationGroup]


async def counted(client: Client, query: str | None) -> WorkflowExecutionCount:
    """Return how many runs fit a filter; see `Client.count_workflows`."""
    visibility = client.store.visibility
    selection = parse(query, await visibility.kinds(client.namespace), counts=True)
    found = await visibility.count(client.namespace, selection.where)
    groups = [
        WorkflowExecutionCountAggregationGroup(found[status], [name])
        for name, status in STATUSES.items()
        if found.get(status)
    ]
    return WorkflowExecutionCount(sum(found.values()), groups if selection.grouped else [])


async def page_of(
    client: Client, query: str | None, token: bytes | None, size: int
) -> tuple[Sequence[Listed], bytes | None]:
    """Return a page of runs, and the token of the next one, if there is one.

    Raises:
        WorkflowFilterError: The query cannot be read.
        CallError: The token is not of this query.
    """
    visibility = client.store.visibility
    selection = parse(query, await visibility.kinds(client.namespace))
    after = None if token is None else _place(token, _digest(client, query))
    found = await visibility.page(client.namespace, selection, after=after, limit=size + 1)
    page = found[:size]
    if len(found) <= size or not page:
        return page, None

    return page, _token(page[-1], _digest(client, query))


def _digest(client: Client, query: str | None) -> bytes:
    """Return what tells the pages of one list from those of another."""
    return blake2b(f"{client.namespace}\0{query or ''}".encode(), digest_size=8).digest()


def _token(last: Listed, digest: bytes) -> bytes:
    place = Place(last.value, last.row.started, last.row.run_id)
    data = msgspec.msgpack.encode((digest, place))
    return data + crc32(data).to_bytes(_CHECKSUM, "big")


def _place(token: bytes, digest: bytes) -> Place:
    try:
        data = memoryview(token)[:-_CHECKSUM]
        if crc32(data).to_bytes(_CHECKSUM, "big") == bytes(token[-_CHECKSUM:]):
            of, place = _places.decode(data)
            if of == digest:
                return place
    except (TypeError, ValueError):
        pass

    raise CallError(
        f"the page token {token!r:.60} is not of this list: pass the next_page_token of an "
        "iterator over the same query, namespace and store, or None to begin anew"
    )


class WorkflowExecutionAsyncIterator:
    """Iterates over runs, page by page: ``async for run in client.list_workflows(…)``.

    Belongs to the event loop of its client.
    """

    def __init__(
        self,
        client: Client,
        query: str | None,
        *,
        limit: int | None,
        page_size: int,
        next_page_token: bytes | None,
    ) -> None:
        if page_size < 1:
            raise ValueError(f"page_size must be 1 or more, got {page_size}")

        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 (none) or more, or None for all, got {limit}")

        self._client = client
        self._query = query
        self._limit = limit
        self._page_size = page_size
        self._token = next_page_token
        self._page: Sequence[WorkflowExecution] | None = None
        self._index = 0
        self._yielded = 0

    @property
    def current_page_index(self) -> int:
        """Index in the current page of the run that comes next."""
        return self._index

    @property
    def current_page(self) -> Sequence[WorkflowExecution] | None:
        """The current page; None before the first one."""
        return self._page

    @property
    def next_page_token(self) -> bytes | None:
        """Where the next page begins; None if there is none."""
        return self._token

    async def fetch_next_page(self, *, page_size: int | None = None) -> None:
        """Read the next page; the first one again if there is none.

        Args:
            page_size: Of this page, instead of that of the iterator.

        Raises:
            WorkflowFilterError: The query cannot be read.
            CallError: The token is not of this query.
        """
        size = page_size or self._page_size
        if self._limit is not None:
            size = min(size, self._limit - self._yielded)

        store = self._client.store
        found, self._token = await page_of(self._client, self._query, self._token, size)
        self._page = [execution_of(store, each.row, each.profile) for each in found]
        self._index = 0

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> WorkflowExecution:
        """Return the next run."""
        if self._limit is not None and self._yielded >= self._limit:
            raise StopAsyncIteration

        while self._page is None or self._index >= len(self._page):
            if self._page is not None and self._token is None:
                raise StopAsyncIteration

            await self.fetch_next_page()

        found = self._page[self._index]
        self._index += 1
        self._yielded += 1
        return found

    async def map_histories(self) -> AsyncIterator[WorkflowHistory]:
        """Iterate over the histories of the runs.

        Raises:
            WorkflowNotFoundError: A run was purged meanwhile.
        """
        async for run in self:
            handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
            yield await handle.fetch_history()
