"""The store in memory: the SQLite store's twin for tests, and for runs that need not last."""

from __future__ import annotations

from ._store import MemoryStore

__all__ = ["MemoryStore"]
