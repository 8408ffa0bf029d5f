"""Workers are ended by SIGTERM one after the other while others work: their runs are handed over."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path

import pytest
from durable_core import Client
from support import zombie_app
from support.ledger import Ledger
from support.waiting import eventually
from support.zombie_checks import Load, check_record

APP = Path(zombie_app.__file__)
SECONDS, LONG_SECONDS = 8.0, 120.0


@pytest.mark.timeout(600)
def test_what_a_worker_hands_over_is_neither_lost_nor_executed_again(
    processes, store_path, store_url, tmp_path, long
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    ledger, ended = Ledger(tmp_path / "ledger"), []

    def serve(number):
        surroundings = {"DURABLE_URL": store_url, "LEDGER": ledger.path}
        return processes.start(APP, f"worker-{number}", 10.0, **surroundings)

    async def main():
        workers = [serve(0), serve(1)]
        ends = time.monotonic() + (LONG_SECONDS if long else SECONDS)
        async with await Client.connect(store_url) as client:
            load = Load(client)
            while time.monotonic() < ends:
                await load.fill()
                await eventually(
                    lambda: all("ready" in w.output for w in workers), "the workers", timeout=40
                )
                until = time.monotonic() + choose.uniform(0.0, 0.5)
                while time.monotonic() < until:
                    await load.fill()
                    await asyncio.sleep(0.01)

                old = workers.pop(0)
                old.send(signal.SIGTERM)
                workers.append(serve(2 + len(ended)))
                await eventually(lambda old=old: not old.running, "its end", timeout=40)
                ended.append(old.wait().checked())

            await load.finish()
            histories = [
                await client.get_workflow_handle(f"run-{n}").fetch_history()
                for n in range(1, load.started + 1)
            ]
            again = await check_record(store_path, client, ledger.effects(), load.started)
            return load.started, again, histories

    started, again, histories = asyncio.run(main())
    attempts = [a for h in histories for e in h.timeline() for a in e.attempts]
    lost = [a for a in attempts if a.outcome == "lost"]
    cut = [a for a in attempts if a.outcome == "cancelled"]
    print(
        f"{len(ended)} workers ended, {started} runs, {len(ledger.effects())} bodies, "
        f"{len(cut)} attempts cut off, {again} bodies again, {len(lost)} lost; seed {seed}"
    )
    assert ended
    # What a shutdown cuts off is no loss, and is begun again; nothing else is.
    assert not lost
    assert again <= len(cut)
    assert not any("Traceback" in e.output for e in ended), [e.output for e in ended]
