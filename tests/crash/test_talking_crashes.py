"""SIGKILL while runs are talked to, and while one goes on after a failure."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path

import pytest
from durable_core import Client, Worker, _faults
from support import talk_app
from support.ledger import Ledger

APP = Path(talk_app.__file__)
SECONDS = 9.0
LONG_TRIALS = 100
MOST = 40


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def surroundings(store_url, ledger):
    return {"DURABLE_URL": store_url, "LEDGER": ledger.path}


def at_commits_alone(point, long):
    """Leave the other points to long runs: in between nothing changes that outlives a process."""
    if not long and not point.startswith("store.commit"):
        pytest.skip("only with --long")


async def talked_to(client, run, serve, choose, *, signals, kills):
    """Send numbers to a run whose workers are killed; return what the run says that it got.

    Every number is sent once, as a signal or as an update, and the next one once it is acknowledged
    or answered, so none may be missing, out of order, or there twice. A second sending of an update,
    with its id, must find the first one's answer: its validator would refuse the number.
    """
    handle = await client.start_workflow(talk_app.Collector.run, id=run, task_queue=talk_app.QUEUE)
    worker = serve()

    async def insist(answer):
        """Wait for an answer; a worker may have died by itself."""
        nonlocal worker
        waiting = asyncio.ensure_future(answer)
        while not (await asyncio.wait([waiting], timeout=5))[0]:
            worker.kill()
            worker = serve()

        return waiting.result()

    moments = sorted(choose.sample(range(1, signals), kills))
    for number in range(1, signals + 1):
        if moments and number >= moments[0]:
            moments.pop(0)
            worker.kill()
            worker = serve(fault=f"{choose.choice(_faults.POINTS)}:{choose.randint(1, 12)}")

        if choose.random() < 0.5:
            await handle.signal(talk_app.Collector.put, number)
        else:
            for _ in range(choose.choice([1, 1, 2])):
                update = handle.execute_update(talk_app.Collector.add, number, id=f"add {number}")
                assert await insist(update) == number

        if choose.random() < 0.2:
            await asyncio.sleep(choose.uniform(0, 0.05))

    await handle.signal(talk_app.Collector.end)
    got = await insist(handle.result())
    worker.kill()
    return got


@pytest.mark.timeout(3600)
def test_no_signal_or_update_is_lost_or_handled_twice_over_kills(
    processes, store_url, surroundings, ledger, long
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    signals, kills = 60, 4
    ends = time.monotonic() + SECONDS

    async def main():
        trials = 0
        async with await Client.connect(store_url) as client:
            while trials < LONG_TRIALS if long else time.monotonic() < ends:
                trials += 1

                def serve(fault=""):
                    return processes.start(APP, "worker", fault=fault, **surroundings)

                run = f"run-{trials}"
                got, noted = await talked_to(
                    client, run, serve, choose, signals=signals, kills=kills
                )
                assert got == list(range(1, signals + 1)), f"seed {seed}"
                assert sorted(noted) == list(range(10, signals + 1, 10)), f"seed {seed}"
                counts = ledger.counts(run)
                assert all(times <= 1 + kills + 1 for times in counts.values()), counts

        return trials

    trials = asyncio.run(main())
    print(
        f"{trials} trials, {trials * signals} signals and updates, {trials * kills} kills, seed {seed}"
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["here", "elsewhere"])
def test_a_run_that_is_started_with_a_signal_is_there_with_it_or_not_at_all(
    how, processes, tmp_path, ledger
):
    """At every commit of the process that starts it, before and after."""

    async def look(url):
        async with await Client.connect(url) as client:
            if await client.store.find("default", "w") is None:
                return None

            worker = Worker(
                client, task_queue=talk_app.QUEUE, workflows=[talk_app.Collector], activities=[]
            )
            async with worker:
                handle = client.get_workflow_handle("w")
                await handle.signal(talk_app.Collector.end)
                return await handle.result()

    found = []
    for point in ("store.commit.before", "store.commit.after"):
        for n in range(1, 20):
            url = f"sqlite:///{tmp_path}/{point}-{n}.db"
            surroundings = {"DURABLE_URL": url, "LEDGER": ledger.path}
            ended = processes.run(APP, "start", how, fault=f"{point}:{n}", **surroundings)
            found.append((ended.killed, "started" in ended.output, asyncio.run(look(url))))
            if not ended.killed:
                break

    assert {got is None or got == [[7], []] for _, _, got in found} == {True}, found
    # None that was told of, and both at a kill.
    assert all(got for _, started, got in found if started)
    assert {got is None for killed, _, got in found if killed} == {True, False}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", _faults.POINTS)
def test_what_a_run_tells_another_one_arrives_once_and_in_order_over_kills_at_every_point(
    point, processes, store_url, surroundings, long
):
    """One kill at the first time that the point is reached, then at the second, and so on.

    The other run goes on as a new one after every few of them.
    """
    at_commits_alone(point, long)
    killed = 0
    for n in range(1, MOST):
        ended = processes.run(APP, "relay", fault=f"{point}:{n}", **surroundings)
        if not ended.killed:
            break

        killed += 1

    last = processes.run(APP, "relay", **surroundings)
    sent, (got, noted) = json.loads(last.output.split("results ")[1].splitlines()[0])
    assert sent == 20
    assert got == list(range(1, 21)), killed
    assert noted == [10, 20]
    print(f"{killed} kills at {point}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", _faults.POINTS)
def test_parents_children_and_new_runs_have_one_result_over_kills_at_every_point(
    point, processes, store_url, surroundings, ledger, long
):
    """Nothing that a child did is done again but what was under way at a kill."""
    at_commits_alone(point, long)
    killed = 0
    for n in range(1, MOST, 1 if long else 3):
        ended = processes.run(APP, "family", fault=f"{point}:{n}", **surroundings)
        if not ended.killed:
            break

        killed += 1

    last = processes.run(APP, "family", **surroundings)
    firsts = [*(100 * (10 + n) for n in range(3)), *(100 * n for n in range(3))]
    expected = [[first + n for n in range(4)] for first in firsts]
    assert json.loads(last.output.split("result ")[1]) == expected
    counts = ledger.counts()
    assert len(counts) == 18, counts
    twice = sum(times - 1 for times in counts.values())
    # Three bodies may be under way.
    assert twice <= 3 * killed, counts
    print(f"{killed} kills at {point}, {twice} activities done again")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", _faults.POINTS)
def test_a_run_that_is_paused_again_and_again_loses_nothing_over_kills_at_every_point(
    point, processes, store_url, surroundings, ledger, long
):
    at_commits_alone(point, long)
    killed = 0
    for n in range(1, MOST):
        ended = processes.run(APP, "pause", fault=f"{point}:{n}", **surroundings)
        if not ended.killed:
            break

        killed += 1

    last = processes.run(APP, "pause", **surroundings)
    assert json.loads(last.output.split("result ")[1]) == ["first", "second", "third", "fourth"]
    counts = {name.partition("/")[2]: times for name, times in ledger.counts().items()}
    assert all(1 <= times <= 1 + killed for times in counts.values()), counts
    print(f"{killed} kills at {point}")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("who", ["itself", "child"])
@pytest.mark.parametrize("point", _faults.POINTS)
def test_going_on_after_a_failure_survives_a_kill_at_every_point(
    point, who, processes, store_url, surroundings, ledger, long
):
    """Nothing that is recorded is done again, whether before or after the failure.

    Also if it is a child that failed: it goes on with its parent, in one commit.
    """
    if who == "child":
        at_commits_alone(point, long)

    broken = processes.run(APP, "again", who, BROKEN="second", **surroundings)
    assert broken.output.startswith("failure ")
    assert "second is broken" in broken.output
    killed = 0
    for n in range(1, MOST):
        ended = processes.run(APP, "again", who, fault=f"{point}:{n}", **surroundings)
        if not ended.killed:
            break

        killed += 1

    last = processes.run(APP, "again", who, **surroundings)
    assert "result ['first', 'second', 'third', 'fourth']" in last.output
    counts = {name.partition("/")[2]: times for name, times in ledger.counts().items()}
    # Done before the failure: never again.
    assert counts["first"] == counts["third"] == 1
    # Tried again, once per kill at the most.
    assert 2 <= counts["second"] <= 2 + killed
    assert 1 <= counts["fourth"] <= 1 + killed
