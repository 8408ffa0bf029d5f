"""Many signals a second to one run whose worker is killed again and again: all there, in order.

One process sends numbers at a steady rate and waits for each to be acknowledged; another serves the
run, and is killed with SIGKILL every few seconds. In the end the run says which it got.

    python tests/soak/signals.py --rate 1000 --seconds 20 --kill-every 3
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

from durable_core import Client, Worker, workflow

QUEUE = "signals"
TICK = 0.01


@workflow.defn
class Counter:
    """Keeps the numbers that it is sent."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.ends = False

    @workflow.run
    async def run(self) -> list[int]:
        await workflow.wait_condition(lambda: self.ends)
        return self.got

    @workflow.signal
    def put(self, number: int) -> None:
        self.got.append(number)

    @workflow.signal
    def end(self) -> None:
        self.ends = True


async def serve() -> None:
    async with (
        await Client.connect() as client,
        Worker(client, task_queue=QUEUE, workflows=[Counter]),
    ):
        await asyncio.Event().wait()


def started() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "serve"])


async def send(rate: int, seconds: float, kill_every: float, seed: int) -> None:
    choose = random.Random(seed)
    async with await Client.connect() as client:
        handle = await client.start_workflow(Counter.run, id="counter", task_queue=QUEUE)
        server, kills, acknowledged = started(), 0, 0
        begun = time.monotonic()
        next_kill = begun + kill_every * choose.uniform(0.5, 1.5)
        sending: list[asyncio.Task[None]] = []
        sent = 0
        while (now := time.monotonic()) < begun + seconds:
            # As many as are due by now; each is written behind the one before.
            for _ in range(int((now - begun) * rate) - sent):
                sending.append(asyncio.create_task(handle.signal(Counter.put, sent)))
                sent += 1

            if now > next_kill:
                server.send_signal(signal.SIGKILL)
                server.wait()
                kills += 1
                server = started()
                next_kill = now + kill_every * choose.uniform(0.5, 1.5)

            await asyncio.sleep(TICK)

        await asyncio.gather(*sending)
        acknowledged = time.monotonic() - begun
        await handle.signal(Counter.end)
        got = await handle.result()
        done = time.monotonic() - begun
        server.kill()
        server.wait()
        history = await handle.fetch_history()

    print(
        f"{sent:,} signals in {seconds:g} s ({sent / seconds:,.0f} per second), all acknowledged "
        f"after {acknowledged:.1f} s and handled after {done:.1f} s, in "
        f"{len(history.activations):,} activations; {kills} kills, seed {seed}"
    )
    if got != list(range(sent)):
        missing = sorted(set(range(sent)) - set(got))
        raise SystemExit(
            f"FAILED: {len(missing)} missing, {len(got) - len(set(got))} twice, "
            f"{'in order' if got == sorted(got) else 'out of order'}"
        )

    print("ok")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "serve"])
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kill-every", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    if given.what == "serve":
        asyncio.run(serve())
        return

    with tempfile.TemporaryDirectory() as folder:
        os.environ["DURABLE_URL"] = f"sqlite:///{folder}/store.db"
        asyncio.run(send(given.rate, given.seconds, given.kill_every, given.seed))


if __name__ == "__main__":
    main()
