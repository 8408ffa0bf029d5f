"""Turns of the processes that write to one file: nobody is kept by those who ask more often."""

from __future__ import annotations

import asyncio
import fcntl
import re

from support.rows import first, opened, rows, step
from support.waiting import until

# Writes with so many event loops and stores from the gate to the stop.
BUSY = """
import asyncio, sys, threading, time
from pathlib import Path
from support.rows import first, opened, step

path, name, loops = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
gate, stop = path.with_name("gate"), path.with_name("stop")
ready = threading.Barrier(loops + 1)
opened_gate = threading.Event()
stopped = threading.Event()
written = [0] * loops

async def write(n):
    async with opened(path) as store:
        run = f"{name}-{n}"
        worker = await store.register_worker(run)
        await store.append(first(run, worker))
        ready.wait()
        opened_gate.wait()
        while not stopped.is_set():
            written[n] += 1
            await store.append(step(run, worker, written[n]))

def wait_for(file):
    while not file.exists():
        time.sleep(0.01)

threads = [threading.Thread(target=asyncio.run, args=[write(n)]) for n in range(loops)]
for thread in threads:
    thread.start()
ready.wait()
print("ready", flush=True)
wait_for(gate)
opened_gate.set()
wait_for(stop)
stopped.set()
for thread in threads:
    thread.join()
print("wrote", sum(written))
"""


def written(path):
    return rows(path, "SELECT count(*) FROM activation")[0][0]


def test_a_process_with_one_writer_gets_as_many_turns_as_one_with_many(processes, store_path):
    started = [
        processes.start(BUSY, store_path, name, loops) for name, loops in [("one", 1), ("many", 8)]
    ]
    until(lambda: all("ready" in process.output for process in started), "the stores to be open")
    store_path.with_name("gate").touch()
    until(lambda: written(store_path) > 3000, "them to write", timeout=40)
    store_path.with_name("stop").touch()
    ended = [process.wait().checked().output for process in started]
    one, many = (int(re.search(r"wrote (\d+)", output)[1]) for output in ended)
    assert one > 0.4 * (one + many), (one, many)


def test_whoever_is_to_write_next_and_was_stopped_holds_up_nobody_for_long(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await store.append(first("r", worker))
            place = store_path.with_name("store.db-workers") / "turn"
            with place.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                for number in range(1, 200):
                    await store.append(step("r", worker, number))

    # Were it waited for each time as the first time, this would take a minute.
    asyncio.run(asyncio.wait_for(main(), 25))
    assert written(store_path) == 200
