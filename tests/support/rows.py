"""Rows and appends as a worker would make them, and programs that make them in other processes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
from durable_core.history import Payload, Start
from durable_core.stores import Append, RunRow
from durable_core.stores.memory import MemoryStore
from durable_core.stores.sqlite import SqliteStore

from support.waiting import until


def new_row(run_id: str, *, workflow_id: str | None = None, started: float = 1.0) -> RunRow:
    """Return the row of a run that does not exist yet."""
    return RunRow(
        run_id=run_id,
        namespace="default",
        workflow_id=workflow_id or f"workflow-{run_id}",
        workflow_type="Flow",
        task_queue="queue",
        bound=False,
        status="running",
        started=started,
        closed=None,
        fence=0,
        owner=None,
        next_number=0,
        takeovers=0,
        lineage=run_id,
        stall=None,
        first=run_id,
    )


@asynccontextmanager
async def opened_store(kind: str, path: Path):
    """Yield a fresh store, ``sqlite`` or ``memory``."""
    found = MemoryStore() if kind == "memory" else await SqliteStore.open(path)
    try:
        yield found
    finally:
        await found.close()


def on(store, code):
    """Run code on a store that a fixture opens, and return what it does."""

    async def main():
        async with store() as opened:
            return await code(opened)

    return asyncio.run(main())


def new_start() -> Start:
    """Return a start record without references."""
    return Start(
        namespace="default",
        workflow_id="workflow-r",
        run_id="r",
        workflow_type="Flow",
        task_queue="queue",
        time=1.0,
        args=Payload(data=b"[]"),
        args_digest="",
        seed="5eed",
        effect_scope="r",
        lineage="r",
    )


def first(run_id: str, worker: int, *, workflow_id: str | None = None, **more: Any) -> Append:
    """Return the append that creates a run together with its first activation."""
    return Append(
        run_id=run_id,
        expected_fence=0,
        fence=1,
        owner=worker,
        claim=True,
        number=0,
        time=1.0,
        data=b"activation 0",
        lineage=run_id,
        start=(new_row(run_id, workflow_id=workflow_id), b"start"),
        **more,
    )


def step(run_id: str, worker: int, number: int | None, *, fence: int = 1, **more: Any) -> Append:
    """Return the append of one more activation."""
    return Append(
        run_id=run_id,
        expected_fence=fence,
        fence=fence,
        owner=worker,
        number=number,
        time=2.0,
        data=f"activation {number}".encode(),
        lineage=run_id,
        **more,
    )


def claim(run_id: str, worker: int, *, fence: int) -> Append:
    """Return the append that takes a run over at a fence."""
    return Append(run_id=run_id, expected_fence=fence, fence=fence + 1, owner=worker, claim=True)


@asynccontextmanager
async def opened(path):
    store = await SqliteStore.open(path)
    try:
        yield store
    finally:
        await store.close()


def rows(path, sql, *values):
    """Read the file past the store."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(10_000)
        return list(connection.execute(sql, values))
    finally:
        connection.close()


# Takes runs, prints the id of its worker, and lives until it is killed.
HOLD = """
import asyncio, sys
from pathlib import Path
from durable_core.stores.sqlite import SqliteStore
from support.rows import first

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    worker = await store.register_worker("other process")
    for run in sys.argv[2:]:
        await store.append(first(run, worker))
    print("owner", worker, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

# Writes a run of so many activations.
WRITE = """
import asyncio, sys
from pathlib import Path
from durable_core.stores import Outcome
from durable_core.stores.sqlite import SqliteStore
from support.rows import first, step

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    name, count = sys.argv[2], int(sys.argv[3])
    worker = await store.register_worker(name)
    assert await store.append(first(name, worker)) is Outcome.ACCEPTED
    for number in range(1, count):
        assert await store.append(step(name, worker, number)) is Outcome.ACCEPTED
    await store.close()

asyncio.run(main())
"""


def owner_of(process):
    """Return the worker id that a process of `HOLD` has printed."""
    until(lambda: process.output.endswith("\n") or not process.running, "the other process")
    assert process.running, process.output
    return int(process.output.split("owner ")[1].split()[0])
