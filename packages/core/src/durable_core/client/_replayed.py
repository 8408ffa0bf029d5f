"""Runs that a client rebuilds to look at them; nothing is executed or written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_core.exceptions import NotRegisteredError
from durable_core.worker._host import Registered
from durable_core.worker._replay import Record, rebuild
from durable_core.workflow import _defn as workflow_defn

if TYPE_CHECKING:
    from durable_core.engine import Run
    from durable_core.stores import RunRow
    from durable_core.workflow._defn import Definition

    from ._client import Client

__all__ = ["replayed"]


async def replayed(client: Client, row: RunRow, definition: Definition | None) -> Run:
    """Return a run as its record says it is; the caller closes it.

    Raises:
        NotRegisteredError: This process does not know the run's code.
        WorkflowBugError: The code asks for other commands than were recorded.
    """
    knowing = [
        w.registered for w in client.workers if w.registered.knows_workflow(row.workflow_type)
    ]
    if knowing:
        host, definition = knowing[0], knowing[0].workflow(row.workflow_type)
    else:
        definition = definition or workflow_defn.known(row.workflow_type)
        if definition is None or definition.name != row.workflow_type:
            raise NotRegisteredError(
                f"run {row.workflow_id!r} is of the workflow {row.workflow_type!r}, which this "
                "process does not know, so it cannot answer for it: import the module that "
                "defines it"
            )

        host = Registered([definition.target], None)

    record = Record(await client.store.load(row))
    return await rebuild(record.start, record.activations, definition, host)
