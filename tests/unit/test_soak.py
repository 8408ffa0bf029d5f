"""The check of the soak: what it lets pass, and what it finds."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[1] / "soak" / "soak.py"


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak_under_test", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def samples(soak, **per_quarter):
    """Return four quarters of what is level but for noise, and for what is named."""
    noise = random.Random(1)
    level = {"memory": 136.0, "sqlite": 1.5, "threads": 43.0, "files": 28.0, "wal": 5.0}

    def one(quarter):
        more = {name: quarter * growth for name, growth in per_quarter.items()}
        return soak.Sample(
            **{k: v + noise.uniform(-0.5, 0.5) + more.get(k, 0) for k, v in level.items()}
        )

    return [[one(quarter) for _ in range(60)] for quarter in range(4)]


def rests(soak, blocks=0.0, others=0.0, runs=2000):
    noise = random.Random(2)
    return [
        soak.Rest(
            runs=n * runs,
            blocks=600_000 + int(n * runs * blocks) + noise.randrange(-300, 300),
            others=37e6 + n * runs * others + noise.randrange(-50_000, 50_000),
        )
        for n in range(1, 5)
    ]


def test_what_is_level_but_for_noise_passes(soak):
    assert soak.growth(samples(soak), rests(soak)) == []


@pytest.mark.parametrize("name", ["memory", "sqlite", "threads", "files", "wal"])
def test_a_level_that_rises_from_quarter_to_quarter_is_found(soak, name):
    found = soak.growth(samples(soak, **{name: 3.0}), rests(soak))
    assert [text.split()[0] for text in found] == [name]


def test_a_kibibyte_that_is_kept_of_every_run_is_found(soak):
    assert soak.growth(samples(soak), rests(soak, others=1024)) != []


def test_an_object_that_is_kept_of_every_run_is_found(soak):
    assert soak.growth(samples(soak), rests(soak, blocks=1)) != []
