"""The switch interval of the process while workers own runs."""

from __future__ import annotations

import sys

import pytest
from durable_core import _defaults
from durable_core.worker._switching import Switching


@pytest.fixture(autouse=True)
def interval(monkeypatch):
    monkeypatch.setattr(Switching, "_holders", 0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield
    sys.setswitchinterval(before)


def test_it_is_short_from_the_first_worker_to_the_last():
    first, second = Switching(), Switching()
    assert sys.getswitchinterval() == pytest.approx(_defaults.SWITCH_INTERVAL)
    first.end()
    first.end()
    assert sys.getswitchinterval() == pytest.approx(_defaults.SWITCH_INTERVAL)
    second.end()
    assert sys.getswitchinterval() == pytest.approx(0.005)


def test_a_shorter_one_stays():
    sys.setswitchinterval(0.00001)
    share = Switching()
    assert sys.getswitchinterval() == pytest.approx(0.00001)
    share.end()
    assert sys.getswitchinterval() == pytest.approx(0.00001)


def test_one_that_somebody_sets_meanwhile_stays():
    share = Switching()
    sys.setswitchinterval(0.002)
    share.end()
    assert sys.getswitchinterval() == pytest.approx(0.002)
