"""Ctrl-C, SIGTERM and the end of the event loop: never the end of a run, and the last line says how."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest
from durable_core import Client
from support import interrupted_app
from support.ledger import Ledger
from support.waiting import until

APP = Path(interrupted_app.__file__)
SAID = "durable: run 'job-1' was interrupted and is kept; the same call continues it."


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def surroundings(store_url, ledger):
    return {"DURABLE_URL": store_url, "LEDGER": ledger.path}


def counts(ledger):
    """How often each thing happened, whatever activity did it."""
    found = Counter()
    for name, times in ledger.counts().items():
        found[name.partition("/")[2]] += times

    return found


def stderr_of(ended):
    return ended.output.rstrip().splitlines()


def status_of(store_url, id="job-1"):
    async def find():
        async with await Client.connect(store_url) as client:
            return await client.store.find("default", id)

    return asyncio.run(find()).status


def check_continues(processes, surroundings, ledger, kind):
    again = processes.start(APP, "run", kind, QUICK=1, **surroundings).wait().checked()
    assert again.output.strip() == "done"
    assert counts(ledger) == {"first": 1, "begun": 2, "done": 1}


@pytest.mark.parametrize("kind", ["loop", "thread"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_a_run_and_the_same_call_continues_it(
    processes, surroundings, store_url, ledger, kind, number
):
    process = processes.start(APP, "run", kind, **surroundings)
    until(lambda: "begun" in counts(ledger), "the second activity")
    process.send(number)
    ended = process.wait(15)

    assert stderr_of(ended)[-1].startswith(SAID)
    assert "durable show job-1" in stderr_of(ended)[-1]
    if number is signal.SIGTERM:
        assert ended.code == -signal.SIGTERM
        assert len(stderr_of(ended)) == 1
    else:
        assert "KeyboardInterrupt" in ended.output

    assert status_of(store_url) == "running"
    check_continues(processes, surroundings, ledger, kind)


@pytest.mark.parametrize("kind", ["loop", "thread"])
def test_the_end_of_the_event_loop_interrupts_a_run(
    processes, surroundings, store_url, ledger, kind
):
    ended = processes.start(APP, "leave", kind, **surroundings).wait(15).checked()

    assert stderr_of(ended)[0] == "main is over False"
    assert stderr_of(ended)[-1].startswith(SAID)
    assert status_of(store_url) == "running"
    check_continues(processes, surroundings, ledger, kind)


def test_a_run_without_an_id_is_told_with_the_id_that_it_was_given(processes, surroundings, ledger):
    process = processes.start(APP, "run", "loop", "--unnamed", **surroundings)
    until(lambda: "begun" in counts(ledger), "the second activity")
    process.send(signal.SIGINT)

    assert "it had no workflow_id, so give workflow_id='" in stderr_of(process.wait(15))[-1]


def test_a_program_that_handles_sigterm_itself_keeps_its_handler(processes, surroundings, ledger):
    program = f"""
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
sys.argv = [{str(APP)!r}, "run", "loop"]
import runpy
runpy.run_path({str(APP)!r}, run_name="__main__")
"""
    path = ledger.path.with_name("program.py")
    path.write_text(program)
    process = processes.start(path, **surroundings)
    until(lambda: "begun" in counts(ledger), "the second activity")
    process.send(signal.SIGTERM)

    assert process.wait(15).code == 7


def test_a_run_that_ended_leaves_the_signals_as_they_were(processes, surroundings, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        f"""
import asyncio, signal, sys
sys.argv = ["x", "run", "loop"]
import importlib.util
spec = importlib.util.spec_from_file_location("app", {str(APP)!r})
app = importlib.util.module_from_spec(spec)
sys.modules["app"] = app
spec.loader.exec_module(app)
asyncio.run(app.main("loop"))
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    )
    ended = processes.start(path, QUICK=1, **surroundings).wait(15).checked()

    assert ended.output.split() == ["done", "True"]
