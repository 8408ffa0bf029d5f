"""`durable signal`, `update`, `pause`, `unpause` and `retry`, as a user calls them."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.command_line import durable
from support.talking import Inbox, begin, working


def test_a_run_is_told_and_answers(store_url):
    async def main():
        async with working(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            code, out, err = await durable(
                "--url", store_url, "signal", "w", "take", '{"text": "a"}'
            )
            assert (code, out) == (0, "")
            assert "the signal 'take' was sent to run 'w'" in err
            code, out, err = await durable(
                "update", "w", "add", '{"text": "b"}', "--url", store_url
            )
            assert (code, json.loads(out), err) == (0, 2, "")
            code, out, _ = await durable("update", "w", "rename", "0", '"x"', "--url", store_url)
            assert (code, json.loads(out)["text"]) == (0, "x")
            code, shown, _ = await durable("show", "w", "--url", store_url)
            assert "update add" in shown
            assert "completed" in shown
            assert (await durable("signal", "w", "end", "--url", store_url))[0] == 0
            assert [n.text for n in await handle.result()] == ["x", "b"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (
            ["update", "w", "add", '{"text": ""}'],
            1,
            "was rejected: ValueError: a note needs a text",
        ),
        (["update", "w", "nothing"], 1, "has no update 'nothing'; it has 'add', 'rename'"),
        (["update", "w", "add", "x"], 2, "'x' is no JSON"),
        (["signal", "nobody", "end"], 1, "no run with the workflow id 'nobody'"),
    ],
)
def test_what_cannot_be_told_is_one_line_with_the_reason(store_url, arguments, code, why):
    async def main():
        async with working(store_url) as client:
            await begin(client, Inbox.run, "ann")
            ended, out, err = await durable(*arguments, "--url", store_url)
            assert (ended, out) == (code, "")
            assert why in err
            assert "Traceback" not in err

    asyncio.run(main())


def test_a_run_is_paused_and_goes_on(store_url):
    async def main():
        async with working(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            code, out, err = await durable(
                "pause", "w", "--reason", "looks odd", "--url", store_url
            )
            assert (code, out) == (0, "")
            assert "run 'w' is paused. It goes on with: durable unpause w" in err
            code, out, _ = await durable("list", "--status", "paused", "--url", store_url)
            assert "w" in out.splitlines()[1]
            code, out, _ = await durable("show", "w", "--url", store_url)
            assert "paused" in out
            assert "looks odd. It goes on with: durable unpause w" in " ".join(out.split())
            code, _, err = await durable("pause", "w", "--url", store_url)
            assert code == 1
            assert "is paused already" in err
            code, _, err = await durable("unpause", "w", "--url", store_url)
            assert code == 0
            assert "a worker of the queue 'talk' continues it" in err
            code, _, err = await durable("unpause", "w", "--url", store_url)
            assert (code, "is not paused" in err) == (1, True)
            code, _, err = await durable("retry", "w", "--url", store_url)
            assert (code, "no activity of run 'w' waits" in err) == (1, True)
            await handle.signal(Inbox.end)
            await handle.result()
            code, out, _ = await durable("show", "w", "--url", store_url)
            assert "paused" in out

    asyncio.run(main())
