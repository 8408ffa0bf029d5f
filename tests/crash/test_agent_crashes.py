"""An agent that is killed at every step gives the result that the plain runner gives."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from durable_core import _faults
from durable_openai_agents.testing import Fault, FaultRule
from support import agents_app
from support.agents_house import check, shown
from support.agents_projection import same
from support.waiting import until

pytest_plugins = ["support.agents_fixtures"]

CLAIMS = ("run.claim.before", "run.claim.after")
# Only who takes a run over reaches a claim; that has a test of its own.
POINTS = tuple(point for point in _faults.POINTS if point not in CLAIMS)
STEP = "activity.body.after"
SAMPLE = 6
NOWHERE = "http://127.0.0.1:9/v1"
MOST = 40


@pytest.mark.timeout(3600)
def test_a_run_killed_anywhere_gives_the_result_of_the_plain_runner(houses, undisturbed, long):
    seed = random.randrange(2**32)
    others = [(p, n) for p in POINTS for n in range(1, 9) if p != STEP]
    steps = [(STEP, n) for n in range(1, agents_app.STEPS + 1)]
    # Lists whose trials go on until one of them is not reached any more.
    chosen = (
        [[(point, n) for n in range(1, MOST)] for point in POINTS]
        if long
        else [[one] for one in [*steps, *random.Random(seed).sample(others, SAMPLE)]]
    )
    reached: Counter[str] = Counter()

    def trials(faults: list[tuple[str, int]]) -> int:
        for number, (point, n) in enumerate(faults):
            if not check(houses(f"{point}-{n}"), f"{point}:{n}", undisturbed):
                return number + 1

            reached[point] += 1

        return len(faults)

    with ThreadPoolExecutor(2) as pool:
        made = sum(pool.map(trials, chosen))

    print(f"0 failures in {made} trials, {reached.total()} kills {dict(reached)}, seed {seed}")
    assert reached[STEP] == agents_app.STEPS
    if long:
        assert set(reached) == set(POINTS)
        assert max(reached.values()) < MOST - 1


def test_a_run_whose_takers_are_killed_at_the_claim_comes_to_its_end(houses, undisturbed):
    expected, once = undisturbed
    house = houses("claims")
    assert house.run(fault=f"{STEP}:4").killed
    recorded = house.recorded()
    lost = house.asked() + house.effects() - recorded
    for point in CLAIMS:
        assert house.run(fault=f"{point}:1").killed
        assert house.recorded() == recorded

    same(shown(house.run()), expected, "the result")
    same(house.asked() + house.effects(), once + lost, "how often what ran")


def test_a_run_killed_while_it_waits_for_a_retry_waits_for_the_rest(houses, undisturbed):
    expected, once = undisturbed
    house = houses("waiting")
    house.server.add_fault(
        FaultRule(fault=Fault(kind="status", status=429, retry_after=10), turn=1)
    )
    process = house.start()
    until(lambda: any(e.status == "retrying" for e in house.activities()), "a failed attempt")
    process.kill()
    same(shown(house.run()), expected, "the result")
    [(call, attempts)] = [
        (e.key, e.attempts) for e in house.activities() if any(a.failure for a in e.attempts)
    ]
    assert call == "auditor"
    assert [a.outcome for a in attempts] == ["failed", "completed"]
    assert attempts[1].started - attempts[0].ended >= 3.9
    [again] = [name for name, times in house.asked().items() if times > 1]
    same(house.asked() + house.effects(), once + Counter([again]), "how often what ran")


def test_a_completed_run_is_rebuilt_from_its_record_without_a_server(houses, undisturbed):
    expected, once = undisturbed
    house = houses("recorded")
    same(shown(house.run()), expected, "the live result")
    same(house.asked() + house.effects(), once, "how often what ran")
    same(shown(house.run(OPENAI_BASE_URL=NOWHERE)), expected, "the result from the record alone")
    same(house.asked() + house.effects(), once, "how often what ran")


def test_a_run_killed_again_and_again_comes_to_its_end(houses, undisturbed):
    expected, once = undisturbed
    house = houses("often")
    for _ in range(3):
        assert house.run(fault=f"{STEP}:2").killed

    lost = house.asked() + house.effects() - house.recorded()
    same(shown(house.run()), expected, "the result")
    same(house.asked() + house.effects(), once + lost, "how often what ran")
