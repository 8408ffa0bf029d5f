"""The workloads, in terms that every system under test can be asked in.

A `System` starts runs by a `Plan`, and a plan says what its steps do. Whatever is timed is written
here once, so that no system is measured in a way of its own. A workload runs in a fresh process on
fresh files and prints its figures as one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does: so many steps of one kind."""

    kind: str
    steps: int


class System(ABC):
    """What is measured. Everything is called on one event loop."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def start(self, id: str, plan: Plan) -> None:
        """Start a run; it is durable afterwards."""

    @abstractmethod
    async def result(self, id: str) -> int:
        """Return the number of steps of a run when it has ended."""

    @abstractmethod
    async def signal(self, id: str) -> None:
        """Let a run make its next step."""

    @abstractmethod
    async def resume(self) -> None:
        """Continue what a killed process left behind, if that does not go by itself."""


class Effects:
    """A ledger beside every system: one line per body, and the time at which a body began."""

    def __init__(self) -> None:
        self._file: int | None = None
        self.began: asyncio.Queue[float] = asyncio.Queue()

    def open(self, folder: Path) -> None:
        self._file = os.open(folder / "effects", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def note(self, id: str, n: int) -> None:
        if self._file is not None:
            os.write(self._file, f"{id} {n}\n".encode())


effects = Effects()


async def short(id: str, n: int) -> str:
    effects.note(id, n)
    return "x" * 200


async def long(id: str, n: int) -> str:
    effects.note(id, n)
    await asyncio.sleep(0.05)
    return "x" * 8192


async def paced(id: str, n: int) -> str:
    await asyncio.sleep(0.05)
    effects.note(id, n)
    return "x" * 200


async def told(_: str, __: int) -> str:
    effects.began.put_nowait(time.perf_counter())
    return "x" * 200


async def last_hangs(id: str, n: int) -> str:
    effects.note(id, n)
    effects.began.put_nowait(time.perf_counter())
    if n > HANGS_AFTER:
        await asyncio.sleep(3600)

    return "x" * 200


HANGS_AFTER = int(os.environ.get("HANGS_AFTER", "2000"))
BODIES: dict[str, Callable[[str, int], Awaitable[str]]] = {
    "short": short,
    "long": long,
    "paced": paced,
    "signals": told,
    "hangs": last_hangs,
    "sleep": short,
}


async def w1(system: System, size: int) -> Figures:
    """One run of so many sequential steps."""
    await run(system, "warm-up", Plan("short", 5))
    begun = time.perf_counter()
    await run(system, "run", Plan("short", size))
    return {"ms per step": (time.perf_counter() - begun) * 1000 / size}


async def w2(system: System, size: int) -> Figures:
    """So many runs of 10 steps at once."""
    await run(system, "warm-up", Plan("short", 5))
    begun = time.perf_counter()
    await asyncio.gather(*(run(system, f"run-{i}", Plan("short", 10)) for i in range(size)))
    return {"steps per s": size * 10 / (time.perf_counter() - begun)}


async def w3(system: System, size: int) -> Figures:
    """So many runs of 5 steps of 50 ms with results of 8 KiB."""
    await run(system, "warm-up", Plan("short", 5))
    begun = time.perf_counter()
    await asyncio.gather(*(run(system, f"run-{i}", Plan("long", 5)) for i in range(size)))
    return {"ms": (time.perf_counter() - begun) * 1000}


async def w4(system: System, size: int) -> Figures:
    """So many runs of one step, one after the other: start to result."""
    await run(system, "warm-up", Plan("short", 5))
    spans: list[float] = []
    for i in range(size):
        begun = time.perf_counter()
        await run(system, f"run-{i}", Plan("short", 1))
        spans.append((time.perf_counter() - begun) * 1000)

    return _quantiles(spans)


async def w5_fill(system: System, size: int) -> Figures:
    """So many runs of 10 steps of 50 ms, until somebody kills the process."""
    await asyncio.gather(*(run(system, f"run-{i}", Plan("paced", 10)) for i in range(size)))
    return {}


async def w5_go_on(system: System, size: int) -> Figures:
    """Continue them; until the last has ended."""
    await asyncio.gather(*(system.result(f"run-{i}") for i in range(size)))
    return {}


async def w6_fill(system: System, size: int) -> Figures:
    """One run of so many steps, and one more that hangs, until somebody kills the process."""
    await run(system, "run", Plan("hangs", size + 1))
    return {}


async def w6_go_on(_: System, __: int) -> Figures:
    """Continue it, until the step that hangs begins."""
    await effects.began.get()
    return {}


async def w7(system: System, size: int) -> Figures:
    """So many runs fall asleep for an hour."""
    await run(system, "warm-up", Plan("short", 5))
    memory = _resident()
    begun = time.perf_counter()
    for i in range(0, size, 500):
        await asyncio.gather(
            *(system.start(f"run-{j}", Plan("sleep", 0)) for j in range(i, min(i + 500, size)))
        )

    span = time.perf_counter() - begun
    return {
        "starts per s": size / span,
        "KiB of memory per run": (_resident() - memory) / size / 1024,
    }


async def w8(system: System, size: int) -> Figures:
    """So many signals, one after the other: until the step begins that each sets free."""
    await system.start("run", Plan("signals", size))
    await asyncio.sleep(0.1)
    spans: list[float] = []
    for _ in range(size):
        begun = time.perf_counter()
        sent = asyncio.ensure_future(system.signal("run"))
        spans.append((await effects.began.get() - begun) * 1000)
        await sent
        # The step's own commit is no part of the next signal's time.
        await asyncio.sleep(0.01)

    return _quantiles(spans)


WORKLOADS: dict[str, Callable[[System, int], Awaitable[Figures]]] = {
    "w1": w1,
    "w2": w2,
    "w3": w3,
    "w4": w4,
    "w5-fill": w5_fill,
    "w5-go-on": w5_go_on,
    "w6-fill": w6_fill,
    "w6-go-on": w6_go_on,
    "w7": w7,
    "w8": w8,
}


async def run(system: System, id: str, plan: Plan) -> None:
    await system.start(id, plan)
    await system.result(id)


def _quantiles(spans: list[float]) -> Figures:
    ordered = sorted(spans)
    return {"p50 ms": statistics.median(spans), "p99 ms": ordered[int(len(ordered) * 0.99)]}


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * resource.getpagesize())


@contextmanager
def _burning(*, burns: bool) -> Generator[None]:
    """Keep a core of the process busy with Python code, as a careless sync activity does."""
    stopped = threading.Event()

    def burn() -> None:
        while not stopped.is_set():
            sum(range(1000))

    thread = threading.Thread(target=burn, daemon=True)
    if burns:
        thread.start()

    try:
        yield
    finally:
        stopped.set()
        if burns:
            thread.join()


async def _measure(system: System, workload: str, size: int, *, burns: bool) -> Figures:
    begun = time.perf_counter()
    await system.open()
    if workload.endswith("go-on"):
        await system.resume()

    with _burning(burns=burns):
        figures = await WORKLOADS[workload](system, size)

    figures.setdefault("s", time.perf_counter() - begun)
    figures["CPU s"] = sum(os.times()[:2])
    if workload.endswith("go-on"):
        # What follows is not measured, and a step may hang.
        print(json.dumps(figures), flush=True)
        os._exit(0)

    await system.close()
    if workload == "w7":
        used = sum(path.stat().st_size for path in system.folder.iterdir() if path.is_file())
        figures["KiB of disk per run"] = used / size / 1024

    return figures


def main(system: type[System], prepare: Callable[[System], Any] | None = None) -> None:
    """Measure one workload in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=int)
    parser.add_argument("--burn", action="store_true")
    given = parser.parse_args()
    effects.open(given.folder)
    made = system(given.folder)
    if prepare is not None:
        prepare(made)

    figures = asyncio.run(_measure(made, given.workload, given.size, burns=given.burn))
    print(json.dumps(figures))
    sys.stdout.flush()
