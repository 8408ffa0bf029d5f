"""Random asyncio programs replay to the same commands, whatever ended when."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from durable_core.history import CompleteRun, FailRun
from hypothesis import given, settings
from hypothesis import strategies as st
from support import engine_programs
from support.engine_grammar import GRAMMAR, PROGRAMS, random_program
from support.engine_programs import CANCELLATIONS, STEPS, Program, happened
from support.engine_runs import Driver

# Of tasks that cleanup starts in a group of anyio while its run is dropped (docs/design.md).
pytestmark = pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning")

ORDERS = ["first", "last", "together", *map(str, range(100))]
PROGRAMS_IN_CI, PROGRAMS_IN_ALL = 2000, 12_000
BATCH = 500


def lived(program, order, cancel_at=None):
    driver = Driver(Program, program)
    driver.run_to_end(order, cancel_at=cancel_at)
    closed = driver.run.closed
    # Also where nobody asked: asyncio's gather forgets that it was anyio that cancelled it, if a
    # member took its time, and the scope then lets the exception pass.
    cancelled = isinstance(closed, FailRun) and closed.cancelled
    assert isinstance(closed, CompleteRun) or cancelled, closed
    happened["the run was cancelled"] += cancelled and cancel_at is not None
    return driver


def test_every_step_can_be_drawn():
    assert sorted(GRAMMAR) == sorted(STEPS)


@settings(max_examples=150)
@given(PROGRAMS, st.sampled_from(ORDERS), st.none() | st.integers(0, 5))
def test_any_program_replays_from_every_prefix_to_the_same_bytes(program, order, cancel_at):
    driver = lived(program, order, cancel_at)

    driver.check_replays()
    driver.close()


@pytest.mark.timeout(7200)
def test_many_programs_replay_in_other_processes_with_other_hash_seeds(processes, tmp_path, long):
    seed = random.randrange(2**32)
    programs = PROGRAMS_IN_ALL if long else PROGRAMS_IN_CI
    print(f"seed {seed}, {programs} programs")
    chance = random.Random(seed)
    happened.clear()
    activations = 0
    for batch in range(0, programs, BATCH):
        records, outcomes = [], []
        for number in range(batch, min(batch + BATCH, programs)):
            program = random_program(chance)
            order, cancel_at = chance.choice(ORDERS), chance.choice([None, None, None, 1, 2, 4])
            try:
                driver = lived(program, order, cancel_at)
            except BaseException:
                print(f"program {number} of seed {seed}: {program} {order} {cancel_at}")
                raise

            records.append(json.dumps(driver.saved()))
            outcomes.append(driver.outcome)
            activations += len(driver.record)
            driver.close()

        file = tmp_path / f"records-{batch}"
        file.write_text("\n".join(records))
        app = Path(engine_programs.__file__)
        hash_seed = chance.randrange(1, 2**32)
        ended = processes.run(app, file, limit=600, PYTHONHASHSEED=hash_seed).checked()
        assert [json.loads(line) for line in ended.output.splitlines()] == outcomes, f"seed {seed}"

    print(f"0 differences in {programs} programs of {activations} activations, seed {seed}")
    print(report(happened))
    least = programs // 400
    assert not {k: n for k in (*STEPS, *CANCELLATIONS) if (n := happened[k]) < least}


def report(counts: Counter[str]) -> str:
    """Return how often each primitive and each kind of cancellation occurred."""
    lines = [f"{counts[name]:8} {name}" for name in (*sorted(STEPS), *CANCELLATIONS)]
    return "\n".join(lines)
