"""SIGKILL at every named fault point, each time it is reached, in fresh interpreters."""

from __future__ import annotations

import statistics

import pytest
from durable_core import Client, _faults
from support import crash_app
from support.crash_checks import APP, Trial, imported_at, result_of
from support.ledger import Ledger

MOST = 60


@pytest.fixture
def surroundings(tmp_path, store_url):
    return {"DURABLE_URL": store_url, "LEDGER": tmp_path / "ledger"}


def test_an_undisturbed_run_has_each_effect_once(processes, store_url, surroundings):
    assert result_of(processes.run(APP, **surroundings)) == crash_app.EXPECTED
    trial = Trial(store_url, Ledger(surroundings["LEDGER"]), crash_app.WORKFLOW_ID)
    assert trial.finished() == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", _faults.POINTS)
def test_a_run_killed_at_a_fault_point_ends_as_if_undisturbed(point, processes, tmp_path):
    latencies = []
    twice = 0
    for n in range(1, MOST):
        url, ledger = f"sqlite:///{tmp_path}/{n}.db", Ledger(tmp_path / f"ledger-{n}")
        surroundings = {"DURABLE_URL": url, "LEDGER": ledger.path}
        first = processes.run(APP, fault=f"{point}:{n}", **surroundings)
        if not first.killed:
            assert result_of(first) == crash_app.EXPECTED
            break

        trial = Trial(url, ledger, crash_app.WORKFLOW_ID)
        trial.killed()
        before = len(ledger.effects())
        second = processes.run(APP, **surroundings)
        assert result_of(second) == crash_app.EXPECTED, f"{point}:{n}"
        twice += trial.finished()
        new = ledger.effects()[before:]
        if new and new[0].activity != "flaky":
            latencies.append(new[0].time - imported_at(second))
    else:
        pytest.fail(f"{point} is reached more than {MOST} times")

    print(f"{point}: {n - 1} kills, {twice} effects twice, all results right")
    if point.startswith("run.claim"):
        # Reached only by whoever takes a run over; its own test is below.
        return

    assert n > 1, f"{point} is never reached"
    assert statistics.median(latencies) < 1.0


@pytest.mark.parametrize("point", [p for p in _faults.POINTS if p.startswith("run.claim")])
def test_a_run_whose_taker_is_killed_at_the_claim_goes_on(
    point, processes, store_url, surroundings
):
    trial = Trial(store_url, Ledger(surroundings["LEDGER"]), crash_app.WORKFLOW_ID)
    assert processes.run(APP, fault="activity.body.after:2", **surroundings).killed
    trial.killed()
    for _ in range(3):
        assert processes.run(APP, fault=f"{point}:1", **surroundings).killed
        trial.killed()

    assert result_of(processes.run(APP, **surroundings)) == crash_app.EXPECTED
    trial.finished()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", _faults.POINTS)
def test_another_worker_takes_over_from_one_that_was_killed(
    point, processes, store_url, surroundings
):
    import asyncio

    async def drive() -> None:
        async with await Client.connect(store_url) as client:
            handle = await client.start_workflow(
                crash_app.Mixed.run, 100, id=crash_app.WORKFLOW_ID, task_queue=crash_app.QUEUE
            )
            ended = await asyncio.to_thread(first.wait)
            assert ended.killed
            await asyncio.to_thread(trial.killed)
            second = processes.start(APP, "worker", **surroundings)
            assert await handle.result() == crash_app.EXPECTED
            second.kill()

    trial = Trial(store_url, Ledger(surroundings["LEDGER"]), crash_app.WORKFLOW_ID)
    # The claim is the first thing that a worker of a queue does, and its commit the third.
    n = 1 if point.startswith("run.claim") else 4
    first = processes.start(APP, "worker", fault=f"{point}:{n}", **surroundings)
    asyncio.run(drive())
    trial.finished()
