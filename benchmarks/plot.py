"""Cost against size, as one SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "durable"
import matplotlib.pyplot as plt  # noqa: E402  # after the backend is chosen

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

Cells = dict[str, dict[str, dict[str, float]]]
COLOURS = {"ceiling": "#8a8a8a", "durable": "#0b6e4f", "replay": "#0b6e4f"}


def draw(cells: Cells, path: Path) -> None:
    """Draw steps of one run, runs at once, and the length of a history that is replayed."""
    figure, (steps, runs, history) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    _lines(steps, cells, "w1", ("ceiling", "durable"), "ms per step", first=200)
    steps.set(title="One run", xlabel="steps, one after the other", ylabel="ms per step", ylim=0)
    _lines(runs, cells, "w2", ("ceiling", "durable"), "steps per s", first=200)
    runs.set(title="Runs of 10 steps at once", xlabel="runs", ylabel="steps/s", yscale="log")
    _lines(history, cells, "replay", ("replay",), "ms", first=2000)
    history.set(title="Replay", xlabel="activations in the history", ylabel="ms", yscale="log")
    figure.savefig(path, metadata={"Date": None})


def _lines(
    axes: Axes, cells: Cells, name: str, systems: tuple[str, ...], figure: str, *, first: int
) -> None:
    sizes = {first: name}
    sizes.update((int(c.rpartition(" ")[2]), c) for c in cells if c.startswith(f"{name} of "))
    for system in systems:
        points: list[tuple[int, Any]] = [
            (size, found)
            for size, cell in sorted(sizes.items())
            if (found := cells.get(cell, {}).get(system, {}).get(figure)) is not None
        ]
        axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[system], label=system, ms=4)

    axes.set_xscale("log")
    axes.grid(visible=True, alpha=0.3)
    if len(systems) > 1:
        axes.legend(frameon=False)
