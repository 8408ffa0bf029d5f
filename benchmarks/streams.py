"""How soon a chunk reaches a reader, in the process that writes and in another one.

A run writes chunks with pauses between them, so that each is the first one after a pause; and then
in a quick row, as tokens come. Readers note when they got each. Prints one line of JSON with
milliseconds; the time of a chunk is taken just before it is written.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from durable_core import Client, Worker, activity, workflow

FIRST = 60
PAUSE = 0.2
ROW = 400
GAP = 0.005
IDLE = 5.0


@activity.defn
async def write(count: int, gap: float, stream: str) -> int:
    """Write the time, again and again."""
    out = activity.stream(stream)
    for _ in range(count):
        await asyncio.sleep(gap)
        out.write(time.time())

    return count


@activity.defn
async def rest(seconds: float) -> None:
    """Let readers wait in vain."""
    await asyncio.sleep(seconds)


@workflow.defn
async def writing() -> None:
    """Write slowly, quickly, and not at all."""
    await write(FIRST, PAUSE, "slow")
    await write(ROW, GAP, "quick")
    await rest(IDLE)
    workflow.stream("idle").write("end")


async def delays(client: Client, stream: str) -> list[float]:
    """Return how late each chunk came, in milliseconds."""
    handle = client.get_workflow_handle("w")
    count = FIRST if stream == "slow" else ROW
    reader, found = handle.stream(stream, result_type=float), []
    while len(found) < count:
        written = await anext(reader)
        found.append((time.time() - written) * 1000)

    return found


async def read(url: str) -> dict[str, Any]:
    """Read both streams, then wait, and say what the waiting cost."""
    async with await Client.connect(url) as client:
        found = {stream: summary(await delays(client, stream)) for stream in ("slow", "quick")}
        began, used = time.perf_counter(), time.process_time()
        await anext(client.get_workflow_handle("w").stream("idle"))
        share = (time.process_time() - used) / (time.perf_counter() - began)
        return {**found, "idle, share of a core": round(share, 4)}


def summary(found: list[float]) -> dict[str, float]:
    """Return the median and the extremes."""
    ordered = sorted(found)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[int(len(ordered) * 0.99)], 2),
        "worst": round(ordered[-1], 2),
    }


async def measure(url: str) -> dict[str, Any]:
    """Write in this process, and read here and in another one."""
    async with await Client.connect(url) as client:
        await client.start_workflow(writing, id="w", task_queue="q")
        command = [sys.executable, __file__, url]
        far = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        # It is there by then.
        await asyncio.sleep(1.0)
        async with Worker(client, task_queue="q", workflows=[writing], activities=[write, rest]):
            near = {s: summary(await delays(client, s)) for s in ("slow", "quick")}
            await client.get_workflow_handle("w").result()

        out, _ = await far.communicate()
        return {"same process": near, "another process": json.loads(out)}


def commit(folder: Path) -> float:
    """Return the milliseconds of an fsync here, which a chunk has to wait for."""
    found: list[float] = []
    with (folder / "plain").open("wb") as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            found.append((time.perf_counter() - began) * 1000)

    return round(statistics.median(found), 2)


def main() -> int:
    """Print the figures as one line of JSON."""
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(read(sys.argv[1]))))
        return 0

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        figures = asyncio.run(measure(f"sqlite:///{folder}/streams.db"))
        print(json.dumps({"fsync, ms": commit(Path(folder)), **figures}))

    return 0


if __name__ == "__main__":
    raise SystemExit(main())
