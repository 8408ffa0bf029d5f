"""A worker is killed while others of its queue are alive and idle: one of them takes over."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import apsw
import pytest
from durable_core import Client
from support import bug_app, crash_app, crash_checks
from support.crash_checks import APP
from support.ledger import Ledger, label
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


def check_effects(ledger, run, killed):
    """Check that every effect happened, again only where the process that had it was killed.

    Others go on while one is killed, so what was in flight then cannot be read off the record
    afterwards; the ledger itself says who did what.

    Returns:
        How many effects happened more than once.
    """
    pids = {}
    for effect in ledger.effects(run):
        pids.setdefault(label(effect), []).append(effect.pid)

    assert set(pids) == crash_checks.ALL, f"{run}: {set(pids) ^ crash_checks.ALL}"
    for name, had in pids.items():
        assert len(set(had)) == len(had), f"{run}: {name} happened twice in one process: {had}"
        assert set(had[:-1]) <= killed, f"{run}: {name} happened again without a kill: {had}"

    return sum(len(had) > 1 for had in pids.values())


@pytest.mark.timeout(120)
def test_runs_survive_a_row_of_workers_that_are_killed_one_after_the_other(
    processes, store_url, ledger, surroundings
):
    runs = [f"run-{n}" for n in range(12)]
    killed: set[int] = set()

    async def drive():
        async with await Client.connect(store_url) as client:
            handles = [
                await client.start_workflow(
                    crash_app.Mixed.run, 100, id=run, task_queue=crash_app.QUEUE
                )
                for run in runs
            ]
            # Three workers at a time; whichever had the newest effect is killed and replaced.
            workers = {p.pid: p for p in (serve() for _ in range(3))}
            for wanted in (2, 15, 30, 45, 60):
                await eventually(lambda n=wanted: len(ledger.effects()) >= n, "more effects")
                worker = workers.pop(ledger.effects()[-1].pid, None)
                if worker is not None and worker.kill().killed:
                    killed.add(worker.pid)
                    replacement = serve()
                    workers[replacement.pid] = replacement

            return [await handle.result() for handle in handles]

    def serve():
        return processes.start(APP, "worker", **surroundings)

    assert asyncio.run(drive()) == [crash_app.EXPECTED] * len(runs)
    twice = sum(check_effects(ledger, run, killed) for run in runs)
    print(f"{len(killed)} kills, {twice} of {7 * len(runs)} effects more than once")
    assert len(killed) >= 3
