"""SIGKILL around effects that may happen at most once: never two, and what is not known is told."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from durable_core import _faults
from support import once_app
from support.forks import Forks
from support.ledger import Ledger
from support.processes import Processes

APP = Path(once_app.__file__)
SECONDS = 9.0
LONG_TRIALS = 600
FRESH = 0.1
# How often a point is reached in a whole run, at most.
REACHED = 30


def trial(choose, folder, starts):
    """Kill a run of payments once to three times, let it end, and return what became of it."""
    ledger = Ledger(folder / "ledger")
    surroundings = {"DURABLE_URL": f"sqlite:///{folder}/store.db", "LEDGER": ledger.path}
    kills = 0
    for _ in range(choose.randint(1, 3)):
        point = choose.choice(_faults.POINTS)
        fault = f"{point}:{choose.randint(1, 6 if 'claim' not in point else 1)}"
        if choose.random() < 0.5:
            fault = f"{point}:{choose.randint(1, REACHED)}"

        kills += choose.choice(starts).run(APP, fault=fault, **surroundings).killed

    ended = starts[0].run(APP, **surroundings).checked()
    (line,) = [x for x in ended.output.splitlines() if x.startswith("result ")]
    result = json.loads(line.removeprefix("result "))
    counts = Counter(effect.key for effect in ledger.effects())
    assert set(result) == set(once_app.PAYMENTS)
    assert max(counts.values()) == 1, counts
    assert [n for n, became in result.items() if became == "paid" and counts[n] != 1] == []
    assert set(result.values()) <= {"paid", "unknown"}, result
    unknown = [name for name, became in result.items() if became == "unknown"]
    return kills, [counts[name] for name in unknown]


@pytest.mark.timeout(3600)
def test_no_effect_happens_twice_over_kills(tmp_path, long):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    trials, kills, happened, ends = 0, 0, Counter(), time.monotonic() + SECONDS
    with Forks(tmp_path) as forks:
        while trials < LONG_TRIALS if long else time.monotonic() < ends:
            trials += 1
            choose = random.Random(f"{seed}/{trials}")
            folder = tmp_path / f"trial-{trials}"
            folder.mkdir()
            with Processes(folder) as interpreters:
                fresh = choose.random() < FRESH
                try:
                    killed, unknown = trial(choose, folder, [interpreters if fresh else forks])
                except BaseException as error:
                    error.add_note(f"trial {seed}/{trials}")
                    raise

            kills += killed
            happened.update(unknown)
            shutil.rmtree(folder)

    print(
        f"{trials} trials, {kills} kills, no effect twice; of {happened.total()} unknown outcomes "
        f"{happened[1]} had happened and {happened[0]} had not, seed {seed}"
    )
    assert happened.total() or not kills


def test_an_undisturbed_run_pays_everything_once(processes, store_url, tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    ended = processes.run(APP, DURABLE_URL=store_url, LEDGER=ledger.path).checked()
    assert json.loads(ended.output.splitlines()[-1].removeprefix("result ")) == dict.fromkeys(
        once_app.PAYMENTS, "paid"
    )
    assert Counter(e.key for e in ledger.effects()) == dict.fromkeys(once_app.PAYMENTS, 1)


@pytest.mark.parametrize(
    ("fault", "became", "times"),
    [
        # Asked for and not begun: it begins as any other.
        ("activity.body.before:1", "paid", 1),
        ("activity.body.after:1", "unknown", 1),
    ],
)
def test_what_had_begun_at_a_kill_is_unknown_and_what_had_not_begins(
    processes, store_url, tmp_path, fault, became, times
):
    ledger = Ledger(tmp_path / "ledger")
    surroundings = {"DURABLE_URL": store_url, "LEDGER": ledger.path}
    assert processes.run(APP, fault=fault, **surroundings).killed
    ended = processes.run(APP, **surroundings).checked()
    result = json.loads(ended.output.splitlines()[-1].removeprefix("result "))
    assert result == {**dict.fromkeys(once_app.PAYMENTS, "paid"), "first": became}
    assert Counter(e.key for e in ledger.effects())["first"] == times
