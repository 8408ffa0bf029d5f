"""SIGKILL at random times, several times per run, in fresh interpreters."""

from __future__ import annotations

import random
import time

import pytest
from support import crash_app
from support.crash_checks import APP, Trial, result_of
from support.ledger import Ledger
from support.waiting import until

SECONDS = 25.0
LONG_TRIALS = 500
LONGEST_LIFE = 0.25


@pytest.mark.timeout(3600)
def test_runs_killed_at_random_times_end_as_if_undisturbed(processes, tmp_path, long):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    ends = time.monotonic() + SECONDS
    trials = kills = twice = 0
    while trials < LONG_TRIALS if long else time.monotonic() < ends:
        trials += 1
        url, ledger = f"sqlite:///{tmp_path}/{trials}.db", Ledger(tmp_path / f"ledger-{trials}")
        surroundings = {"DURABLE_URL": url, "LEDGER": ledger.path}
        trial = Trial(url, ledger, crash_app.WORKFLOW_ID)
        for _ in range(choose.randint(1, 3)):
            process = processes.start(APP, **surroundings)
            until(lambda p=process: "imported" in p.output or not p.running, "the import")
            deadline = time.monotonic() + choose.uniform(0, LONGEST_LIFE)
            while process.running and time.monotonic() < deadline:
                time.sleep(0.001)

            if process.kill().killed:
                kills += 1
                trial.killed()

        assert result_of(processes.run(APP, **surroundings)) == crash_app.EXPECTED, f"seed {seed}"
        twice += trial.finished()

    print(f"0 failures in {trials} trials, {kills} kills, {twice} effects twice, seed {seed}")
    assert kills > 0
