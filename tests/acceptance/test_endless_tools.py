"""A tool that never returns: what is seen of it, and every way in which a user gets rid of it."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest
from durable_core.cli import main as cli
from support import endless_app
from support.waiting import until

pytest_plugins = ["support.agents_fixtures"]
pytestmark = pytest.mark.needs_a_store

APP = Path(endless_app.__file__)
SAID = "durable: run 'chat-1' was interrupted and is kept; the same call continues it. See: durable"


@pytest.fixture
def start(bench, processes):
    """Starts the script; returns once its tool has begun, and the process."""

    def start(kind, how="run", *, waits=True, **surroundings):
        surroundings = {
            "DURABLE_URL": bench.store_url,
            "MODEL": bench.server.base_url,
        } | surroundings
        process = processes.start(APP, kind, how, **surroundings)
        if waits:
            until(lambda: "begun" in process.output, f"the tool {kind}")

        return process

    return start


@pytest.fixture
def durable(bench, capsys):
    """Runs the command line, which reads and writes the store beside the script."""

    def durable(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli(["--url", bench.store_url, *arguments])

        assert ended.value.code == 0
        return "".join(capsys.readouterr())

    return durable


def check_interrupted(ended):
    """The last line says how it goes on, and asyncio has nothing to add."""
    assert ended.code == -signal.SIGINT
    assert "KeyboardInterrupt" in ended.output
    assert "never retrieved" not in ended.output
    assert ended.output.rstrip().splitlines()[-1].startswith(SAID)


def test_ctrl_c_ends_a_program_whose_tool_never_returns(start, bench, monkeypatch):
    process = start("thread")
    process.send(signal.SIGINT)
    check_interrupted(process.wait(10))
    monkeypatch.setenv("MODEL", bench.server.base_url)
    monkeypatch.setenv("QUICK", "1")
    assert asyncio.run(endless_app.run("thread")) == '["at last"]'


def test_ctrl_c_ends_a_program_that_is_not_async_as_well(start):
    # Its client is never closed, as in many a script.
    process = start("thread", "run_sync", PYTHONWARNINGS="error,ignore::ResourceWarning")
    process.send(signal.SIGINT)
    check_interrupted(process.wait(10))


def test_a_second_ctrl_c_ends_a_program_whose_tool_blocks_the_event_loop(start):
    process = start("blocking")
    process.send(signal.SIGINT)
    # Python lets the first one cancel the main task, and a blocked loop never comes to that.
    until(lambda: "asked to end" in process.output, "the first")
    process.send(signal.SIGINT)
    check_interrupted(process.wait(10))


def test_a_running_tool_is_seen_with_its_age_and_ended_from_another_process(start, durable):
    process = start("thread")
    shown = durable("show", "chat-1")
    assert re.search(r"^status +running$", shown, re.MULTILINE)
    line = re.search(r'openai_agents.tool +thread\({"text": "at last"}\) +(\S+) +running', shown)
    assert line is not None, shown
    assert line[1].endswith("s"), "how long it has been running"
    assert process.running

    assert "was asked to end" in durable("cancel", "chat-1", "--reason", "it hangs")
    ended = process.wait(10)
    assert ended.code == 1
    assert "CancelledError: run 'chat-1' was cancelled: it hangs" in ended.output
    assert re.search(r"^status +canceled$", durable("show", "chat-1"), re.MULTILINE)


def test_a_limit_ends_a_tool_that_never_returns_and_the_model_is_told(start, durable):
    ended = start("thread", waits=False, LIMIT="0.1").wait(15).checked()
    said, answer = ended.output.splitlines()
    assert (said, "An error occurred while running the tool" in answer) == ("begun", True)
    shown = durable("show", "chat-1")
    assert "attempt 1 timed out" in shown
    assert "did not finish within its start-to-close timeout of 0.1 s" in shown
