"""A program that waits for its own run is stopped past its lease; another one calls the same id."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest
from durable_core import Client
from support import stopped_app
from support.crash_checks import result_of
from support.ledger import Ledger
from support.waiting import until

APP = Path(stopped_app.__file__)
EXPECTED = sum(range(stopped_app.STEPS))


async def recorded(url):
    """Return the activities that have an outcome, by the argument that tells them apart."""
    async with await Client.connect(url) as client:
        history = await client.get_workflow_handle(stopped_app.RUN).fetch_history()

    done = [e for e in history.timeline() if e.kind == "activity" and e.status == "completed"]
    return {str(entry.args[1]) for entry in done}


@pytest.mark.parametrize("woken", ["after the end", "in the middle"])
def test_both_callers_get_the_result_and_nothing_recorded_runs_again(
    woken, processes, store_url, tmp_path
):
    ledger = Ledger(tmp_path / "ledger")
    surroundings = {"DURABLE_URL": store_url, "LEDGER": ledger.path}
    steps = random.randint(1, stopped_app.STEPS - 2)
    first = processes.start(APP, **surroundings)
    until(lambda: len(ledger.effects()) > steps or not first.running, "some steps")
    first.send(signal.SIGSTOP)
    effects = len(ledger.effects())
    done = asyncio.run(recorded(store_url))
    second = processes.start(APP, **surroundings)
    if woken == "in the middle":
        until(lambda: len(ledger.effects()) > effects or not second.running, "the second caller")
        first.send(signal.SIGCONT)

    assert result_of(second.wait()) == EXPECTED
    first.send(signal.SIGCONT)
    assert result_of(first.wait()) == EXPECTED

    counts = ledger.counts(stopped_app.RUN)
    assert len(counts) == stopped_app.STEPS
    assert all(counts[f"step/{number}"] == 1 for number in done), "what is recorded ran again"
    # Once more what was under way when the first was stopped.
    assert counts.total() <= stopped_app.STEPS + 1
