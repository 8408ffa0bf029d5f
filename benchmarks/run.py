"""Sequential steps per second, beside the commits per second of the same disk.

A ratio of two figures of one run says something on any machine; the figures alone do not.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import apsw
import durable_core
from durable_core import activity, workflow

STEPS = 200


@activity.defn
async def step(n: int) -> str:
    return "x" * 200 + str(n)


@workflow.defn
class Sequence:
    @workflow.run
    async def run(self, steps: int) -> int:
        for n in range(steps):
            await workflow.execute_activity(step, n)

        return steps


def commits(path: Path) -> float:
    """Return milliseconds per durable commit of one row of 400 bytes."""
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("CREATE TABLE t (x)")
    begun = time.perf_counter()
    for _ in range(STEPS):
        connection.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES (zeroblob(400)); COMMIT")

    return (time.perf_counter() - begun) * 1000 / STEPS


async def steps(path: Path) -> float:
    """Return milliseconds per sequential durable step."""
    url = f"sqlite:///{path}"
    await durable_core.execute_workflow(Sequence.run, 1, id="warm-up", url=url)
    begun = time.perf_counter()
    await durable_core.execute_workflow(Sequence.run, STEPS, id="run", url=url)
    return (time.perf_counter() - begun) * 1000 / STEPS


def main() -> int:
    """Print the figures as one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        commit = commits(Path(folder) / "commits.db")
        step_cost = asyncio.run(steps(Path(folder) / "steps.db"))

    figures = {"commit_ms": commit, "step_ms": step_cost, "ratio": step_cost / commit}
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
