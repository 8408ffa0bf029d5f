"""Agent runs and the event loops of their program: many, few, ended early; nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import agents_loops

pytest_plugins = ["support.agents_fixtures"]

TESTS = """
import asyncio
import threading

import pytest
from support.agents_loops import check, opened, run, status

before = []
loops = set()


@pytest.fixture
def anyio_backend():
    return "asyncio"


def test_before():
    asyncio.run(run("first"))
    before.append(opened())


@pytest.mark.anyio
@pytest.mark.parametrize("number", [1, 2])
async def test_a_loop_for_each_test(number, durable_url):
    loops.add(id(asyncio.get_running_loop()))
    assert await status("run-1") == "none"
    await run("run-1")
    assert await status("run-1") == "completed"


def test_after():
    check(*before)
"""
RUN_TESTS = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"


@pytest.fixture
def house(houses):
    return houses("loops", Path(agents_loops.__file__))


def check_silent(house, how, **more):
    """Run a program to its end; a warning is an error there, and nothing is said."""
    assert house.run(how, **more).checked().output == ""


def test_run_sync_twenty_times_in_a_row_leaves_nothing_behind(house):
    check_silent(house, "sync")
    rounds = agents_loops.ROUNDS + 1
    assert house.effects() == {"look": rounds, "measure": rounds}
    assert len(house.server.requests()) == 2 * rounds


def test_every_loop_of_a_program_may_use_the_default_client(house):
    check_silent(house, "loops")


def test_a_context_may_hold_an_http_client_and_a_lock(house):
    check_silent(house, "context", SERVER=house.server.base_url.removesuffix("/v1"))
    kept = b"".join(path.read_bytes() for path in house.folder.glob("store.db*") if path.is_file())
    assert b"/a: 404" in kept
    assert agents_loops.HELD_KEY.encode() not in kept


def test_a_caller_that_gives_up_cancels_its_run_unless_it_is_detached(house):
    check_silent(house, "timeout")


def test_async_tests_may_each_have_a_loop(house):
    (house.folder / "conftest.py").write_text(
        'pytest_plugins = ["durable_core.testing.fixtures"]\n'
    )
    (house.folder / "test_loops.py").write_text(TESTS)
    options = ("-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-W", "error")
    ended = house.processes.run(RUN_TESTS, *options, **house.environment).checked()
    assert "4 passed" in ended.output
    assert "warning" not in ended.output
