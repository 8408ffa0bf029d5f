"""Measure everything, and write docs/performance.json.

Each cell is a fresh process on fresh files. Systems are interleaved, round by round, and a figure
is the median of its rounds: a ratio of two of them says something on any machine, also on one that
has other things to do; a figure alone does not.

    python benchmarks/run.py                    everything, three rounds
    python benchmarks/run.py --rounds 1 w1 w2   some workloads, once
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "docs" / "performance.json"
LIMIT = 600.0
Figures = dict[str, float]
OWN, ALL = ("ceiling", "durable"), ("ceiling", "durable", "dbos")


class Cell(NamedTuple):
    """One thing to measure.

    Attributes:
        name: As in the results.
        systems: What is measured.
        workload: What is done; empty if the system is a script of its own.
        size: Of the workload.
        burn: Whether a thread computes beside it.
    """

    name: str
    systems: tuple[str, ...]
    workload: str
    size: int
    burn: bool = False


CELLS = (
    Cell("disk", ("disk",), "", 400),
    Cell("imports", ("imports",), "", 0),
    Cell("w1", ALL, "w1", 200),
    Cell("w2", ALL, "w2", 200),
    Cell("w3", ALL, "w3", 100),
    Cell("w4", ALL, "w4", 100),
    Cell("w5", ALL, "w5", 100),
    Cell("w6", OWN, "w6", 2000),
    Cell("w7", OWN, "w7", 2000),
    Cell("w8", ALL, "w8", 20),
    Cell("w1 beside a thread that computes", OWN, "w1", 100, burn=True),
    Cell("w2 beside a thread that computes", OWN, "w2", 100, burn=True),
    Cell("w8 beside a thread that computes", OWN, "w8", 50, burn=True),
    Cell("replay", ("replay",), "", 2000),
    *(Cell(f"w1 of {n}", OWN, "w1", n) for n in (10, 50, 500, 2000)),
    *(Cell(f"w2 of {n}", OWN, "w2", n) for n in (1, 10, 50, 500)),
    *(Cell(f"replay of {n}", ("replay",), "", n) for n in (10, 100, 1000, 5000)),
    Cell("adapter", ("adapter",), "", 400),
)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("cells", nargs="*", help="beginnings of names; all without any")
    given = parser.parse_args()
    chosen = [c for c in CELLS if not given.cells or c.name.startswith(tuple(given.cells))]
    found: dict[str, dict[str, list[Figures]]] = {}
    for turn in range(given.rounds):
        for cell in chosen:
            if cell.name == "adapter" and turn:
                continue  # its figures are medians over turns already, and it is long

            for system in cell.systems:
                figures = measured(cell, system)
                print(turn + 1, cell.name, system, json.dumps(figures), flush=True)
                found.setdefault(cell.name, {}).setdefault(system, []).append(figures)

    report = json.loads(RESULTS.read_text()) if given.cells and RESULTS.exists() else {}
    report["about"] = about()
    cells = report.setdefault("cells", {})
    for name, systems in found.items():
        cells[name] = {system: medians(rounds) for system, rounds in systems.items()}

    RESULTS.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    return 0


def measured(cell: Cell, system: str) -> Figures:
    """Return the figures of one cell, in a fresh process on fresh files."""
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as name:
        folder = Path(name)
        if cell.workload in {"w5", "w6"}:
            return after_a_kill(cell, system, folder)

        return output_of(command(cell, system, cell.workload, folder))


def command(cell: Cell, system: str, workload: str, folder: Path) -> list[str]:
    """Return how a cell is started."""
    if not workload:
        return [sys.executable, str(HERE / f"{system}.py"), str(folder), str(cell.size)]

    script = str(HERE / f"system_{system}.py")
    burn = ["--burn"] if cell.burn else []
    return [sys.executable, script, workload, str(folder), str(cell.size), *burn]


def environment() -> dict[str, str]:
    # Without written bytecode an import would compile everything anew.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "OPENAI_AGENTS_DISABLE_TRACING": "1"}


def output_of(arguments: list[str]) -> Figures:
    """Return the JSON on the last line of what a command prints; nothing if it fails."""
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=LIMIT, env=environment(), check=False
        )
    except subprocess.TimeoutExpired:
        print("no end after", LIMIT, "s:", *arguments, file=sys.stderr)
        return {}

    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return {}

    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def after_a_kill(cell: Cell, system: str, folder: Path) -> Figures:
    """Kill a process in the middle of its runs, and measure how a new one goes on."""
    # At 40 % of the effects, or when the last step hangs.
    enough = cell.size * 4 if cell.workload == "w5" else cell.size + 1
    filling = subprocess.Popen(
        command(cell, system, f"{cell.workload}-fill", folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    deadline = time.monotonic() + LIMIT
    while len(effects(folder)) < enough:
        time.sleep(0.002)
        if filling.poll() is not None or time.monotonic() > deadline:
            filling.kill()
            filling.wait()
            print("it was not filled:", system, cell.name, file=sys.stderr)
            return {}

    # The bodies of all runs end together, every 50 ms; where in between is left to chance.
    time.sleep(random.uniform(0, 0.05))
    filling.send_signal(signal.SIGKILL)
    filling.wait()
    figures = output_of(command(cell, system, f"{cell.workload}-go-on", folder))
    if cell.workload == "w5":
        figures["effects twice"] = sum(n - 1 for n in Counter(effects(folder)).values())

    return figures


def effects(folder: Path) -> list[str]:
    path = folder / "effects"
    return path.read_text().splitlines() if path.exists() else []


def medians(rounds: list[Figures]) -> Figures:
    """Return the median of each figure, with its extremes."""
    names = {name for figures in rounds for name in figures}
    found: Figures = {"rounds": len(rounds)}
    for name in names:
        values = [figures[name] for figures in rounds if name in figures]
        found[name] = round(statistics.median(values), 4)
        found[f"{name}, least"] = round(min(values), 4)
        found[f"{name}, most"] = round(max(values), 4)

    return found


def about() -> dict[str, object]:
    """Return what the figures depend on."""
    import apsw

    git = shutil.which("git") or "git"
    commit = subprocess.run(
        [git, "describe", "--always", "--dirty"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    processors = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{len(processors)} × {processors[0] if processors else 'unknown'}",
        "load of the machine": round(os.getloadavg()[1], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
