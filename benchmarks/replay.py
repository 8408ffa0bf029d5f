"""How many activations per second a recorded run is replayed at.

What is timed is what a worker does to take a run: bytes of the store to records, and these through
the code of the run, with results decoded and arguments compared by digest. Reading the file is in
w6.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

import system_durable
import workloads as w
from durable_core.engine import Run
from durable_core.worker._host import Registered
from durable_core.worker._replay import Record, rebuild_at_once

ROUNDS = 5


async def _recorded(system: system_durable.Durable, size: int) -> Record:
    await w.run(system, "run", w.Plan("short", size))
    store = system.client.store
    row = await store.find(system.client.namespace, "run")
    assert row is not None
    return await store.load(row)


async def _measure(folder: Path, size: int) -> w.Figures:
    system = system_durable.Durable(folder)
    await system.open()
    loaded = await _recorded(system, size)
    await system.close()
    host = Registered([system_durable.Steps], [system_durable.step])
    spans: list[float] = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        record = Record(loaded)
        run = Run(record.start, host.workflow(record.start.workflow_type), host)
        rebuild_at_once(run, record.activations).close()
        spans.append(time.perf_counter() - begun)

    count = len(loaded.activations)
    return {
        "activations per s": count / min(spans),
        "ms": min(spans) * 1000,
        "bytes per step": sum(map(len, loaded.activations)) / size,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=int)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(_measure(given.folder, given.size))))


if __name__ == "__main__":
    main()
