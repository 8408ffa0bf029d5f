"""What readers of the SQLite store make of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from durable_core import history
from durable_core.exceptions import StoreCorruptError, WorkflowNotFoundError
from durable_core.stores._rows import Loaded, PendingRow, RunRow

from . import _chunks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import apsw

__all__ = ["items_of", "load", "run_row", "start_of"]

Sql = Mapping[str, str]


def start_of(connection: apsw.Connection, sql: Sql, run: str, path: Path) -> bytes:
    """Return the start record of a run.

    Raises:
        StoreCorruptError: It is missing.
    """
    start = connection.execute(sql["start"], (run,)).get
    if not isinstance(start, bytes):
        raise StoreCorruptError(f"run {run} has no start record in {path}")

    return start


def load(connection: apsw.Connection, sql: Sql, row: RunRow, path: Path) -> Loaded:
    """Return everything that rebuilds a run, as of one moment.

    Raises:
        WorkflowNotFoundError: It was purged.
        StoreCorruptError: Something of it is missing.
    """
    run = row.run_id
    connection.execute("BEGIN")
    try:
        fresh = connection.execute(sql["run_by_run_id"], (row.namespace, run)).fetchone()
        if fresh is None:
            raise WorkflowNotFoundError(
                f"run {row.workflow_id!r} is not in {path} any more: it had ended, and was purged"
            )

        start = start_of(connection, sql, run, path)
        activations = [
            cast("bytes", d) for _, d in connection.execute(sql["activations"], (run, 0))
        ]
        rows: Any = connection.execute(sql["pending"], (run,))
        pending = [PendingRow(*row) for row in rows]
        inbox = [
            (cast("int", i), cast("bytes", d)) for i, d in connection.execute(sql["inbox"], (run,))
        ]
        current = run_row(fresh)
        if len(activations) != current.next_number:
            raise StoreCorruptError(
                f"run {run} should have {current.next_number} activations, {path} holds "
                f"{len(activations)}"
            )

        # Here, beside the rows that refer to them, so that one transaction sees both.
        wanted = history.references(history.start_from(start))
        for data in filter(history.may_refer, activations):
            wanted += history.references(history.activation_from(data))

        for _, data in inbox:
            wanted += history.references(history.event_from(data))

        return Loaded(
            row=current,
            start=start,
            activations=activations,
            pending=pending,
            inbox=inbox,
            items=items_of(connection, sql, current.lineage, wanted),
            streams=_chunks.rows(connection, sql, run),
            rejected=[cast("str", r) for (r,) in connection.execute(sql["rejected"], (run,))],
        )
    finally:
        connection.execute("COMMIT")


def items_of(
    connection: apsw.Connection, sql: Sql, lineage: str, addresses: Sequence[str]
) -> dict[str, bytes]:
    """Return items by address; those that do not exist are left out."""
    if not addresses:
        return {}

    rows = connection.execute(sql["items"], (lineage, json.dumps(list(addresses))))
    return {cast("str", address): cast("bytes", data) for address, data in rows}


def run_row(row: Sequence[Any]) -> RunRow:
    """Return the columns of a run as its row."""
    values = list(row)
    values[5] = bool(values[5])
    return RunRow(*values)
