"""The main job, as its user runs it: an agent that is killed three times and finishes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import durable_openai_agents
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "cookbook" / "01_crash_demo" / "demo.py"
LIMIT = 150


def git(folder, *arguments):
    identity = {
        "GIT_AUTHOR_NAME": "Zoë O'Neill",
        "GIT_AUTHOR_EMAIL": "zoe@example.org",
        "GIT_COMMITTER_NAME": "Zoë O'Neill",
        "GIT_COMMITTER_EMAIL": "zoe@example.org",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    subprocess.run(
        ["git", *arguments], cwd=folder, env={**os.environ, **identity}, check=True, timeout=30
    )


@pytest.fixture
def odd_repository(tmp_path):
    """A small checkout whose names and contents are what people do not expect."""
    folder = tmp_path / "a checkout – with spaces"
    (folder / "söme dir").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "README").write_text("# Odd\n\n17 reasons\n")
    (folder / "söme dir" / "new\nline.py").write_text("def test_one():\n    pass  # TODO: 42\n")
    (folder / "söme dir" / "'quoted' \"name\".txt").write_text("x" * 4321)
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 9)
    (folder / "empty").touch()
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "First: 3 files & more")
    (folder / "later.md").write_text("FIXME\n" * 5)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Second 'commit'")
    return folder


def run_demo(*arguments, cwd, environment=None):
    return subprocess.run(
        [sys.executable, str(DEMO), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def check_demo(repository, tmp_path):
    counts = tmp_path / "counts.json"
    ended = run_demo(repository, "--json", counts, "--latency", "0.1", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    seen = json.loads(counts.read_text())
    assert all(check["passed"] for check in seen["checks"])
    assert [kill["window"] for kill in seen["kills"]] == ["tool", "between", "model"]
    assert seen["lives"] == 4
    outputs = "\n".join(str(output) for output in seen["tool_outputs"])
    numbers = re.findall(r"\d+", seen["report"])
    assert numbers
    assert [n for n in numbers if n not in outputs] == []
    assert seen["report"].strip() == seen["undisturbed_report"].strip()
    twice = [call for call in seen["calls"] if call["runs"] > 1]
    assert all(call["killed_in"] for call in twice)
    assert max(call["runs"] for call in seen["calls"]) == 2
    assert seen["report"].strip() in ended.stdout


@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the sources are no git checkout here")
def test_the_demo_audits_this_repository(tmp_path):
    check_demo(ROOT, tmp_path)


@pytest.mark.timeout(LIMIT + 10)
def test_the_demo_audits_a_repository_with_odd_names(odd_repository, tmp_path):
    check_demo(odd_repository, tmp_path)


PLAIN_RUNNER = """
from agents import Runner

__path__ = {path!r}


class DurableRunner(Runner):
    @classmethod
    async def run(cls, *args, workflow_id, **options):
        return await Runner.run(*args, **options)
"""


@pytest.mark.timeout(LIMIT + 10)
def test_the_demo_fails_with_a_runner_that_starts_over(odd_repository, tmp_path, long):
    if not long:
        pytest.skip("only with --long: it says something about the demo, nothing about the engine")

    package = tmp_path / "plain" / "durable_openai_agents"
    package.mkdir(parents=True)
    package.joinpath("__init__.py").write_text(
        PLAIN_RUNNER.format(path=list(durable_openai_agents.__path__))
    )
    counts = tmp_path / "counts.json"
    path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])
    # Its folder is kept when the demo fails; here it goes with the test.
    places = {"PYTHONPATH": path.rstrip(os.pathsep), "TMPDIR": str(tmp_path)}
    ended = run_demo(
        *(odd_repository, "--json", counts, "--latency", "0.05"), cwd=tmp_path, environment=places
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    seen = json.loads(counts.read_text())
    failed = [check["name"] for check in seen["checks"] if not check["passed"]]
    assert failed == [
        "every call that was not in flight at a kill ran exactly once",
        "every call in flight at a kill ran at most twice, and came to its end",
    ]
    assert seen["saved"] == {"model": 0, "tool": 0}


def test_a_folder_that_is_no_checkout_is_refused_with_the_remedy(tmp_path):
    ended = run_demo(tmp_path, cwd=tmp_path)
    assert ended.returncode == 2
    assert str(tmp_path) in ended.stderr
    assert "Give the path of one" in ended.stderr
