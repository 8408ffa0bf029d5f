"""Write docs/performance.md and docs/performance.svg from docs/performance.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import plot

DOCS = Path(__file__).resolve().parent.parent / "docs"
# What the figures do not say; by hand, with its own commit.
NOTES = Path(__file__).resolve().parent / "notes.md"


class Target(NamedTuple):
    """One row of the table of targets.

    Attributes:
        what: For people.
        cell, figure: Where it is found.
        limit: What is to be reached, in the unit of the figure, or in ceilings.
        said: The limit, for people.
        of_ceiling: Whether the limit is a multiple of the ceiling's figure.
        system: Whose figure it is.
        least: Whether it must be at least that.
    """

    what: str
    cell: str
    figure: str
    limit: float
    said: str
    of_ceiling: bool = False
    system: str = "durable"
    least: bool = False


TARGETS = (
    Target("sequential step (w1), ms", "w1", "ms per step", 1.5, "≤ 1.5 × ceiling", True),
    Target("200 runs × 10 steps (w2), steps/s", "w2", "steps per s", 5000, "≥ 5,000", least=True),
    Target("the same, the goal", "w2", "steps per s", 15000, "≥ 15,000", least=True),
    Target("100 runs × 5 × 50 ms (w3), ms", "w3", "ms", 1.1, "≤ 1.1 × ceiling", True),
    Target("start to result (w4), p50 ms", "w4", "p50 ms", 1.5, "≤ 1.5 × ceiling", True),
    Target("100 runs after a kill (w5), s", "w5", "s", 0.5, "≤ 0.5"),
    Target("effects twice in w5, of 1,000", "w5", "effects twice", 1, "≤ 1"),
    Target("2,000 steps after a kill (w6), s", "w6", "s", 0.1, "≤ 0.1"),
    Target("disk per sleeping run (w7), KiB", "w7", "KiB of disk per run", 2, "≤ 2"),
    Target("signal to effect (w8), p50 ms", "w8", "p50 ms", 1.5, "≤ 1.5 × ceiling", True),
    Target(
        "replay, activations/s",
        "replay",
        "activations per s",
        50000,
        "≥ 50,000",
        system="replay",
        least=True,
    ),
    Target("import durable_core, ms", "imports", "ms", 100, "≤ 100", system="imports"),
    Target(
        "400-call conversation, × its bytes",
        "adapter",
        "recorded / conversation",
        3,
        "≤ 3",
        system="adapter",
    ),
    Target(
        "adapter, ms more per turn at first",
        "adapter",
        "extra ms, first",
        3,
        "≤ 3",
        system="adapter",
    ),
    Target(
        "adapter, ms more per turn at call 400",
        "adapter",
        "extra ms, last",
        3,
        "≤ 3",
        system="adapter",
    ),
)
SHOWN = (
    ("w1", "ms per step"),
    ("w2", "steps per s"),
    ("w3", "ms"),
    ("w4", "p50 ms"),
    ("w4", "p99 ms"),
    ("w5", "s"),
    ("w5", "effects twice"),
    ("w6", "s"),
    ("w7", "starts per s"),
    ("w7", "KiB of memory per run"),
    ("w7", "KiB of disk per run"),
    ("w8", "p50 ms"),
    ("w8", "p99 ms"),
    ("w1 beside a thread that computes", "ms per step"),
    ("w2 beside a thread that computes", "steps per s"),
    ("w8 beside a thread that computes", "p50 ms"),
)
HEAD = """# Performance

Written by `python3 noxfile.py bench`; the figures with their extremes are in
[performance.json](performance.json).

{about}

*Ceiling* is a group-commit journal of 80 lines on the same SQLite settings, without types,
retries, leases, queues or traces (`benchmarks/system_ceiling.py`): what Python and one flush per
commit allow. DBOS is the `dbos` package on SQLite in WAL mode. Each cell is a fresh process on
fresh files, systems take turns, and each figure is the median of its rounds. Every system commits
durably (`synchronous=FULL`). A ratio says something on any machine; a figure alone does not,
least of all on one that has other things to do: compare with the commit of one row, {disk} ms
here. A `load of the machine` above the number of its processors says that others
worked on it meanwhile, which slows down most what takes most turns of the interpreter.

## Targets

| what | target | here | met |
| --- | --- | --- | --- |
"""
WORKLOADS = """
The workloads: w1 one run of 200 sequential steps of 200 bytes · w2 200 runs × 10 steps at once ·
w3 100 runs × 5 steps of 50 ms with results of 8 KiB · w4 start to result of a one-step run, 100
in sequence · w5 100 runs × 10 steps of 50 ms, SIGKILL at 40 % of the effects, a new worker until
all are done · w6 2,000 steps done, the next hangs, SIGKILL, a new worker until it runs · w7 2,000
runs asleep for an hour · w8 signal to the next step's effect. A step of w1 is one commit, w4 two
(the ceiling: three).

![Cost against size](performance.svg)

## Against the ceiling and DBOS

| what | ceiling | durable | DBOS | durable / ceiling |
| --- | --- | --- | --- | --- |
"""


def main() -> None:
    results = json.loads((DOCS / "performance.json").read_text())
    cells = results["cells"]

    def figure(cell: str, system: str, name: str) -> float | None:
        found: float | None = cells.get(cell, {}).get(system, {}).get(name)
        return found

    about = ", ".join(f"{name} {value}" for name, value in results["about"].items())
    text = HEAD.format(about=f"Measured: {about}.", disk=shown(figure("disk", "disk", "ms")))
    text += "".join(_target(target, figure) for target in TARGETS)
    text += WORKLOADS
    for cell, name in SHOWN:
        ceiling, own, dbos = (figure(cell, s, name) for s in ("ceiling", "durable", "dbos"))
        ratio = f"{own / ceiling:.2f}" if own and ceiling else ""
        text += f"| {cell}, {name} | {shown(ceiling)} | {shown(own)} | {shown(dbos)} | {ratio} |\n"

    text += NOTES.read_text()
    (DOCS / "performance.md").write_text(text)
    plot.draw(cells, DOCS / "performance.svg")


def _target(target: Target, figure: Callable[[str, str, str], float | None]) -> str:
    found = figure(target.cell, target.system, target.figure)
    value, text = found, shown(found)
    if target.of_ceiling:
        ceiling = figure(target.cell, "ceiling", target.figure)
        value = found / ceiling if found is not None and ceiling else None
        text += "" if value is None else f" = {value:.2f} × ceiling"

    return f"| {target.what} | {target.said} | {text} | {_verdict(target, value)} |\n"


def _verdict(target: Target, value: float | None) -> str:
    if value is None:
        return "not measured"

    share = value / target.limit
    met = share >= 1 if target.least else share <= 1
    return "yes" if met else f"no: {share:.2f} of the target"


def shown(value: Any) -> str:
    """Return a figure in three digits."""
    if value is None:
        return ""

    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
