"""SIGKILL while people are asked and answer, and several who answer at once."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from pathlib import Path

import pytest
from durable_core import Client, _faults
from support import asking_app
from support.asking_app import QUEUE, RUNS, STEPS, chain

APP = Path(asking_app.__file__)
MOST = 60


@pytest.fixture
def surroundings(store_url, tmp_path):
    return {"DURABLE_URL": store_url, "TOLD": tmp_path / "told"}


def answers_of(url):
    """Return what the histories hold: by run and request, each answer and who gave it."""

    async def main():
        found = defaultdict(list)
        async with await Client.connect(url) as client:
            for n in range(RUNS):
                handle = client.get_workflow_handle(f"{n}")
                for entry in (await handle.fetch_history()).timeline():
                    if entry.kind == "request" and entry.status == "answered":
                        found[f"{n}", str(entry.seq)].append(entry.result)

        return found

    return asyncio.run(main())


def check(output, store_url, told):
    """Nothing that was told to be taken is missing, and results are what the histories hold."""
    results = json.loads(output.split("results ")[1].splitlines()[0])
    recorded = answers_of(store_url)
    assert all(len(answers) == 1 for answers in recorded.values())
    lines = told.read_text().splitlines() if told.exists() else []
    acknowledged = [json.loads(line) for line in lines]
    assert len({(run, id) for run, id, _ in acknowledged}) == len(acknowledged), acknowledged
    for run, id, value in acknowledged:
        assert recorded[run, id] == [value], (run, id, value, recorded)

    for n, result in enumerate(results):
        given = [v for (run, _), (v,) in sorted(recorded.items(), key=by_id) if run == f"{n}"]
        assert len(result) == STEPS
        assert [v for v in result if v != "late"] == given
        if not n % 2:
            assert result == [0, 2, 4]

    return len(acknowledged)


def by_id(item):
    return int(item[0][1])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", _faults.POINTS)
def test_no_answer_that_was_taken_is_lost_over_kills_at_every_point(
    point, processes, store_url, surroundings, long
):
    """One kill at the first time that the point is reached, then at the second, and so on."""
    if not long and not point.startswith(("store.commit", "run.activated")):
        pytest.skip("only with --long")

    killed = 0
    for n in range(1, MOST if long else 7):
        ended = processes.run(APP, "serve", fault=f"{point}:{n}", **surroundings)
        if not ended.killed:
            break

        killed += 1

    last = processes.run(APP, "serve", **surroundings)
    told = check(last.checked().output, store_url, surroundings["TOLD"])
    print(f"{killed} kills at {point}, {told} answers")


@pytest.mark.timeout(600)
def test_no_answer_that_was_taken_is_lost_over_kills_at_any_time(processes, tmp_path, long):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    answers = kills = 0
    for trial in range(40 if long else 1):
        url = f"sqlite:///{tmp_path}/{trial}.db"
        surroundings = {"DURABLE_URL": url, "TOLD": tmp_path / f"told-{trial}"}
        for _ in range(3):
            process = processes.start(APP, "serve", **surroundings)
            time.sleep(choose.uniform(0.15, 0.6))
            kills += process.kill().killed

        last = processes.run(APP, "serve", **surroundings)
        answers += check(last.checked().output, url, surroundings["TOLD"])

    print(f"{kills} kills, {answers} answers")


@pytest.mark.timeout(600)
def test_of_two_processes_that_answer_at_once_one_wins_each_round(
    processes, store_url, surroundings, long
):
    rounds = 2000 if long else 60

    async def main():
        async with await Client.connect(store_url) as client:
            handle = await client.start_workflow(chain, rounds, id="w", task_queue=QUEUE)
            processes.start(APP, "worker", **surroundings)
            people = [processes.start(APP, "answer", me, **surroundings) for me in (1, 2)]
            result = await asyncio.wait_for(handle.result(), 500)
            for me, person in enumerate(people, 1):
                output = (await asyncio.to_thread(person.wait)).checked().output
                taken[me], beaten[me] = json.loads(output.split("taken ")[1])

            return result

    taken, beaten = {}, {}
    result = asyncio.run(main())
    # By the run's own account, each round was won by the one who was told so, and nobody else.
    assert sorted([*taken[1], *taken[2]]) == list(range(rounds))
    assert [n for n, by in enumerate(result) if by == 1] == taken[1]
    assert [n for n, by in enumerate(result) if by == 2] == taken[2]
    assert set(beaten[1]) <= {"2"}
    assert set(beaten[2]) <= {"1"}
    contests = len(beaten[1]) + len(beaten[2])
    print(f"{rounds} rounds, {contests} contests: {len(taken[1])} to {len(taken[2])}")
    assert contests
