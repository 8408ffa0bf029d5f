"""Lists and counts of the SQLite store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from durable_core.stores import _sql
from durable_core.stores._rows import RunRow
from durable_core.stores._visibility import Listed, Place

from ._selecting import Select

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import apsw

    from durable_core.stores._filter import Condition, Selection

__all__ = ["SqliteVisibility"]


class SqliteVisibility:
    """A `Visibility` of a SQLite store.

    Args:
        read: Calls something with a connection that reads.
        columns: Those of a `RunRow`.
        row_of: Makes one of them.
    """

    def __init__(
        self,
        read: Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]],
        columns: str,
        row_of: Callable[[Sequence[Any]], RunRow],
    ) -> None:
        self._read = read
        self._row_of = row_of
        run = ", ".join(f"run.{name.strip()}" for name in columns.split(","))
        found = _sql.statements(__package__ or "", "listing.sql", run=run)
        # Most are parts of a line.
        self._sql = {name: text.partition("\n")[2] for name, text in found.items()}

    async def kinds(self, namespace: str) -> Mapping[str, str]:
        """Return the types of all search attributes that were ever used, by name."""
        rows = await self._read(lambda c: c.execute(self._sql["kinds"], (namespace,)).fetchall())
        return dict(rows)

    async def profile(self, run_id: str) -> bytes:
        """Return what a run shows of itself."""
        found = await self._read(lambda c: c.execute(self._sql["profile"], (run_id,)).get)
        return cast("bytes", found or b"")

    async def page(
        self, namespace: str, selection: Selection, *, after: Place | None, limit: int
    ) -> Sequence[Listed]:
        """Return runs that a filter selects, in its order."""
        pages = Select(self._sql, namespace).pages(selection, after)

        def read(connection: apsw.Connection) -> list[Listed]:
            found: list[Listed] = []
            connection.execute("BEGIN")
            try:
                for text, values in pages:
                    left = limit - len(found)
                    if left > 0:
                        rows: Any = connection.execute(text, {**values, "limit": left})
                        found += [Listed(self._row_of(r), p, v) for *r, p, v in rows]
            finally:
                connection.execute("COMMIT")

            return found

        return cast("Sequence[Listed]", await self._read(read))

    async def count(self, namespace: str, where: Condition | None) -> Mapping[str, int]:
        """Return how many runs a filter selects, by status."""
        text, values = Select(self._sql, namespace).count(where)
        rows = await self._read(lambda c: c.execute(text, dict(values)).fetchall())
        return dict(rows)
