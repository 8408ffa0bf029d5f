"""The embedded store, on one SQLite file."""

from __future__ import annotations

from ._store import SqliteStore

__all__ = ["SqliteStore"]
