"""How long a page of a list of runs takes, and by which indexes it is found.

::

    python benchmarks/listing.py --runs 100000

Writes a store of so many runs, past the engine, and prints for each filter the median time of a
page of 100 runs, of a page in the middle of the list, and of a count, with SQLite's plan.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from durable_core.history import Attribute, Profile
from durable_core.stores import RunRow, profile_row
from durable_core.stores._filter_parser import parse
from durable_core.stores._visibility import Place
from durable_core.stores.sqlite import SqliteStore
from durable_core.stores.sqlite._writer import Call

FILTERS = (
    "",
    "ExecutionStatus = 'Running'",
    "ExecutionStatus = 'Failed'",
    "WorkflowType = 'Rare'",
    "WorkflowId = 'order-777'",
    "WorkflowId STARTS_WITH 'order-777'",
    "Customer = 'c17'",
    "Customer = 'c17' AND ExecutionStatus = 'Running'",
    "Customer != 'c17'",
    "Amount > 99990",
    "Amount > 10",
    "Tags = 'even'",
    "Tags = 'even' AND Customer IN ('c17', 'c18')",
    "Customer = 'nobody'",
    "ORDER BY Amount DESC",
    "Amount BETWEEN 100 AND 5000 ORDER BY Amount",
    "ORDER BY CloseTime DESC",
    "StartTime > '1970-01-02T00:00:00Z'",
)
PAGE = 100

if TYPE_CHECKING:
    import apsw
    from durable_core.stores._filter import Selection


async def fill(store: SqliteStore, runs: int) -> None:
    """Write runs, of which one in a hundred is open and one in a thousand has failed."""
    for first in range(0, runs, 2000):
        made = []
        for n in range(first, min(first + 2000, runs)):
            attributes = (
                Attribute(name="Amount", kind="Int", value=n * 7919 % runs),
                Attribute(name="Customer", kind="Keyword", value=f"c{n % 1000}"),
                Attribute(name="Tags", kind="KeywordList", value=("all", ("even", "odd")[n % 2])),
            )
            row = RunRow(
                run_id=f"{n:032x}",
                namespace="default",
                workflow_id=f"order-{n}",
                workflow_type="Rare" if n % 5000 == 0 else "Order",
                task_queue="orders",
                bound=False,
                status="running",
                started=float(n),
                closed=None,
                fence=0,
                owner=None,
                next_number=0,
                takeovers=0,
                lineage=f"{n:032x}",
                stall=None,
            )
            profile = profile_row("default", Profile(attributes=attributes))
            made.append(store.create(row, b"start", {}, profile=profile))

        await asyncio.gather(*made)

    def close(connection: apsw.Connection) -> None:
        connection.execute(
            "UPDATE run SET closed = started + 1, status = "
            "CASE WHEN started % 1000 = 1 THEN 'failed' ELSE 'completed' END "
            "WHERE started % 100 <> 0"
        )

    await store._writer.submit(Call(close))  # noqa: SLF001


async def median(call: Callable[[], Awaitable[object]], times: int = 7) -> float:
    """Return the median time of a call, in milliseconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)

    return statistics.median(took) * 1000


def plans(store: SqliteStore, selection: Selection, connection: apsw.Connection) -> list[str]:
    """Return the steps by which SQLite finds a page."""
    pages = store.visibility.select(connection, "default").pages(selection, None)
    return [
        step
        for statement, values in pages
        for *_, step in connection.execute(
            f"EXPLAIN QUERY PLAN {statement}", {**values, "limit": PAGE}
        )
    ]


async def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder) / "store.db")
        began = time.perf_counter()
        await fill(store, runs)
        print(f"{runs} runs written in {time.perf_counter() - began:.1f} s")
        kinds = await store.visibility.kinds("default")
        for text in FILTERS:
            selection = parse(text, kinds)
            middle = None
            if selection.order.field.name == "StartTime":
                middle = Place(None, runs / 2, "")

            page = partial(store.visibility.page, "default", selection, limit=PAGE)
            count = partial(store.visibility.count, "default", selection.where)
            found = len(await page(after=None))
            total = sum((await count()).values())
            first = await median(partial(page, after=None))
            later = await median(partial(page, after=middle))
            counted = await median(count, 3)
            print(
                f"{text or '(all)'}\n    {found} of {total}: page {first:.2f} ms, from the middle "
                f"{later:.2f} ms, count {counted:.1f} ms"
            )
            for step in await store._read(partial(plans, store, selection)):  # noqa: SLF001
                print(f"        {step}")

        await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    asyncio.run(main(parser.parse_args().runs))
