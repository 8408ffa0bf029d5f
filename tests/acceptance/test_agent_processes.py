"""One run and several processes: at once, interrupted, and taken over."""

from __future__ import annotations

import signal

import pytest
from durable_openai_agents.testing import Fault, FaultRule
from support.agents_house import shown
from support.agents_projection import same
from support.waiting import until

pytest_plugins = ["support.agents_fixtures"]


def hang_at(house, turn: int) -> None:
    """Let one model call hang, until its process is gone."""
    house.server.add_fault(FaultRule(fault=Fault(kind="hang"), turn=turn))


def hung(house) -> bool:
    return any(event["kind"] == "request" and event.get("fault") for event in house.server.events())


def test_two_processes_with_one_id_are_one_run(houses, undisturbed):
    expected, once = undisturbed
    house = houses("two")
    both = [house.start(), house.start()]
    for process in both:
        same(shown(process.wait()), expected, "the result")

    same(house.asked() + house.effects(), once, "how often what ran")


def test_a_process_that_waits_takes_over_from_one_that_is_killed(houses, undisturbed):
    expected, once = undisturbed
    house = houses("takeover")
    hang_at(house, turn=1)
    owner = house.start()
    until(lambda: hung(house), "the model call that hangs")
    waiting = house.start()
    until(lambda: "imported" in waiting.output, "the second process")
    owner.kill()
    same(shown(waiting.wait()), expected, "the result")
    again = house.asked() + house.effects() - once
    assert again.total() == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_interrupted_ends_at_once_and_leaves_the_run_to_the_next(
    houses, undisturbed, number
):
    expected, once = undisturbed
    house = houses("interrupted")
    hang_at(house, turn=1)
    process = house.start()
    until(lambda: hung(house), "the model call that hangs")
    process.send(number)
    ended = process.wait(10)
    assert ended.code != 0
    assert "never" not in ended.output
    same(shown(house.run()), expected, "the result")
    again = house.asked() + house.effects() - once
    assert again.total() == 1
