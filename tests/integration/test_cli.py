"""`durable list` and `durable show`, on the records of real runs, as a user calls them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import durable_core
import pytest
from durable_core import RetryPolicy, activity, workflow
from durable_core.exceptions import ApplicationError, WorkflowFailureError
from support import crash_app

ONCE = RetryPolicy(initial_interval=timedelta(milliseconds=5), maximum_attempts=3)


@activity.defn
async def greet(name: str) -> str:
    return f"hello {name}"


@activity.defn(retry_policy=ONCE)
async def unsteady() -> str:
    if activity.info().attempt < 3:
        raise ConnectionError("no \x1b[31mroute\x1b[0m to host")

    return "at last"


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        text = await workflow.execute_activity(greet, name)
        await asyncio.sleep(0.01)
        return text


@workflow.defn
class Retrying:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(unsteady)


@workflow.defn
class Failing:
    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity(greet, "x")
        raise ApplicationError("out of stock", type="OutOfStock")


@workflow.defn
class Buggy:
    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity(greet, "y")
        raise KeyError("a bug")


def durable(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, its output not being a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "durable_core.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", "TZ": "UTC", **environment},
    )


def shown(*arguments: str, **environment: str) -> str:
    ended = durable(*arguments, **environment)
    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout
    return ended.stdout


def header(page: str) -> dict[str, str]:
    """Return the facts above the timeline."""
    return dict(line.split(maxsplit=1) for line in page.partition("\n\n")[0].splitlines())


@pytest.fixture
def runs(store_url):
    """A store with one run of each fate."""

    async def make() -> None:
        await durable_core.execute_workflow(Greeting.run, "Ann", id="greet-1", url=store_url)
        await durable_core.execute_workflow(Retrying.run, id="retry-1", url=store_url)
        with pytest.raises(WorkflowFailureError):
            await durable_core.execute_workflow(Failing.run, id="fail-1", url=store_url)

        with pytest.raises(KeyError):
            await durable_core.execute_workflow(Buggy.run, id="bug-1", url=store_url)

    asyncio.run(make())
    return store_url


def test_list_shows_the_newest_run_first_with_its_status(runs):
    head, *lines = shown("--url", runs, "list").splitlines()
    assert head.split() == ["WORKFLOW", "ID", "TYPE", "STATUS", "STARTED", "DURATION", "STEPS"]
    assert [line.split()[:3] for line in lines] == [
        ["bug-1", "Buggy", "stalled"],
        ["fail-1", "Failing", "failed"],
        ["retry-1", "Retrying", "completed"],
        ["greet-1", "Greeting", "completed"],
    ]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--status", "stalled"], ["bug-1"]),
        (["--status", "running"], []),
        (["--status", "completed"], ["retry-1", "greet-1"]),
        (["--type", "Failing"], ["fail-1"]),
        (["--limit", "1"], ["bug-1"]),
    ],
)
def test_list_filters(runs, options, ids):
    found = json.loads(shown("list", *options, "--json", DURABLE_URL=runs))
    assert [run["workflow_id"] for run in found] == ids


def test_show_of_a_completed_run_has_its_timeline_and_result(runs):
    page = shown("--url", runs, "show", "greet-1")
    facts = header(page)
    assert facts["workflow"] == "greet-1"
    assert facts["type"] == "Greeting"
    assert facts["status"] == "completed"
    assert facts["input"] == '"Ann"'
    assert re.search(r'^0\.\d+s  greet +"Ann" +\d+ms  completed$', page, re.MULTILINE)
    assert re.search(r"^0\.\d+s  timer of 0\.01 s +\d+ms  fired$", page, re.MULTILINE)
    assert "result    hello Ann" in page


def test_show_tells_each_failed_attempt_and_obeys_no_escape_in_it(runs):
    page = shown("--url", runs, "show", "retry-1")
    assert "completed, attempt 3" in page
    assert page.count("ConnectionError: no \\x1b[31mroute") == 2
    assert "attempt 1 failed" in page
    assert "attempt 2 failed" in page


def test_show_of_a_failed_run_says_why(runs):
    page = shown("--url", runs, "show", "fail-1")
    assert header(page)["status"] == "failed"
    assert "OutOfStock: out of stock" in page


def test_show_of_a_stalled_run_says_why_and_what_to_do(runs):
    page = shown("--url", runs, "show", "bug-1")
    assert header(page)["status"] == "stalled"
    assert "KeyError: 'a bug'" in page
    assert "Fix the code and call it again with the id 'bug-1'" in page
    assert "Traceback" not in page
    assert "Traceback" in shown("--url", runs, "show", "bug-1", "--full")


def test_show_full_has_arguments_and_results_uncut(runs):
    page = shown("--url", runs, "show", "greet-1", "--full")
    assert '["Ann"]' in page
    assert page.count("hello Ann") == 2


def test_show_json_is_the_whole_history(runs):
    facts = json.loads(shown("--url", runs, "show", "retry-1", "--json"))
    assert facts["status"] == "completed"
    [completed] = [e for a in facts["activations"] for e in a.get("events", [])]
    assert completed["result"] == "at last"
    assert [a["outcome"] for a in completed["attempts"]] == ["failed", "failed", "completed"]
    assert completed["attempts"][0]["failure"]["type"] == "ConnectionError"


def test_show_of_a_killed_run_says_that_nobody_owns_it_and_then_who_went_on(
    processes, store_url, tmp_path
):
    surroundings = {"DURABLE_URL": store_url, "LEDGER": tmp_path / "ledger"}
    app = Path(crash_app.__file__)
    assert processes.run(app, fault="activity.body.after:2", **surroundings).killed
    page = shown("--url", store_url, "show", crash_app.WORKFLOW_ID)
    assert header(page)["status"] == "interrupted"
    assert "make the same call again with the id 'crash-1'" in page
    processes.run(app, **surroundings).checked()
    page = shown("--url", store_url, "show", crash_app.WORKFLOW_ID)
    assert header(page)["status"] == "completed"
    assert "attempt 1 lost" in page
    assert re.search(r"continued +by", page)


def test_a_store_that_does_not_exist_is_not_made(tmp_path):
    missing = tmp_path / "none.db"
    ended = durable("--url", f"sqlite:///{missing}", "list")
    assert ended.returncode == 1
    assert f"durable: there is no store at {missing}" in ended.stderr
    assert not ended.stdout
    assert not missing.exists()


def test_the_default_store_is_not_made_either(tmp_path):
    ended = durable("list")
    assert ended.returncode == 1
    assert "there is no store at" in ended.stderr
    assert not (tmp_path / ".durable").exists()


def test_an_unknown_id_names_similar_ones(runs):
    ended = durable("--url", runs, "show", "greet-2")
    assert ended.returncode == 1
    assert "'greet-2'" in ended.stderr
    assert "greet-1" in ended.stderr


def test_a_run_id_in_place_of_a_workflow_id_is_explained(runs):
    [run] = json.loads(shown("--url", runs, "list", "--type", "Greeting", "--json"))
    ended = durable("--url", runs, "show", run["run_id"])
    assert ended.returncode == 1
    assert f"durable show greet-1 --run-id {run['run_id']}" in ended.stderr


def test_errors_are_one_line_and_usage_errors_exit_with_2(runs):
    ended = durable("--url", "mysql://x", "list")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "mysql" in ended.stderr
    assert durable("--url", runs, "show").returncode == 2
    assert durable("--url", runs, "list", "--status", "odd").returncode == 2
