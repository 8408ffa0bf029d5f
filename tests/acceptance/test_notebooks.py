"""A run in a cell of a notebook: the kernel is restarted, the cell is stopped, and run again."""

from __future__ import annotations

import pytest
from support.notebooks import notebook
from support.waiting import until

pytest_plugins = ["support.agents_fixtures"]

SETUP = """
import asyncio
from pathlib import Path
from agents import function_tool
from durable_openai_agents import DurableRunner as Runner
from support.agents_app import effect
from support.agents_bench import ECHO, agent, call

@function_tool
async def look() -> str:
    effect("look")
    return "tidy"

@function_tool
async def dig() -> str:
    effect("dig")
    try:
        await asyncio.sleep(0 if Path("quick").exists() else 60)
    except asyncio.CancelledError:
        effect("dig-stopped")
        raise

    return "gold"

worker = agent("worker", call("look"), call("dig"), ECHO, tools=[look, dig])
"""
CELL = """
result = await Runner.run(worker, "hi", workflow_id="audit-1")
print(result.final_output, result.last_agent is worker)
"""
OUTPUT = '["tidy", "gold"] True\n'


@pytest.fixture
def house(houses):
    return houses("notebook")


@pytest.fixture
def book(house):
    with notebook(house.folder, house.environment) as found:
        assert not found.run(SETUP).error
        yield found


def started(house, book):
    """Run the cell until it is in the middle of the second tool."""
    cell = book.start(CELL)
    until(lambda: house.effects()["dig"], "the second tool")
    return cell


def check_continues(house, book, *, stopped):
    """Run the cell again: only the tool that was in flight runs once more."""
    assert house.asked().total() == 2
    (house.folder / "quick").touch()
    cell = book.run(CELL)
    assert (cell.output, cell.said, cell.error) == (OUTPUT, "", "")
    assert house.row().status == "completed"
    assert list(house.asked().values()) == [1, 1, 1]
    assert house.effects() == {"look": 1, "dig": 2, **({"dig-stopped": 1} if stopped else {})}


def test_a_kernel_that_is_restarted_in_the_middle_of_a_cell_continues_its_run(house, book):
    started(house, book)
    book.restart()
    assert not book.run(SETUP).error

    check_continues(house, book, stopped=False)


def test_a_cell_that_is_stopped_interrupts_its_run_and_continues_it_when_run_again(house, book):
    number = started(house, book)
    book.interrupt()
    cell = book.wait(number)

    assert cell.error.startswith("CancelledError")
    assert cell.said == (
        "durable: run 'audit-1' was interrupted and is kept; the same call continues it. See: "
        "durable show audit-1\n"
    )
    assert house.effects()["dig-stopped"] == 1
    # Kept, and anybody's: another process may continue it while the kernel lives on.
    assert (house.row().status, house.row().owner) == ("running", None)
    check_continues(house, book, stopped=True)


def test_a_cell_that_gives_up_cancels_its_run_and_run_sync_says_what_to_do(house, book):
    cell = book.run(
        "try:\n"
        "    async with asyncio.timeout(1):\n"
        "        await Runner.run(worker, 'hi', workflow_id='audit-1')\n"
        "except TimeoutError:\n"
        "    print('gave up')"
    )
    assert (cell.output, cell.said, cell.error) == ("gave up\n", "", "")
    assert house.row().status == "canceled"

    cell = book.run("Runner.run_sync(worker, 'hi', workflow_id='audit-2')")
    assert cell.error == (
        "RuntimeError: DurableRunner.run_sync cannot be called while an event loop runs: await run "
        "instead"
    )
    assert cell.said == ""
