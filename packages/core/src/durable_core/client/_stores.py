"""The store that an engine URL names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_core.stores.memory import MemoryStore
from durable_core.stores.sqlite import SqliteStore

from . import _place, _url

if TYPE_CHECKING:
    from durable_core.stores import Store

__all__ = ["open_store"]


async def open_store(url: str | None) -> Store:
    """Open the store that a URL names, the default one without.

    Raises:
        EngineURLError: The URL is malformed or its scheme is unknown.
        StoreError: The store cannot be used; the subclass says why.
    """
    name = _url.memory_name(url)
    if name is not None:
        return MemoryStore(name)

    path = _url.resolve(url)
    _place.check(path, url)
    return await SqliteStore.open(path)
