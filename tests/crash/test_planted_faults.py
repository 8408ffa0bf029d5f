"""Every bug that can be planted in the engine is found by a test of the default slice.

A suite that finds nothing proves nothing unless it would have found something. For each name of
`_planted.BUGS` one test is named here that fails while the bug is there; others fail too.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from durable_core import _planted
from support.processes import TESTS

FOUND_BY = {
    "ack.early": "integration/test_owned_runs.py::"
    "test_no_signal_is_acknowledged_before_the_commit_that_holds_it",
    "append.refused": "integration/test_sqlite_store.py::"
    "test_a_refused_member_of_a_commit_drops_out_alone",
    "batch.last": "crash/test_acknowledgements.py::"
    "test_starts_signals_and_results_survive_a_kill_at_any_commit",
    "began.unsaid": "crash/test_at_most_once.py::"
    "test_what_had_begun_at_a_kill_is_unknown_and_what_had_not_begins",
    "chunk.behind": "integration/test_stream_readers.py::"
    "test_a_reader_gets_every_chunk_in_order_whatever_its_offset[memory-kept]",
    "close.unread": "integration/test_store_conformance.py::"
    "test_an_event_is_put_into_the_inbox_of_an_open_run_once[sqlite]",
    "effects.early": "integration/test_owned_runs.py::"
    "test_no_body_starts_before_the_commit_that_asks_for_it",
    "event.twice": "crash/test_acknowledgements.py::"
    "test_a_signal_in_the_inbox_survives_kills_of_who_takes_its_run",
    "hash.address": "unit/test_engine_run.py::"
    "test_time_random_uuids_ids_and_hashes_are_equal_in_another_process",
    "inbox.dropped": "crash/test_acknowledgements.py::"
    "test_a_signal_in_the_inbox_survives_kills_of_who_takes_its_run",
    "key.reused": "unit/test_engine_surroundings.py::"
    "test_idempotency_keys_differ_between_activities_and_are_equal_on_replay",
    "reset.forgotten": "crash/test_stream_crashes.py::"
    "test_what_an_at_most_once_activity_wrote_is_void_when_its_process_dies",
    "timer.forgotten": "integration/test_eviction.py::"
    "test_a_run_that_only_waits_leaves_memory_and_wakes_in_time",
    "value.live": "unit/test_engine_surroundings.py::"
    "test_live_and_replayed_code_see_the_same_decoded_value",
}
# What waits for something that never comes has waited long enough then.
SECONDS = 6


def pytest_of(*tests: str, planted: str = "", seconds: int = 60) -> subprocess.CompletedProcess:
    environment = {name: v for name, v in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
            # A thread ends the process: what a signal raises is lost in a callback of a loop.
            *(f"--timeout={seconds}", "--timeout-method=thread"),
            *(str(TESTS / test) for test in tests),
        ],
        env={**environment, **({"DURABLE_PLANTED": planted} if planted else {})},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_each_planted_bug_has_a_test_that_is_to_find_it():
    assert tuple(FOUND_BY) == _planted.BUGS


@pytest.mark.timeout(150)
@pytest.mark.parametrize("bug", _planted.BUGS)
def test_a_planted_bug_is_found(bug):
    ended = pytest_of(FOUND_BY[bug], planted=bug, seconds=SECONDS)

    # 1: tests ran and failed; whatever else may go wrong has another number.
    assert ended.returncode == 1, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert "1 failed" in ended.stdout or " Timeout " in ended.stdout


@pytest.mark.timeout(150)
def test_without_a_planted_bug_the_same_tests_pass():
    ended = pytest_of(*dict.fromkeys(FOUND_BY.values()))

    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
