"""DBOS Transact under the workloads, on SQLite.

As it is shipped, but for one thing that helps it: its file is made in WAL mode, in which SQLite
commits several times faster. Results of runs of the same process are awaited on the handle that
started them, those of an earlier process polled every 10 ms. DBOS leaves SQLite's ``synchronous``
at FULL, as we do.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import workloads as w
from dbos import DBOS, SetWorkflowID
from dbos._error import DBOSNonExistentWorkflowError


@DBOS.step()
async def step(kind: str, id: str, n: int) -> str:
    return await w.BODIES[kind](id, n)


@DBOS.workflow()
async def steps(kind: str, count: int) -> int:
    run = DBOS.workflow_id
    assert run is not None
    for n in range(1, count + 1):
        if kind == "signals":
            await DBOS.recv_async("go", timeout_seconds=3600)

        await step(kind, run, n)

    return count


class Dbos(w.System):
    """Runs of a DBOS system database."""

    name = "dbos"

    async def open(self) -> None:
        self._handles: dict[str, Any] = {}
        path = self.folder / "dbos.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = wal")

        DBOS(
            config={
                "name": "bench",
                "system_database_url": f"sqlite:///{path}",
                "run_admin_server": False,
                "log_level": "ERROR",
            }
        )
        DBOS.launch()

    async def close(self) -> None:
        DBOS.destroy()

    async def start(self, id: str, plan: w.Plan) -> None:
        with SetWorkflowID(id):
            self._handles[id] = await DBOS.start_workflow_async(steps, plan.kind, plan.steps)

    async def result(self, id: str) -> int:
        try:
            handle = self._handles.get(id) or await DBOS.retrieve_workflow_async(id)
        except DBOSNonExistentWorkflowError:
            return 0  # the process was killed before it had started this one

        found: int = await handle.get_result(polling_interval_sec=0.01)
        return found

    async def signal(self, id: str) -> None:
        await DBOS.send_async(id, "go", topic="go")

    async def resume(self) -> None:
        """Do nothing: it recovers by itself when it is launched."""


if __name__ == "__main__":
    w.main(Dbos)
