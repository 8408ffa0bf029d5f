"""Random asyncio programs replay to the same commands, whatever ended when."""

from __future__ import annotations

import json
from pathlib import Path

from durable_core.history import CompleteRun
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support import engine_programs
from support.engine_programs import Program
from support.engine_runs import Driver

values = st.integers(0, 3)
seconds = st.sampled_from([0, 0.5, 2, 5, 60])
leaves = st.one_of(
    st.tuples(st.sampled_from(["call", "call", "fail", "slow", "withdraw"]), values),
    st.tuples(st.just("sleep"), seconds),
    st.just(("random",)),
)


def steps(inner):
    several = st.lists(inner, min_size=1, max_size=4)
    return st.one_of(
        st.tuples(
            st.sampled_from(["seq", "gather", "group", "race", "completed", "generator"]), several
        ),
        st.tuples(st.just("wait"), seconds, several),
        st.tuples(st.sampled_from(["timeout", "wait_for", "shield"]), seconds, inner),
        st.tuples(st.sampled_from(["cancel", "finally"]), inner, inner),
        st.tuples(st.just("lock"), st.integers(0, 1), inner),
        st.tuples(st.just("workers"), st.integers(1, 3), several),
        st.tuples(st.sampled_from(["signal", "spawn"]), inner),
    )


programs = st.recursive(leaves, steps, max_leaves=12).map(lambda p: json.loads(json.dumps(p)))
orders = st.sampled_from(["first", "last", "together"]) | st.integers(0, 99).map(str)


def lived(program, order):
    driver = Driver(Program, program)
    driver.run_to_end(order)
    assert isinstance(driver.run.closed, CompleteRun), driver.run.closed
    return driver


@settings(max_examples=150)
@given(programs, orders)
def test_any_program_replays_from_every_prefix_to_the_same_bytes(program, order):
    driver = lived(program, order)

    driver.check_replays()
    driver.close()


def test_many_programs_replay_in_another_process_with_another_hash_seed(processes, tmp_path):
    records, results = [], []

    @settings(max_examples=60, phases=[Phase.generate])
    @given(programs, orders)
    def live(program, order):
        driver = lived(program, order)
        records.append(json.dumps(driver.saved()))
        results.append(driver.result)
        driver.close()

    live()
    file = tmp_path / "records"
    file.write_text("\n".join(records))
    ended = processes.run(Path(engine_programs.__file__), file, PYTHONHASHSEED=7).checked()

    assert [json.loads(line) for line in ended.output.splitlines()] == results
