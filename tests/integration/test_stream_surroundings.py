"""Streams by the command line, from plain code, in tests of users, and on engines without them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import durable_core
import pytest
from durable_core import Client, Worker, activity, adapter, workflow
from durable_core.exceptions import EncodeError, NotSupported
from durable_core.testing import ActivityEnvironment, PositionalEngine, WorkflowEnvironment
from support.streaming import (
    TEXT,
    Part,
    begin,
    fails,
    gates,
    halting,
    in_parts,
    once,
    reporting,
    say,
    say_parts,
    serving,
)


async def durable(*arguments, limit=30):
    """Run the command line in a process of its own; return exit code, stdout and stderr."""
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-m", "durable_core.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    )
    return done.returncode, done.stdout, done.stderr


def test_tail_prints_texts_as_they_are_and_other_values_as_json(store_url):
    async def main():
        async with serving(store_url) as client:
            await (await begin(client, once, "two\nlines", [])).result()
            tail = ["stream", "tail", "--url", store_url]
            assert await durable(*tail, "w", "tokens") == (0, "two\nlines\n", "")
            assert await durable(*tail, "w", "tokens", "--from-offset", "4") == (0, "lines\n", "")
            await (await begin(client, once, "\x1b[2Jgone", [], id="escapes")).result()
            assert await durable(*tail, "escapes", "tokens") == (0, "\\x1b[2Jgone\n", "")
            await (await begin(client, in_parts, "one", id="parts")).result()
            code, out, _ = await durable("--url", store_url, "stream", "tail", "parts", "parts")
            expected = [{"text": "one", "last": False}, {"text": "", "last": True}]
            assert (code, [json.loads(line) for line in out.splitlines()]) == (0, expected)

    asyncio.run(main())


def test_tail_says_what_does_not_count(store_url):
    async def main():
        async with serving(store_url) as client:
            await (await begin(client, once, "hello", [3])).result()
            tail = ["stream", "tail", "--url", store_url, "w", "tokens"]
            code, out, err = await durable(*tail)
            assert (code, out) == (0, "hel\nhello\n")
            assert err == (
                "durable: attempt 1 of activity 1 did not complete: what it wrote does not count\n"
            )
            code, out, err = await durable(*tail, "--json", "--from-offset", "2")
            items = [json.loads(line) for line in out.splitlines()]
            assert (code, err) == (0, "")
            assert [i["offset"] for i in items] == [2, 3, 4, 5, 6, 7, 8]
            assert [i["kind"] for i in items] == ["chunk", "reset", *["chunk"] * 5]
            assert {k: v for k, v in items[0].items() if k != "time"} == {
                "offset": 2,
                "kind": "chunk",
                "value": "l",
                "activity_id": "1",
                "attempt": 1,
            }
            assert "value" not in items[1]

    asyncio.run(main())


def test_tail_follows_a_run_of_another_process_live(store_url):
    async def main():
        async with serving(store_url) as client:
            await begin(client, halting, "gate")
            tail = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "durable_core.cli", "stream", "tail", "w", "tokens"),
                *("--url", store_url),
                stdout=asyncio.subprocess.PIPE,
            )
            assert tail.stdout is not None
            assert await asyncio.wait_for(tail.stdout.readexactly(4), 20) == b"half"
            gates["gate"].set()
            out, _ = await asyncio.wait_for(tail.communicate(), 20)
            assert (tail.returncode, out) == (0, b"!\n")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["w", "token"], 1, "without a stream 'token'; it has: 'tokens'"),
        (
            ["w", "tokens", "--from-offset", "9"],
            1,
            "has ended with 3 items, and offset 9 was asked",
        ),
        (["w", "tokens", "--from-offset", "-1"], 2, "-1 is not in the range x>=0"),
        (["wx", "tokens"], 1, "there is no run with the workflow id 'wx'"),
        (["w", ""], 2, "'' cannot be the name of a stream"),
    ],
)
def test_what_cannot_be_tailed_is_one_line_of_error(arguments, code, why, store_url):
    async def main():
        async with serving(store_url) as client:
            await (await begin(client, once, "abc", [])).result()
            ended, out, err = await durable("stream", "tail", *arguments, "--url", store_url)
            assert (ended, out) == (code, "")
            assert why in err
            assert "Traceback" not in err

    asyncio.run(main())


def test_a_run_from_plain_code_streams_to_clients_of_its_store(store_url, monkeypatch):
    monkeypatch.setenv("DURABLE_URL", store_url)

    async def main():
        running = asyncio.ensure_future(
            durable_core.execute_workflow(once, args=[TEXT, [5]], id="plain")
        )
        async with await Client.connect(store_url) as client:
            handle = client.get_workflow_handle("plain")
            while not [run async for run in client.list_workflows()]:
                await asyncio.sleep(0.001)

            assert "".join(await handle.stream("tokens").collect()) == TEXT
            assert await running == TEXT

    asyncio.run(main())


def test_reading_lets_a_clock_skip_what_a_run_waits_for():
    @workflow.defn
    async def daily() -> None:
        for day in range(3):
            workflow.stream("days").write(day)
            await asyncio.sleep(86400)

    async def main():
        async with (
            await WorkflowEnvironment.start_time_skipping() as env,
            Worker(env.client, task_queue="q", workflows=[daily]),
        ):
            handle = await env.client.start_workflow(daily, id="w", task_queue="q")
            assert await handle.stream("days").collect() == [0, 1, 2]

    asyncio.run(main())


def test_an_activity_by_itself_writes_to_a_list():
    env = ActivityEnvironment()
    assert asyncio.run(_run(env, say_parts, "a b")) == 2
    assert env.streams == {
        "parts": [
            {"text": "a", "last": False},
            {"text": "b", "last": False},
            {"text": "", "last": True},
        ]
    }

    @activity.defn
    def odd(name, value) -> None:
        activity.stream(name).write(value)

    with pytest.raises(EncodeError, match="a chunk of the stream 'x'"):
        env.run(odd, "x", object())

    with pytest.raises(ValueError, match="cannot be the name of a stream"):
        env.run(odd, "", 1)


async def _run(env, code, *args):
    return await env.run(code, *args)


def test_an_engine_without_streams_says_so():
    async def code():
        engine = adapter.current_engine()
        assert not engine.capabilities.streams
        with pytest.raises(NotSupported, match="the positional engine has none"):
            workflow.stream("tokens")

        with pytest.raises(NotSupported, match="this engine has no streams"):
            await engine.schedule(adapter.Unit(name="say", body=say, args=("a",)))

        return "said"

    assert asyncio.run(PositionalEngine().run(code)) == "said"


def test_the_embedded_engine_says_that_it_has_streams(store_url):
    @workflow.defn
    async def asks() -> bool:
        engine = adapter.current_engine()
        engine.stream("tokens").write(Part("a"))
        return engine.capabilities.streams

    async def main():
        async with serving(store_url, workflows=[asks, reporting, fails]) as client:
            handle = await begin(client, asks)
            assert await handle.result() is True
            assert await handle.stream("tokens", result_type=Part).collect() == [Part("a")]

    asyncio.run(main())
