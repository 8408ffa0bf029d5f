"""The benchmarks still measure: each workload, small, on the ceiling and on durable_core."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def figures(processes, script, *arguments):
    output = processes.run(FOLDER / script, *arguments).checked().output
    return json.loads(output.splitlines()[-1])


@pytest.mark.parametrize("system", ["ceiling", "durable"])
@pytest.mark.parametrize("workload", ["w1", "w2", "w4", "w7", "w8"])
def test_a_workload_has_figures(processes, tmp_path, system, workload):
    found = figures(processes, f"system_{system}.py", workload, tmp_path, 3)

    assert all(value >= 0 for value in found.values())
    assert found["s"] > 0


def test_replay_has_figures(processes, tmp_path):
    assert figures(processes, "replay.py", tmp_path, 20)["activations per s"] > 0
