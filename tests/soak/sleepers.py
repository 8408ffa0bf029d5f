"""Thousands of runs asleep, and their worker killed: what they cost, and how late they wake.

Three processes one after the other on one file. The first starts the runs and is killed with
SIGKILL while they sleep. The second, a worker, is looked at before it knows of any run and while
all of them sleep: they may cost no memory. Then they wake, spread over some seconds; each writes
when it was due and when it woke, in a file that is the oracle.

    python tests/soak/sleepers.py --runs 10000 --spread 60
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import apsw
from durable_core import Client, Worker, activity, workflow

QUEUE = "sleepers"
AT_ONCE = 200
# Blocks of Python per run that sleeps: noise, not an object per run.
MOST = 0.5


@activity.defn
def woke(due: float) -> None:
    with Path(os.environ["LEDGER"]).open("a", encoding="utf-8") as ledger:
        ledger.write(f"{due} {time.time()}\n")


@workflow.defn
async def sleeper(due: float) -> None:
    await asyncio.sleep(max(0.0, due - workflow.time()))
    await workflow.execute_activity(woke, due)


def worker(client: Client, *, serves: bool = True) -> Worker:
    return Worker(
        client,
        task_queue=QUEUE if serves else "another",
        workflows=[sleeper],
        activities=[woke],
    )


def held() -> str:
    """Return the resident memory, what of it is SQLite's caches, and Python's objects, by number."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    resident = int(pages) * os.sysconf("SC_PAGESIZE")
    return f"{resident} {apsw.memory_used()} {sys.getallocatedblocks()}"


async def begin(runs: int, first: float, spread: float) -> None:
    """Start the runs, say so when they sleep, and wait to be killed."""
    async with await Client.connect() as client, worker(client):
        slots = asyncio.Semaphore(AT_ONCE)

        async def start(n: int) -> None:
            async with slots:
                due = first + spread * n / runs
                await client.start_workflow(sleeper, due, id=f"sleeper-{n}", task_queue=QUEUE)

        await asyncio.gather(*(start(n) for n in range(runs)))
        print("begun", flush=True)
        await asyncio.Event().wait()


async def serve(first: float, *, serves: bool) -> None:
    """Work until killed; say what memory it takes before the first run is due."""
    async with await Client.connect() as client, worker(client, serves=serves):
        await asyncio.sleep(max(1.0, first - time.time() - 3.0))
        print("held", held(), flush=True)
        await asyncio.Event().wait()


class Process:
    """This file in a process of its own."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        environment = {
            **os.environ,
            "DURABLE_URL": f"sqlite:///{folder}/store.db",
            "LEDGER": f"{folder}/ledger",
        }
        command = [sys.executable, __file__, *map(str, arguments)]
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        )

    def says(self, word: str) -> str:
        """Wait for a line that begins with a word, and return the rest."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()

        raise SystemExit(f"the process ended before it said {word!r}")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def lateness(ledger: Path) -> list[tuple[float, float]]:
    """Return when each run was due, and how many seconds later it woke."""
    if not ledger.exists():
        return []

    lines = [line.split() for line in ledger.read_text(encoding="utf-8").splitlines()]
    return [(float(due), float(at) - float(due)) for due, at in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "begin", "serve", "idle"])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--spread", type=float, default=60.0)
    parser.add_argument("--first", type=float, default=0.0)
    parser.add_argument("--ahead", type=float, default=60.0)
    given = parser.parse_args()
    if given.what == "begin":
        asyncio.run(begin(given.runs, given.first, given.spread))
    elif given.what in {"serve", "idle"}:
        asyncio.run(serve(given.first, serves=given.what == "serve"))

    with tempfile.TemporaryDirectory() as name:
        folder, first = Path(name), time.time() + given.ahead
        starter = Process(
            folder, "begin", "--runs", given.runs, "--first", first, "--spread", given.spread
        )
        starter.says("begun")
        took = time.time() - (first - given.ahead)
        starter.kill()
        if time.time() > first - 10:
            raise SystemExit(f"the runs took {took:.0f} s to start: give more --ahead")

        print(f"{given.runs:,} runs started in {took:.1f} s, then SIGKILL", flush=True)
        idle = Process(folder, "idle", "--first", time.time() + 4)
        before = [int(part) for part in idle.says("held").split()]
        idle.kill()
        served = Process(folder, "serve", "--first", first)
        after = [int(part) for part in served.says("held").split()]
        for what, (resident, caches, blocks) in (("another queue", before), ("this one", after)):
            print(
                f"a worker of {what}: {resident / 2**20:.1f} MiB resident, of which "
                f"{caches / 2**20:.1f} MiB are SQLite's; {blocks:,} blocks of Python",
                flush=True,
            )

        each = (after[2] - before[2]) / given.runs
        print(f"{each:.2f} blocks of Python more per run", flush=True)
        ends = first + given.spread + 60
        while len(found := lateness(folder / "ledger")) < given.runs and time.time() < ends:
            time.sleep(0.5)

        served.kill()
        report(found, given.runs, each)


def report(found: list[tuple[float, float]], runs: int, each: float) -> None:
    """Print how late the runs woke, and fail if one did not, or woke twice or early."""
    late = sorted(seconds for _, seconds in found)
    shares = (0.5, 0.9, 0.99, 0.999)
    shown = ", ".join(
        f"p{100 * p:g} {late[int(p * (len(late) - 1))] * 1000:.0f} ms" for p in shares
    )
    print(f"{len(found):,} of {runs:,} woke; lateness {shown}, most {late[-1] * 1000:.0f} ms")
    twice = len(found) - len({due for due, _ in found})
    problems = [
        text
        for text, wrong in (
            (f"{runs - len(found)} never woke", len(found) < runs),
            (f"{twice} woke twice", twice),
            (f"one woke {-late[0]:.3f} s early", late[0] < 0),
            (f"{each:.2f} blocks of memory per run", each > MOST),
        )
        if wrong
    ]
    if problems:
        raise SystemExit("FAILED: " + "; ".join(problems))

    print("ok")


if __name__ == "__main__":
    main()
