"""Search attributes, memos and details that cannot be kept: who is told, and what is left of it."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from durable_core import Client, _defaults, workflow
from durable_core.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from durable_core.exceptions import (
    CallError,
    EncodeError,
    SearchAttributeError,
    WorkflowNotFoundError,
    WorkflowStalledError,
)
from support.shown import (
    AMOUNT,
    CUSTOMER,
    DUE,
    OPEN,
    SCORE,
    TAGS,
    Shows,
    attributes,
    begin,
    listed,
    serving,
)


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def cached(request):
    return request.param


OTHER = SearchAttributeKey.for_keyword("Amount")


def test_an_attribute_of_another_type_is_refused_and_there_is_no_run(url):
    async def main():
        async with await Client.connect(url) as client:
            await begin(client, Shows.run, search_attributes=attributes({AMOUNT: 1}))
            told = "'Amount' is of the type Int, .* and not Keyword"
            for _ in range(2):
                with pytest.raises(SearchAttributeError, match=told):
                    await begin(
                        client, Shows.run, id="x", search_attributes=attributes({OTHER: "1"})
                    )

                with pytest.raises(WorkflowNotFoundError):
                    await client.get_workflow_handle("x").describe()

                # Also where the run would begin in this process.
                async with serving(client):
                    with pytest.raises(SearchAttributeError, match=told):
                        await begin(
                            client, Shows.run, id="x", search_attributes=attributes({OTHER: "1"})
                        )

                with pytest.raises(WorkflowNotFoundError):
                    await client.get_workflow_handle("x").describe()

            async with await Client.connect(url, namespace="other") as other:
                # A name has one type in a namespace.
                handle = await begin(other, Shows.run, search_attributes=attributes({OTHER: "1"}))
                assert (await handle.describe()).search_attributes == {"Amount": ["1"]}

    asyncio.run(main())


key = [OTHER]


@workflow.defn
async def sets_late(early: bool) -> str:
    if not early:
        await asyncio.sleep(0.01)

    workflow.upsert_search_attributes([CUSTOMER.value_set("ann"), key[0].value_set("1")])
    await asyncio.sleep(0.001)
    return "done"


@pytest.mark.parametrize("early", [True, False], ids=["first step", "later"])
def test_a_run_that_gives_an_attribute_another_type_stalls_and_goes_on_when_mended(
    url, cached, early
):
    async def main():
        key[0] = OTHER
        async with await Client.connect(url) as client:
            await begin(client, Shows.run, search_attributes=attributes({AMOUNT: 1}))
            async with serving(client, cached, [sets_late]):
                handle = await begin(
                    client, sets_late, early, id="x", search_attributes=attributes({TAGS: ["a"]})
                )
                with pytest.raises(WorkflowStalledError, match=r"'Amount' is of the type Int, .*"):
                    await handle.result(on_stall="raise")

            run = await handle.describe()
            # All of the step or nothing.
            assert dict(run.typed_search_attributes) == {TAGS: ["a"]}
            assert run.history_length == (0 if early else 1)
            key[0] = SearchAttributeKey.for_keyword("Name")
            async with serving(client, cached, [sets_late]):
                assert await handle.result() == "done"

            assert await listed(client, "Name = '1' AND Customer = 'ann'") == ["x"]

    asyncio.run(main())


@workflow.defn
async def twice(wrong: str) -> list[str]:
    workflow.upsert_search_attributes([AMOUNT.value_set(1)])
    try:
        match wrong:
            case "type":
                workflow.upsert_search_attributes([CUSTOMER.value_set("ann"), OTHER.value_set("1")])
            case "value":
                workflow.upsert_search_attributes([CUSTOMER.value_set(3)])
            case "mapping":
                workflow.upsert_search_attributes({"Customer": ["ann"]})
            case "many":
                keys = [SearchAttributeKey.for_int(f"a{n}") for n in range(_defaults.ATTRIBUTES)]
                workflow.upsert_search_attributes([k.value_set(1) for k in keys])
            case "memo":
                workflow.upsert_memo({"a": "x" * _defaults.MEMO_CHANGES})
            case "memo key":
                workflow.upsert_memo({1: 2})
            case "memo value":
                workflow.upsert_memo({"a": object()})
            case "details":
                workflow.set_current_details("x" * (_defaults.DETAILS + 1))
            case "details type":
                workflow.set_current_details(None)
    except (CallError, EncodeError) as error:
        workflow.upsert_search_attributes([])
        workflow.upsert_memo({})
        return [type(error).__name__, str(error)]

    return []


@pytest.mark.parametrize(
    ("wrong", "name", "told"),
    [
        ("type", "SearchAttributeError", "'Amount' is of the type Int in this run, and not Keyw"),
        ("value", "SearchAttributeError", "'Customer' is of the type Keyword and takes a str "),
        ("mapping", "SearchAttributeError", "changed by a list of updates"),
        ("many", "SearchAttributeError", "may have 100 search attributes, got 101"),
        ("memo", "CallError", "may take 262144 bytes, got"),
        ("memo key", "EncodeError", "a memo is a mapping of values by str, got {1: 2}"),
        ("memo value", "EncodeError", "object"),
        ("details", "CallError", "may have 20000 characters, got 20001"),
        ("details type", "CallError", "the current details of a run is a str, got None"),
    ],
)
def test_bad_changes_are_told_to_the_code_and_change_nothing(store_url, cached, wrong, name, told):
    async def main():
        async with (
            await Client.connect(store_url) as client,
            serving(client, cached, [twice]),
        ):
            handle = await begin(client, twice, wrong)
            found = await handle.result()
            assert found[0] == name
            assert told in found[1]
            run = await handle.describe()
            assert dict(run.typed_search_attributes) == {AMOUNT: 1}
            assert await run.memo() == {}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (AMOUNT, "1", "'Amount' is of the type Int and takes an int of 64 bits, got '1'"),
        (AMOUNT, True, "takes an int of 64 bits, got True"),
        (AMOUNT, 1 << 63, "takes an int of 64 bits"),
        (SCORE, float("nan"), "takes a finite float, got nan"),
        (SCORE, 10**400, "takes a finite float"),
        (SCORE, "1", "takes a finite float"),
        (OPEN, 1, "takes a bool, got 1"),
        (DUE, datetime(2026, 1, 1), "a datetime with a time zone"),
        (DUE, "2026-01-01T00:00:00Z", "a datetime with a time zone"),
        (
            DUE,
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=9))),
            "a datetime with a time zone",
        ),
        (TAGS, "abc", "a list of str"),
        (TAGS, [1], "a list of str"),
        (CUSTOMER, None, "takes a str without NUL, got None"),
        (CUSTOMER, "a\0", "takes a str without NUL"),
        (CUSTOMER, "\ud800", "takes a str without NUL"),
        (CUSTOMER, "x" * 2049, "takes 2049 bytes, and may take 2048"),
        (SearchAttributeKey.for_int(""), 1, "a name of 1 to 255 characters, got ''"),
        (SearchAttributeKey.for_int("a`b"), 1, "no backquote"),
        (SearchAttributeKey.for_int("a\nb"), 1, "can be printed"),
        (SearchAttributeKey.for_int(3), 1, "got 3"),
        (SearchAttributeKey.for_int("StartTime"), 1, "every run has a StartTime"),
    ],
)
def test_bad_attributes_are_told_to_who_starts_the_run(url, key, value, told):
    async def main():
        async with await Client.connect(url) as client:
            with pytest.raises(SearchAttributeError, match=told.replace("(", r"\(")):
                await begin(client, Shows.run, search_attributes=attributes({key: value}))

            assert await listed(client) == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"search_attributes": {"Customer": ["ann"]}}, "are TypedSearchAttributes, got dict"),
        ({"memo": [1]}, "a memo is a mapping"),
        ({"memo": {1: 2}}, "a memo is a mapping"),
        ({"memo": {"a": object()}}, "object"),
        ({"static_summary": "x" * 401}, "the summary of a run may have 400 characters, got 401"),
        ({"static_details": 3}, "the details of a run is a str, got 3"),
    ],
)
def test_what_else_cannot_be_shown_is_told_too(url, given, told):
    async def main():
        async with await Client.connect(url) as client:
            with pytest.raises((CallError, EncodeError), match=told):
                await begin(client, Shows.run, **given)

            assert await listed(client) == []

    asyncio.run(main())


def test_two_pairs_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'Amount' is given twice"):
        TypedSearchAttributes([SearchAttributePair(AMOUNT, 1), SearchAttributePair(OTHER, "a")])


def test_a_collection_of_attributes_is_read_by_key():
    found = attributes({AMOUNT: 1}).updated(SearchAttributePair(CUSTOMER, "ann"))
    assert len(found) == 2
    assert found[AMOUNT] == 1
    assert found.get(SCORE) is None
    assert found.get(SCORE, 2.0) == 2.0
    assert AMOUNT in found
    assert OTHER not in found
    with pytest.raises(KeyError):
        found[OTHER]

    assert found.updated(SearchAttributePair(AMOUNT, 3))[AMOUNT] == 3
    assert len(TypedSearchAttributes.empty) == 0
    assert AMOUNT.value_type is int
