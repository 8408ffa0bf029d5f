"""SIGKILL of an activity that says how far it came: the next attempt goes on from there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from durable_core import _defaults
from support import beat_app
from support.waiting import until

APP = Path(beat_app.__file__)
# Said every 0.05 s, recorded every second.
BEHIND = _defaults.HEARTBEAT_EVERY / 0.05


def numbers(what, output):
    return [int(n) for n in re.findall(rf"^{what} (\d+)$", output, re.MULTILINE)]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_the_next_attempt_finds_what_was_said_up_to_a_second_before_the_kill(
    processes, store_url, kind
):
    reached = 0
    for goal in (12, 30):
        process = processes.start(APP, DURABLE_URL=store_url, KIND=kind)
        until(lambda p=process, g=goal: g in numbers("said", p.output), "heartbeats")
        output = process.kill().output
        (began,) = numbers("from", output)
        # Not before what the attempt before had found, and not after what it said.
        assert reached <= began
        reached, said = began, numbers("said", output)[-1]

    ended = processes.run(APP, DURABLE_URL=store_url, KIND=kind).checked()
    (began,) = numbers("from", ended.output)
    assert said - BEHIND - 5 <= began <= said
    assert began > 0
    assert numbers("result", ended.output) == [began]
