"""Async instructions, prompts and conditions run once per call, wherever the run is killed."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import callables_app
from support.agents_house import check, shown

pytest_plugins = ["support.agents_fixtures"]

STEP = "activity.body.after"
SAMPLE = 6


@pytest.mark.timeout(600)
def test_a_run_killed_at_any_unit_gives_the_result_of_the_plain_runner(houses, long):
    plain = houses("plain", callables_app.PROGRAM)
    expected = shown(plain.run("plain"))
    undisturbed = (expected, plain.asked() + plain.effects())
    seed = random.randrange(2**32)
    steps = range(1, undisturbed[1].total() + 1)
    chosen = steps if long else random.Random(seed).sample(steps, SAMPLE)

    def trial(n: int) -> bool:
        return check(houses(f"step-{n}", callables_app.PROGRAM), f"{STEP}:{n}", undisturbed)

    with ThreadPoolExecutor(2) as pool:
        reached = sum(pool.map(trial, chosen))

    print(f"0 failures in {len(chosen)} trials, seed {seed}")
    assert reached == len(chosen)
    assert not trial(len(steps) + 1)
