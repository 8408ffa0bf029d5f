"""Runs of `zombie_app` that are kept going, and what must hold of their records afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter

from support import zombie_app
from support.ledger import label
from support.rows import rows

OPEN_RUNS = 6


class Load:
    """Keeps some runs open, and remembers what each must return."""

    def __init__(self, client):
        self._client = client
        self._tasks = []
        self.started = 0

    async def fill(self):
        self._tasks = [task for task in self._tasks if not task.done() or task.result()]
        while len(self._tasks) < OPEN_RUNS:
            self.started += 1
            self._tasks.append(asyncio.create_task(self._see_through(self.started)))

    async def _see_through(self, number):
        handle = await self._client.start_workflow(
            "Sum", number, id=f"run-{number}", task_queue=zombie_app.QUEUE
        )
        assert await handle.result() == zombie_app.expected(number)

    async def finish(self):
        await asyncio.gather(*self._tasks)


async def check_record(path, client, effects, started):
    """Check every record against effects; return how many of them happened more than once."""
    began: dict[str, dict[str, list[float]]] = {}
    for effect in effects:
        began.setdefault(effect.workflow_id, {}).setdefault(label(effect), []).append(effect.time)

    again = 0
    for number in range(1, started + 1):
        run = f"run-{number}"
        history = await client.get_workflow_handle(run).fetch_history()
        done = [e for e in history.timeline() if e.kind == "activity"]
        assert len(done) == 3 * zombie_app.STEPS
        for entry in done:
            assert entry.status == "completed"
            times = began[run][f"{entry.name}/{entry.args[-1]}"]
            # What is recorded has happened before, and does not happen again.
            assert max(times) <= entry.ended, f"{run}: {entry.name} ran after it was recorded"
            outcomes = Counter(attempt.outcome for attempt in entry.attempts)
            # A failure before a short backoff is recorded with the next commit of its run, and so not
            # at all by a worker that was stopped before.
            unknown = outcomes["lost"] if entry.name == "flaky" else 0
            allowed = outcomes.total() + unknown
            assert len(times) <= allowed, f"{run}: {entry.name} ran {len(times)} times"
            again += max(len(times) - outcomes["completed"] - outcomes["failed"], 0)

    for (fences,) in rows(
        path, "SELECT json_group_array(fence ORDER BY number) FROM activation GROUP BY run"
    ):
        written = list(map(int, fences.strip("[]").split(",")))
        assert written == sorted(written), "an owner of earlier wrote after a later one"

    return again
