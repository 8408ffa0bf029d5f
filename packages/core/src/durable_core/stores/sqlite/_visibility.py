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

    Attributes:
        sql: Its statements, and parts of them.
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
        self.sql = {name: text.partition("\n")[2] for name, text in found.items()}

    async def kinds(self, namespace: str) -> Mapping[str, str]:
        """Return the types of all search attributes that were ever used, by name."""
        rows = await self._read(lambda c: c.execute(self.sql["kinds"], (namespace,)).fetchall())
        return dict(rows)

    async def profile(self, run_id: str) -> bytes:
        """Return what a run shows of itself."""
        found = await self._read(lambda c: c.execute(self.sql["profile"], (run_id,)).get)
        return cast("bytes", found or b"")

    async def page(
        self, namespace: str, selection: Selection, *, after: Place | None, limit: int
    ) -> Sequence[Listed]:
        """Return runs that a filter selects, in its order."""

        def read(connection: apsw.Connection) -> list[Listed]:
            found: list[Listed] = []
            pages = self.select(connection, namespace).pages(selection, after)
            for text, values in pages:
                left = limit - len(found)
                rows: Any = connection.execute(text, {**values, "limit": left})
                found += [Listed(self._row_of(r), p, v) for *r, p, v in rows]
                if len(found) >= limit:
                    break

            return found

        return cast("Sequence[Listed]", await self._at_once(read))

    async def count(self, namespace: str, where: Condition | None) -> Mapping[str, int]:
        """Return how many runs a filter selects, by status."""

        def read(connection: apsw.Connection) -> dict[str, int]:
            text, values = self.select(connection, namespace).counts(where)
            rows: Any = connection.execute(text, dict(values))
            return dict(rows)

        return cast("Mapping[str, int]", await self._at_once(read))

    def select(self, connection: apsw.Connection, namespace: str) -> Select:
        """Return what makes the statements."""

        def count(text: str, values: Mapping[str, Any]) -> int:
            return cast("int", connection.execute(text, dict(values)).get)

        return Select(self.sql, namespace, count)

    async def _at_once(self, read: Callable[[apsw.Connection], Any]) -> Any:
        """Read in one transaction, so that all statements see the same."""

        def work(connection: apsw.Connection) -> Any:
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                connection.execute("COMMIT")

        return await self._read(work)
