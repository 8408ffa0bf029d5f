"""The ceiling: a group-commit journal on SQLite and nothing else, under the workloads.

What Python and one flush per commit allow. It has no retries, leases, queues, types, checks of its
input, versions or traces, and a run is a coroutine that asks a dictionary for its results.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import apsw
import workloads as w

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class Journal:
    """Rows of (run, number, value), one writer thread, whatever queued up in one commit."""

    def __init__(self, path: Path) -> None:
        self._connection = apsw.Connection(str(path))
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "full")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS row (run, number, value, PRIMARY KEY (run, number)) "
            "WITHOUT ROWID"
        )
        self.recorded: dict[str, dict[int, Any]] = {}
        for run, number, value in self._connection.execute("SELECT run, number, value FROM row"):
            self.recorded.setdefault(str(run), {})[int(str(number))] = json.loads(str(value))

        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[tuple[str, int, str], asyncio.Future[None]]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def add(self, run: str, number: int, value: Any) -> asyncio.Future[None]:
        """Return a future that ends when the row is durable."""
        future: asyncio.Future[None] = self._loop.create_future()
        with self._wake:
            self._queue.append(((run, number, json.dumps(value)), future))
            self._wake.notify()

        return future

    def close(self) -> None:
        """End the thread, and close the file."""
        with self._wake:
            self._closing = True
            self._wake.notify()

        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._queue:
                    if self._closing:
                        return

                    self._wake.wait()

                batch, self._queue = list(self._queue), deque()

            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO row VALUES (?, ?, ?)", [r for r, _ in batch])
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_answer, [future for _, future in batch])


def _answer(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.cancelled():
            future.set_result(None)


class Ceiling(w.System):
    """Runs of a journal."""

    name = "ceiling"

    async def open(self) -> None:
        self._journal = Journal(self.folder / "ceiling.db")
        self._signals: dict[str, asyncio.Future[Any]] = {}
        self._sent = 0
        self._runs: dict[str, asyncio.Task[int]] = {}

    async def close(self) -> None:
        for task in self._runs.values():
            task.cancel()

        await asyncio.gather(*self._runs.values(), return_exceptions=True)
        self._journal.close()

    async def start(self, id: str, plan: w.Plan) -> None:
        await self._journal.add(id, 0, [plan.kind, plan.steps])
        self._runs[id] = asyncio.create_task(self._run(id, plan))

    async def result(self, id: str) -> int:
        return await self._runs[id]

    async def signal(self, id: str) -> None:
        self._sent += 1
        await self._journal.add(id, -self._sent, None)
        self._signals.pop(id).set_result(None)

    async def resume(self) -> None:
        for run, rows in self._journal.recorded.items():
            self._runs[run] = asyncio.create_task(self._run(run, w.Plan(*rows[0])))

    async def _run(self, id: str, plan: w.Plan) -> int:
        known = self._journal.recorded.get(id, {})
        for n in range(1, plan.steps + 1):
            if plan.kind == "signals":
                self._signals[id] = asyncio.get_running_loop().create_future()
                await self._signals[id]

            if n not in known:
                await self._step(id, n, w.BODIES[plan.kind])

        if plan.kind == "sleep":
            await asyncio.sleep(3600)

        await self._journal.add(id, plan.steps + 1, plan.steps)
        return plan.steps

    async def _step(self, id: str, n: int, body: Callable[[str, int], Awaitable[str]]) -> None:
        await self._journal.add(id, n, await body(id, n))


if __name__ == "__main__":
    w.main(Ceiling)
