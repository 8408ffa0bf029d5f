"""What people see: the command line on a terminal of some width, in and without colour."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from datetime import timedelta

import durable_core
import pytest
from durable_core import Client, RetryPolicy, activity, workflow
from durable_core.adapter import Items, Unit, current_engine
from durable_core.cli._screen import width_of
from durable_core.exceptions import WorkflowFailureError

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
MESSAGE = "the bank did not answer " * 20


@activity.defn(
    retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=2)
)
async def charge(order: str, cents: int) -> str:
    raise ConnectionError(MESSAGE)


@activity.defn
async def write(text: str) -> str:
    return text


@workflow.defn
class Order:
    @workflow.run
    async def run(self, order: str) -> str:
        await workflow.execute_activity(write, "長い文字列" * 30)
        return await workflow.execute_activity(charge, args=[order, 1299])


@workflow.defn
class Letter:
    @workflow.run
    async def run(self) -> dict[str, str]:
        text = await workflow.execute_activity(write, "\n".join(f"line {i}" for i in range(40)))
        return {"letter": text}


@workflow.defn
class Chat:
    @workflow.run
    async def run(self) -> float:
        engine = current_engine()
        said: list[str] = []
        for text in ("hi", "there"):
            said.append(text)
            unit = Unit(name="chat.model", body=answer, text={"input": Items(said)}, summary="asks")
            said.append(await engine.schedule(unit))

        return float("inf")


async def answer() -> str:
    return "an answer"


@pytest.fixture
def store(store_url):
    async def make() -> None:
        await durable_core.execute_workflow(Letter.run, id="letter-1", url=store_url)
        await durable_core.execute_workflow(Chat.run, id="chat-1", url=store_url)
        with pytest.raises(WorkflowFailureError):
            await durable_core.execute_workflow(
                Order.run, "x" * 200, id="order-" + "0" * 60, url=store_url
            )

    asyncio.run(make())
    return store_url


def command(store: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "durable_core.cli", "--url", store, *arguments]


def surroundings(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "TZ": "UTC", "TERM": "xterm-256color", **more}


def on_terminal(store: str, *arguments: str, columns: int = 80, **environment: str) -> list[str]:
    """Run the command line on a terminal and return the lines that it shows, with escapes."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        command(store, *arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=surroundings(PYTHONIOENCODING="utf-8", **environment),
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 65_536)
        except OSError:  # Linux's way of saying that the other end is closed
            break

        if not read:
            break

        shown += read

    os.close(ours)
    assert process.wait(30) == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("columns", [60, 80, 160])
@pytest.mark.parametrize("what", [["list"], ["show", "letter-1"], ["show", "order-" + "0" * 60]])
def test_nothing_is_wider_than_the_terminal(store, what, columns):
    lines = [ESCAPE.sub("", line) for line in on_terminal(store, *what, columns=columns)]
    assert lines
    assert [line for line in lines if width_of(line) > columns] == []


def test_statuses_are_coloured_on_a_terminal_and_only_they_and_marks(store):
    page = "\n".join(on_terminal(store, "show", "order-" + "0" * 60))
    assert "\x1b[1;31mfailed" in page
    assert "\x1b[32m✓" in page
    assert "\x1b[32mcompleted" in page
    # What is appended to a dim part is not dim itself.
    assert "\x1b[2mtype      \x1b[0mOrder" in page


def test_no_color_is_honoured(store):
    page = "\n".join(on_terminal(store, "list", NO_COLOR="1"))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", page)
    assert "failed" in page


def test_a_long_error_takes_a_few_lines_and_says_how_to_see_the_rest(store):
    lines = on_terminal(store, "show", "order-" + "0" * 60)
    page = ESCAPE.sub("", "\n".join(lines))
    assert "attempt 1 failed after" in page
    assert re.search(r"… \d+ more lines: --full", page)
    page = ESCAPE.sub("", "\n".join(on_terminal(store, "show", "order-" + "0" * 60, "--full")))
    assert "more lines" not in page
    assert " ".join(page.split()).count(MESSAGE.strip()) >= 2


def test_a_long_result_is_cut_unless_it_is_asked_for(store):
    page = "\n".join(on_terminal(store, "show", "letter-1"))
    assert "letter:" in page
    assert "line 3\n" in ESCAPE.sub("", page)
    assert "line 39" not in page
    assert "line 39" in "\n".join(on_terminal(store, "show", "letter-1", "--full"))


def test_a_conversation_is_shown_by_what_is_new_in_each_call(store):
    done = subprocess.run(
        command(store, "show", "chat-1", "--full"),
        capture_output=True,
        text=True,
        check=True,
        env=surroundings(),
    )
    assert '{"input": ["hi"]}' in done.stdout
    assert '{"input": ["(1 earlier item)", "an answer", "there"]}' in done.stdout


def test_json_is_valid_and_holds_each_item_once(store):
    done = subprocess.run(
        command(store, "show", "chat-1", "--json"),
        capture_output=True,
        text=True,
        check=True,
        env=surroundings(),
    )
    facts = json.loads(done.stdout, parse_constant=pytest.fail)
    commands = [c for a in facts["activations"] for c in a.get("commands", [])]
    assert commands[-1] == {"type": "complete", "result": {"$tagged": {"$float": "inf"}}}
    node = facts["items"][commands[1]["text"]["input"]["$items"]]
    assert [facts["items"][address] for address in node["items"]] == ["an answer", "there"]
    base = facts["items"][node["base"]]
    assert [facts["items"][address] for address in base["items"]] == ["hi"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_encoding_that_lacks_characters_does_not_break_the_output(store, options):
    done = subprocess.run(
        command(store, "show", "order-" + "0" * 60, *options),
        capture_output=True,
        check=True,
        env=surroundings(PYTHONIOENCODING="ascii"),
    )
    assert done.stdout.isascii()
    if options:
        assert "長い" in json.dumps(json.loads(done.stdout), ensure_ascii=False)


def test_a_reader_that_leaves_early_gets_no_traceback(store):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command(store, "list"),
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        env=surroundings(),
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_a_run_that_no_worker_has_begun_says_what_it_waits_for(store_url):
    async def start() -> None:
        async with await Client.connect(store_url) as client:
            await client.start_workflow(Letter.run, id="letter-2", task_queue="letters")

    asyncio.run(start())
    page = "\n".join(on_terminal(store_url, "show", "letter-2"))
    assert "running" in page
    assert "No worker has begun it yet: start one of the queue 'letters'." in page
    assert "WHAT" not in page


def test_a_store_whose_path_has_special_characters_is_found(tmp_path):
    path = tmp_path / "a b#50%.db"
    url = f"sqlite:///{str(path).replace('%', '%25').replace('#', '%23')}"
    asyncio.run(_letter(url))
    assert any("letter-3" in line for line in on_terminal(url, "list"))


async def _letter(url: str) -> None:
    async with await Client.connect(url) as client:
        await client.start_workflow(Letter.run, id="letter-3", task_queue="letters")


def test_the_store_of_a_folder_above_is_named(tmp_path, store):
    folder = tmp_path / ".durable"
    folder.mkdir()
    (folder / "durable.db").touch()
    below = tmp_path / "below"
    below.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "durable_core.cli", "list"],
        capture_output=True,
        text=True,
        check=False,
        cwd=below,
        env=surroundings(),
    )
    assert done.returncode == 1
    assert f"--url sqlite:///{folder / 'durable.db'}" in done.stderr
    assert not (below / ".durable").exists()
