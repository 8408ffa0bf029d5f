"""Ctrl-C in a tool of an agent run: the program ends at once, says how, and continues."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from support import interrupted_agents
from support.waiting import until

pytest_plugins = ["support.agents_fixtures"]

SAID = (
    "durable: run 'audit-1' was interrupted and is kept; the same call continues it. See: durable "
    "show audit-1"
)
# The lines of a traceback that do not begin with white space.
OF_A_TRACEBACK = re.compile(
    r"Traceback \(most recent call last\):|During handling of the above exception, .*|"
    r"asyncio\.exceptions\.CancelledError|KeyboardInterrupt"
)


@pytest.mark.parametrize(
    ("how", "tool"),
    [("run", "waiting"), ("run", "threaded"), ("run_sync", "blocking")],
)
def test_ctrl_c_in_a_tool_interrupts_the_run_and_the_same_call_continues_it(houses, how, tool):
    house = houses("interrupted", Path(interrupted_agents.__file__))
    process = house.processes.start(house.program, how, tool, **house.environment)
    until(lambda: house.effects()["dig"] or not process.running, "the tool")
    process.send(signal.SIGINT)
    # Long before the tool is over.
    ended = process.wait(15)

    assert ended.code == -signal.SIGINT
    *traceback, interrupt, said = ended.output.splitlines()
    assert (interrupt, said) == ("KeyboardInterrupt", SAID)
    others = [line for line in traceback if line and not line.startswith(" ")]
    assert [line for line in others if not OF_A_TRACEBACK.fullmatch(line)] == []
    assert (house.row().status, house.row().owner) == ("running", None)

    again = house.processes.run(house.program, how, tool, QUICK=1, **house.environment)
    assert again.checked().output == '["tidy", "gold"]\n'
    assert house.row().status == "completed"
    assert list(house.asked().values()) == [1, 1, 1]
    assert house.effects() == {"look": 1, "dig": 2}
