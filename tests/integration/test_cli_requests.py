"""`durable requests`, `approve`, `reject` and `answer`, as a user calls them."""

from __future__ import annotations

import asyncio
import getpass
import json

import pytest
from support.asking import amount, approval, asked, begin, in_time, several, working
from support.command_line import durable


def test_a_person_lists_what_is_asked_and_answers_it(store_url):
    async def main():
        async with working(store_url) as client:

            def call(*arguments):
                return durable(*arguments, "--url", store_url)

            code, out, err = await call("requests")
            assert (code, out) == (0, "")
            assert "no requests wait for an answer in" in err
            refund = await begin(client, approval, {"cents": 5}, id="a")
            how_much = await begin(client, amount, 7, id="b")
            await asked(refund)
            await asked(how_much)
            code, out, err = await call("requests")
            assert (code, err) == (0, "")
            head, first, second = out.splitlines()
            assert head.split()[:4] == ["WORKFLOW", "ID", "REQUEST", "KIND"]
            assert first.split()[:3] == ["a", "1", "refund"]
            assert first.endswith("a refund")
            assert second.split()[:3] == ["b", "1", "amount"]
            assert second.endswith('{"cents": 7}')
            _, out, _ = await call("requests", "--json", "--kind", "amount")
            (found,) = json.loads(out)
            assert (found["workflow_id"], found["request"]) == ("b", "1")
            assert (found["question"], found["due"]) == ({"cents": 7}, None)
            assert found["schema"]["$ref"] == "#/$defs/Refund"

            code, out, err = await call("approve", "a", "--by", "ann", "--note", "fine")
            assert (code, out) == (0, "")
            assert "request 1 ('refund') of run 'a' is approved" in err
            assert (await refund.result())[:3] == [True, "ann", "fine"]
            code, out, err = await call("answer", "b", "1", '{"cents": "3"}')
            assert (code, out) == (1, "")
            assert 'does not fit: at $.cents: expected integer, got "3"' in err
            code, _, err = await call("answer", "b", '{"cents": 3}')
            assert code == 0, err
            assert "request 1 ('amount') of run 'b' is answered" in err
            cents, _, by = await how_much.result()
            assert cents == 3
            assert by.startswith(f"{getpass.getuser()}@")

            code, out, _ = await call("show", "a")
            assert code == 0
            assert "request refund" in out
            assert "a refund: true by ann: fine" in out
            code, out, _ = await call("show", "b", "--full")
            assert "question" in out
            assert "answer" in out

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["approve", "x"], 1, "no run with the workflow id 'x'"),
        (["approve", "w"], 1, "no request for yes or no of run 'w' waits for an answer"),
        (["reject", "w", "1"], 1, "does not fit: at $: expected integer, got false"),
        (["reject", "w", "9"], 1, "run 'w' has made no request with the id '9'"),
        (["answer", "w", "5"], 1, "2 requests of run 'w' wait for an answer; say which by its id"),
        (["answer", "w", "1", "yes"], 2, "'yes' is no JSON"),
        (["answer", "w", "1", "2", "3"], 2, "put the JSON in quotes"),
        (["answer", "w"], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_answered_is_one_line_with_the_reason(store_url, arguments, code, why):
    async def main():
        async with working(store_url) as client:
            handle = await begin(client, several, 2)
            await asked(handle, 2)
            ended, out, err = await durable("--url", store_url, *arguments)
            assert (ended, out) == (code, ""), err
            assert why in err
            assert len(await handle.requests()) == 2

    asyncio.run(main())


def test_what_waits_is_told_with_its_time_and_what_came_of_it(store_url):
    async def main():
        async with working(store_url) as client:
            handle = await begin(client, in_time, 2970.0, id="waits")
            await asked(handle)
            late = await begin(client, in_time, 0.01, id="late")
            await late.result()
            _, out, _ = await durable("requests", "--url", store_url)
            (line,) = out.splitlines()[1:]
            assert line.split()[:3] == ["waits", "1", "number"]
            assert " 49m " in line
            _, out, _ = await durable("show", "waits", "--url", store_url)
            assert "waiting, 49m" in out
            _, out, _ = await durable("show", "late", "--url", store_url)
            assert "timed out" in out

    asyncio.run(main())
