"""The switch interval of the process while workers own runs."""

from __future__ import annotations

import os
import sys
import warnings

import pytest
from durable_core import _defaults
from durable_core.worker._switching import Switching


@pytest.fixture(autouse=True)
def interval(monkeypatch):
    monkeypatch.setattr(Switching, "_holders", set())
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


def test_it_grows_with_the_workers_and_never_beyond_what_it_was():
    shares = [Switching() for _ in range(20)]
    assert sys.getswitchinterval() == pytest.approx(10 * _defaults.SWITCH_INTERVAL)
    shares += [Switching() for _ in range(200)]
    assert sys.getswitchinterval() == pytest.approx(0.005)
    while len(shares) > 2:
        shares.pop().end()

    assert sys.getswitchinterval() == pytest.approx(_defaults.SWITCH_INTERVAL)
    for share in shares:
        share.end()

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


def test_a_forked_child_has_the_interval_of_before():
    share = Switching()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: tests have threads
        child = os.fork()

    if not child:
        seen = [sys.getswitchinterval()]
        own = Switching()
        seen.append(sys.getswitchinterval())
        own.end()
        share.end()
        seen.append(sys.getswitchinterval())
        os._exit(seen != pytest.approx([0.005, _defaults.SWITCH_INTERVAL, 0.005]))

    assert os.waitpid(child, 0)[1] == 0
    assert sys.getswitchinterval() == pytest.approx(_defaults.SWITCH_INTERVAL)
    share.end()
