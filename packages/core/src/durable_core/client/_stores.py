"""The store that an engine URL names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_core import _forks

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
    # Imported when they are wanted: one process uses one of them, and SQLite is large.
    name = _url.memory_name(url)
    if name is not None:
        with _forks.none():
            from durable_core.stores.memory import MemoryStore

        return MemoryStore(name)

    with _forks.none():
        from durable_core.stores.sqlite import SqliteStore

    path = _url.resolve(url)
    _place.check(path, url)
    return await SqliteStore.open(path)
