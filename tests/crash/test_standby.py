"""A worker is killed while others of its queue are alive and idle: one of them takes over."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import apsw
import pytest
from durable_core import Client
from support import bug_app, crash_app
from support.crash_checks import APP, Trial
from support.ledger import Ledger
from support.waiting import eventually, until

RUN = "order-1"
# An idle worker looks at least once a second; the rest is for a busy machine.
AT_ONCE = 3.0


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def surroundings(store_url, ledger):
    return {"DURABLE_URL": store_url, "LEDGER": ledger.path}


def living(store_path, number):
    """Return whether so many workers have registered."""
    if not store_path.exists():
        return False

    try:
        connection = apsw.Connection(str(store_path), flags=apsw.SQLITE_OPEN_READONLY)
        with connection:
            return connection.execute("SELECT count(*) FROM worker WHERE alive").get == number
    except apsw.Error:
        return False


def test_an_idle_worker_takes_over_at_once(processes, store_path, store_url, ledger, surroundings):
    async def start():
        async with await Client.connect(store_url) as client:
            await client.start_workflow("Order", 1250, id=RUN, task_queue=bug_app.QUEUE)

    async def result():
        async with await Client.connect(store_url) as client:
            return await client.get_workflow_handle(RUN).result()

    app = Path(bug_app.__file__)
    first = processes.start(app, "slow", **surroundings)
    asyncio.run(start())
    until(lambda: ledger.has("deliver", "started"), "the first worker to be in the second step")
    second = processes.start(app, "good", **surroundings)
    until(lambda: living(store_path, 2), "the second worker to be idle")
    killed = time.time()
    assert first.kill().killed

    assert asyncio.run(result()) == "delivered with receipt for 1250"
    taken = next(e for e in ledger.effects() if e.pid == second.pid)
    print(f"taken over after {taken.time - killed:.2f} s")
    assert taken.time - killed < AT_ONCE
    assert taken.attempt == 2
    assert ledger.counts() == {"charge/1250": 1, "deliver/started": 2, "deliver/done": 1}


@pytest.mark.timeout(120)
def test_runs_survive_a_row_of_workers_that_are_killed_one_after_the_other(
    processes, store_url, ledger, surroundings
):
    runs = [f"run-{n}" for n in range(12)]
    trials = {run: Trial(store_url, ledger, run) for run in runs}
    kills = 0

    async def drive():
        nonlocal kills
        async with await Client.connect(store_url) as client:
            handles = [
                await client.start_workflow(
                    crash_app.Mixed.run, 100, id=run, task_queue=crash_app.QUEUE
                )
                for run in runs
            ]
            # Three workers at a time; whichever wrote the newest effect is killed and replaced.
            workers = [processes.start(APP, "worker", **surroundings) for _ in range(3)]
            for wanted in (2, 15, 30, 45, 60):
                await eventually(lambda n=wanted: len(ledger.effects()) >= n, "more effects")
                busy = ledger.effects()[-1].pid
                for worker in [w for w in workers if w.pid == busy and w.running]:
                    worker.kill()
                    kills += 1
                    workers.remove(worker)
                    for trial in trials.values():
                        await asyncio.to_thread(trial.killed)

                    workers.append(processes.start(APP, "worker", **surroundings))

            results = [await handle.result() for handle in handles]
            for worker in workers:
                worker.kill()

            return results

    assert asyncio.run(drive()) == [crash_app.EXPECTED] * len(runs)
    twice = sum(trial.finished() for trial in trials.values())
    print(f"{kills} kills, {twice} of {7 * len(runs)} effects twice")
    assert kills >= 3
