"""What was acknowledged survives a kill right before and right after the commit that holds it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from durable_core import Client
from support import talk_app
from support.forks import Forks
from support.kill_trials import Trial
from support.ledger import Ledger

TALKER = Path(talk_app.__file__)
MOST = 60
SAMPLE = 6


@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", ["store.commit.before", "store.commit.after"])
def test_starts_signals_and_results_survive_a_kill_at_any_commit(point, tmp_path, processes, long):
    seed = random.randrange(2**32)
    # A trial makes some thirty commits, fewer where they are slow and hold more.
    some = sorted(random.Random(seed).sample(range(1, 25), SAMPLE))
    reached = 0
    with Forks(tmp_path) as forks:
        for n in range(1, MOST) if long else some:
            folder = tmp_path / str(n)
            folder.mkdir()
            trial = Trial(f"{seed}/{n}", folder, forks, processes)
            reached += trial.run_at("both", f"{point}:{n}")

    print(f"0 failures in {reached} kills at {point}, seed {seed}")
    assert reached >= SAMPLE // 2


def test_a_signal_in_the_inbox_survives_kills_of_who_takes_its_run(processes, store_url, tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    surroundings = {"DURABLE_URL": store_url, "LEDGER": ledger.path}

    async def main():
        async with await Client.connect(store_url) as client:
            handle = await client.start_workflow(
                talk_app.Collector.run, id="w", task_queue=talk_app.QUEUE
            )
            for number in range(9, 12):
                await handle.signal(talk_app.Collector.put, number)

            for point in ("run.claim.after", "run.claim.before", "run.activated.after"):
                worker = processes.start(TALKER, "worker", fault=f"{point}:1", **surroundings)
                assert (await asyncio.to_thread(worker.wait)).killed

            await handle.signal(talk_app.Collector.end)
            worker = processes.start(TALKER, "worker", **surroundings)
            got, noted = await asyncio.wait_for(handle.result(), 20)
            worker.kill()
            assert (got, noted) == ([9, 10, 11], [10])

    asyncio.run(main())
    assert ledger.counts("w") == {"note/10": 1}
