"""Lists and counts of runs as a client and the command line give them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from durable_core import Client
from durable_core.client import WorkflowHistory
from durable_core.exceptions import CallError, WorkflowFilterError
from durable_core.stores._filter_parser import parse
from durable_core.stores.sqlite import SqliteStore
from durable_core.stores.sqlite._selecting import FEW, Select
from support.shown import ALL, AMOUNT, CUSTOMER, TAGS, Shows, attributes, begin, listed, serving


async def start(client, count):
    for n in range(count):
        shown = attributes({AMOUNT: n, CUSTOMER: f"c{n % 2}"})
        await begin(client, Shows.run, id=f"w{n}", search_attributes=shown)


def test_an_iterator_reads_page_by_page_and_goes_on_from_a_token(url):
    async def main():
        async with await Client.connect(url) as client:
            await start(client, 7)
            found = client.list_workflows("Customer = 'c0'", page_size=2)
            assert (found.current_page, found.next_page_token) == (None, None)
            assert (await anext(found)).id == "w6"
            assert [e.id for e in found.current_page] == ["w6", "w4"]
            assert found.current_page_index == 1
            token = found.next_page_token
            assert [e.id async for e in found] == ["w4", "w2", "w0"]
            assert found.next_page_token is None
            again = client.list_workflows("Customer = 'c0'", next_page_token=token)
            assert [e.id async for e in again] == ["w2", "w0"]
            few = client.list_workflows("ORDER BY Amount", limit=3, page_size=2)
            assert [e.id async for e in few] == ["w0", "w1", "w2"]
            rest = client.list_workflows("ORDER BY Amount", next_page_token=few.next_page_token)
            assert [e.id async for e in rest] == ["w3", "w4", "w5", "w6"]
            assert [e async for e in client.list_workflows(limit=0)] == []
            one = client.list_workflows(page_size=5)
            await one.fetch_next_page(page_size=1)
            assert [e.id for e in one.current_page] == ["w6"]
            histories = client.list_workflows("Amount < 2").map_histories()
            found = [h async for h in histories]
            assert [h.workflow_id for h in found] == ["w1", "w0"]
            assert isinstance(found[0], WorkflowHistory)

    asyncio.run(main())


def test_a_token_of_another_list_or_that_was_changed_is_refused(url):
    async def main():
        async with await Client.connect(url) as client:
            await start(client, 3)
            first = client.list_workflows(page_size=1)
            await anext(first)
            token = first.next_page_token
            flipped = [token[:i] + bytes([b ^ 1]) + token[i + 1 :] for i, b in enumerate(token)]
            for wrong in [b"", b"x", token[:-1], token + b"x", "text", *flipped]:
                with pytest.raises(CallError, match="is not of this list"):
                    await anext(client.list_workflows(next_page_token=wrong))

            with pytest.raises(CallError, match="is not of this list"):
                await anext(client.list_workflows("Amount > 0", next_page_token=token))

            async with await Client.connect(url, namespace="other") as other:
                with pytest.raises(CallError, match="is not of this list"):
                    await anext(other.list_workflows(next_page_token=token))

    asyncio.run(main())


def test_bad_numbers_and_filters_are_errors_that_say_what_is_wrong(url):
    async def main():
        async with await Client.connect(url) as client:
            for wrong in ({"page_size": 0}, {"limit": -1}):
                with pytest.raises(ValueError, match=next(iter(wrong))):
                    client.list_workflows(**wrong)

            # Nothing is read before the first run is asked for.
            found = client.list_workflows("Nobody = 1")
            with pytest.raises(WorkflowFilterError, match="there is no 'Nobody'"):
                await anext(found)

            with pytest.raises(WorkflowFilterError, match="there is no 'Nobody'"):
                await client.count_workflows("Nobody = 1")

    asyncio.run(main())


def test_runs_are_counted_in_all_and_by_status(url):
    async def main():
        async with await Client.connect(url) as client:
            await start(client, 5)
            async with serving(client):
                await client.get_workflow_handle("w1").signal(Shows.end)
                await client.get_workflow_handle("w1").result()
                await client.get_workflow_handle("w2").terminate()

            assert (await client.count_workflows()).count == 5
            assert (await client.count_workflows()).groups == []
            found = await client.count_workflows("Amount >= 1 GROUP BY ExecutionStatus")
            assert found.count == 4
            groups = {group.group_values[0]: group.count for group in found.groups}
            assert groups == {"Running": 2, "Completed": 1, "Terminated": 1}
            assert await listed(client, "ExecutionStatus = 'Terminated'") == ["w2"]
            assert await listed(client, "ExecutionStatus = 'Running'") == ["w4", "w3", "w0"]
            # Runs that have not ended come last in either direction.
            by_end = "CloseTime IS NULL OR CloseTime IS NOT NULL ORDER BY CloseTime"
            assert await listed(client, by_end) == ["w1", "w2", "w0", "w3", "w4"]
            assert await listed(client, f"{by_end} DESC") == ["w2", "w1", "w4", "w3", "w0"]

    asyncio.run(main())


# How pages are found


@pytest.mark.parametrize(
    ("text", "many", "few"),
    [
        ("", "run_by_start", "run_by_start"),
        ("WorkflowType = 'a'", "run_by_type", "run_by_type"),
        ("ExecutionStatus = 'Failed'", "run_ended", "run_ended"),
        ("ExecutionStatus = 'Running'", "run_by_start", "run_open_id"),
        ("WorkflowId STARTS_WITH 'a'", "run_by_start", "run_by_id"),
        ("WorkflowType > 'a' AND RunId > 'a'", "run_by_start", "run_by_start"),
        ("CloseTime > '2026-01-01T00:00:00Z'", "run_by_start", "run_by_start"),
        ("CloseTime > '2026-01-01T00:00:00Z' ORDER BY CloseTime", "closed>?", "closed>?"),
        ("Customer = 'a'", "attribute_value", "attribute_value"),
        ("Tags = 'a' AND Amount > 3", "attribute_value", "attribute_value"),
        ("Amount > 3", "run_by_start", "attribute_value"),
        ("ORDER BY Amount", "attribute_value", "attribute_value"),
        ("Amount > 3 ORDER BY Amount DESC", "value>?", "attribute_value"),
        ("ORDER BY CloseTime", "run_by_end", "run_by_end"),
    ],
)
def test_no_page_looks_at_all_runs_or_sorts_many(store_url, store_path, text, many, few):
    async def main():
        async with await Client.connect(store_url) as client:
            await begin(client, Shows.run, search_attributes=attributes(ALL))
            selection = parse(text, await client.store.visibility.kinds("default"))

        store = await SqliteStore.open(store_path)
        try:
            for found, index in ((FEW, many), (1, few)):

                def plan(connection, found=found):
                    sql = store.visibility.sql
                    pages = Select(sql, "default", lambda *_: found).pages(selection, None)
                    text, values = next(iter(pages))
                    bound = {**values, "limit": 10}
                    rows = connection.execute(f"EXPLAIN QUERY PLAN {text}", bound).fetchall()
                    return [step for *_, step in rows]

                steps = await store._read(plan)
                assert any(index in step for step in steps), steps
                assert not any(s.startswith(("SCAN run", "SCAN led", "SCAN a")) for s in steps)
                sorts = [s for s in steps if "FOR ORDER BY" in s]
                assert not sorts or found < FEW, steps
        finally:
            await store.close()

    asyncio.run(main())


# The command line


async def durable(*arguments):
    """Run the command line in a process of its own; return exit code, stdout and stderr."""
    command = [sys.executable, "-m", "durable_core.cli", *arguments]
    done = await asyncio.to_thread(
        lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_line_lists_and_counts_by_filters(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            await start(client, 5)
            all_of_them = {"memo": {"note": 1}, "static_summary": "all of it"}
            await begin(
                client, Shows.run, id="all", search_attributes=attributes(ALL), **all_of_them
            )

        code, out, err = await durable(
            *("list", "--url", store_url, "--where", "Customer = 'c0' ORDER BY Amount"),
            *("--limit", "2", "--json"),
        )
        assert code == 0
        found = json.loads(out)
        assert [run["workflow_id"] for run in found] == ["w0", "w2"]
        assert found[1]["search_attributes"] == {"Amount": [2], "Customer": ["c0"]}
        page = err.split("--page ")[1].strip()
        code, out, err = await durable(
            *("list", "--url", store_url, "--where", "Customer = 'c0' ORDER BY Amount"),
            *("--limit", "2", "--page", page),
        )
        assert (code, err) == (0, "")
        assert [line.split()[0] for line in out.splitlines()[1:]] == ["w4"]
        code, out, _ = await durable("count", "--url", store_url, "--where", "Amount >= 3")
        assert (code, out) == (0, "2\n")
        code, out, _ = await durable("count", "--url", store_url)
        assert (code, out) == (0, "6\n")
        grouped = ("count", "--url", store_url, "--where", "GROUP BY ExecutionStatus")
        assert (await durable(*grouped))[1] == "Running 6\n"
        code, out, _ = await durable(*grouped, "--json")
        assert json.loads(out) == {"count": 6, "groups": {"Running": 6}}
        code, out, err = await durable("list", "--url", store_url, "--where", "Amount > 99")
        assert (code, out) == (0, "")
        assert "no runs that match" in err
        code, out, _ = await durable("show", "all", "--url", store_url)
        assert "all of it" in out
        assert '"Customer": "ann"' in out
        assert '{"note": 1}' in out
        for arguments, code, told in (
            (["--where", "Amout > 1"], 1, "Did you mean Amount?"),
            (["--where", "Amount > 1", "--page", "oops"], 1, "is not of this list"),
            (["--page", page], 2, "give that too"),
            (["--where", "Amount > 1", "--status", "failed"], 2, "is a filter of its own"),
        ):
            found = await durable("list", "--url", store_url, *arguments)
            assert found[0] == code
            assert told in " ".join(found[2].split())

    asyncio.run(main())


def test_one_list_of_texts_is_found_once_by_each(url):
    async def main():
        async with await Client.connect(url) as client:
            await begin(client, Shows.run, search_attributes=attributes({TAGS: ["a", "b", "a"]}))
            for text in ("Tags = 'a'", "Tags IN ('a', 'b')", "Tags = 'a' AND Tags = 'b'"):
                assert await listed(client, text) == ["w"]

            assert await listed(client, "Tags != 'c'") == ["w"]
            assert await listed(client, "Tags != 'a'") == []

    asyncio.run(main())
