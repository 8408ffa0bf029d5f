"""What runs show of themselves: search attributes, memo, and details for people."""

from __future__ import annotations

import asyncio

import pytest
from durable_core import Client, workflow
from durable_core.client import WithStartWorkflowOperation
from durable_core.common import WorkflowIDConflictPolicy
from durable_core.exceptions import (
    ApplicationError,
    NonDeterminismError,
    NotInWorkflowError,
    WorkflowFailureError,
    WorkflowQueryFailedError,
)
from durable_core.stores import Outcome
from durable_core.worker import Replayer
from support.rows import rows
from support.shown import (
    ALL,
    AMOUNT,
    CUSTOMER,
    QUEUE,
    SCORE,
    Progress,
    Shows,
    attributes,
    begin,
    listed,
    serving,
)


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def cached(request):
    return request.param


@workflow.defn
async def all_at_once() -> None:
    workflow.upsert_search_attributes([key.value_set(value) for key, value in ALL.items()])


@workflow.defn
async def fails_later(amount: int) -> str:
    workflow.upsert_search_attributes([AMOUNT.value_set(amount)])
    workflow.upsert_memo({"at": "first"})
    workflow.set_current_details("first")
    await asyncio.sleep(0.001)
    workflow.upsert_search_attributes([AMOUNT.value_unset(), CUSTOMER.value_set("bob")])
    workflow.upsert_memo({"at": "second", "more": 1})
    workflow.set_current_details("second")
    if broken:
        raise ApplicationError("broken")

    await asyncio.sleep(0.001)
    return "done"


broken: list[bool] = []
CODE = [Shows, all_at_once, fails_later]


def test_a_run_starts_with_what_it_shows_and_is_found_by_it(url):
    async def main():
        async with await Client.connect(url) as client:
            handle = await begin(
                client,
                Shows.run,
                search_attributes=attributes(ALL),
                memo={"progress": Progress(3), "plain": [1, None]},
                static_summary="a summary",
                static_details="some\ndetails",
            )
            # No worker has seen it yet.
            run = await handle.describe()
            assert dict(run.typed_search_attributes) == ALL
            assert run.search_attributes["Customer"] == ["ann"]
            assert run.search_attributes["Tags"] == ["b", "a"]
            assert await run.memo() == {"progress": {"done": 3, "of": 10}, "plain": [1, None]}
            assert await run.memo_value("progress", type_hint=Progress) == Progress(3)
            assert await run.memo_value("none", 5) == 5
            with pytest.raises(KeyError, match="none"):
                await run.memo_value("none")

            assert await run.static_summary() == "a summary"
            assert await run.static_details() == "some\ndetails"
            assert run.current_details == ""
            for found in (
                "Customer = 'ann'",
                "About = 'STORY'",
                "Amount = -7",
                "Score > 2",
                "Open = false",
                "Due = '2026-01-31T13:00:00+01:00'",
                "Tags = 'a'",
            ):
                assert await listed(client, found) == ["w"], found

            async with serving(client, code=CODE):
                await handle.signal(Shows.end)
                assert (await handle.result())["memo"]["plain"] == [1, None]

            (same,) = [e async for e in client.list_workflows("Tags = 'b'")]
            assert same == await handle.describe()

    asyncio.run(main())


def test_a_run_changes_what_it_shows_step_by_step(url, cached):
    async def main():
        async with await Client.connect(url) as client, serving(client, cached, CODE):
            first = attributes({CUSTOMER: "ann", AMOUNT: 1})
            handle = await begin(client, Shows.run, search_attributes=first, memo={"begun": 1})
            assert await handle.execute_update(Shows.amount, 5) == 1
            assert await listed(client, "Amount = 5 AND Customer = 'ann'") == ["w"]
            assert await listed(client, "Amount = 1") == []
            assert await handle.query(Shows.amount_now) == 5
            assert await handle.execute_update(Shows.amount, None) == 5
            assert await listed(client, "Amount IS NULL") == ["w"]
            assert await handle.execute_update(Shows.note, args=["a", 1]) == ["a", "begun"]
            assert await handle.execute_update(Shows.note, args=["a", 2]) == ["a", "begun"]
            assert await handle.query(Shows.progress, "a") == Progress(2)
            assert await handle.query(Shows.progress, "b") is None
            assert await handle.execute_update(Shows.note, args=["begun", None]) == ["a"]
            assert await handle.execute_update(Shows.say, "hello\nworld") == ""
            assert await handle.execute_update(Shows.say, "bye") == "hello\nworld"
            run = await handle.describe()
            assert dict(run.typed_search_attributes) == {CUSTOMER: "ann"}
            assert await run.memo() == {"a": {"done": 2, "of": 10}}
            assert run.current_details == "bye"
            with pytest.raises(WorkflowQueryFailedError, match="ReadOnlyContextError"):
                await handle.query(Shows.meddle)

            await handle.signal(Shows.end)
            ended = {"memo": {"a": {"done": 2, "of": 10}}, "details": "bye", "search": None}
            assert await handle.result() == ended
            assert (await handle.describe()).current_details == "bye"
            told = (await handle.fetch_history()).timeline()
            changes = [e.result for e in told if e.kind in {"attributes", "memo"}]
            assert changes[:3] == [{"Amount": 5}, {"Amount": None}, {"a": {"done": 1, "of": 10}}]
            assert [e.result for e in told if e.kind == "note"] == ["hello\nworld", "bye"]
            recorded = await handle.fetch_history()
            await Replayer(workflows=CODE).replay_workflow(recorded)
            await Replayer(workflows=CODE).replay_workflow(
                type(recorded).from_json(recorded.to_json())
            )

    asyncio.run(main())


def test_values_come_back_as_they_were_set(url, cached):
    async def main():
        async with await Client.connect(url) as client, serving(client, cached, CODE):
            handle = await begin(client, all_at_once)
            await handle.result()
            assert dict((await handle.describe()).typed_search_attributes) == ALL

    asyncio.run(main())


def test_what_was_set_aside_is_taken_back_when_a_run_goes_on(url, cached):
    async def main():
        broken.append(True)
        try:
            async with await Client.connect(url) as client:
                async with serving(client, cached, CODE):
                    handle = await begin(client, fails_later, 3, memo={"begun": 1})
                    with pytest.raises(WorkflowFailureError):
                        await handle.result()

                run = await handle.describe()
                assert dict(run.typed_search_attributes) == {CUSTOMER: "bob"}
                assert (await run.memo())["more"] == 1
                broken.clear()
                assert await client.store.revive(run.run_id, reopen=True) is Outcome.ACCEPTED
                # Opened again, and no step of it is set aside yet.
                assert await listed(client, "Customer = 'bob'") == ["w"]
                async with serving(client, cached, CODE):
                    assert await handle.result() == "done"

                run = await handle.describe()
                assert dict(run.typed_search_attributes) == {CUSTOMER: "bob"}
                assert await run.memo() == {"begun": 1, "at": "second", "more": 1}
                assert run.current_details == "second"
        finally:
            broken.clear()

    asyncio.run(main())


@workflow.defn
async def gives_up() -> str:
    if broken:
        workflow.upsert_search_attributes([AMOUNT.value_set(1)])
        workflow.upsert_memo({"at": 1})
        workflow.set_current_details("giving up")
        raise ApplicationError("broken")

    await asyncio.sleep(0.001)
    return "done"


def test_a_run_that_goes_on_otherwise_shows_nothing_of_what_was_set_aside(url, cached):
    async def main():
        broken.append(True)
        try:
            async with await Client.connect(url) as client:
                first = attributes({CUSTOMER: "ann"})
                async with serving(client, cached, [gives_up]):
                    handle = await begin(client, gives_up, search_attributes=first)
                    with pytest.raises(WorkflowFailureError):
                        await handle.result()

                assert await listed(client, "Amount = 1") == ["w"]
                broken.clear()
                await client.store.revive((await handle.describe()).run_id, reopen=True)
                async with serving(client, cached, [gives_up]):
                    assert await handle.result() == "done"

                run = await handle.describe()
                assert dict(run.typed_search_attributes) == {CUSTOMER: "ann"}
                assert await run.memo() == {}
                assert run.current_details == ""
                assert await listed(client, "Amount = 1") == []
        finally:
            broken.clear()

    asyncio.run(main())


def test_messages_with_a_start_bring_what_the_run_shows(url):
    async def main():
        async with await Client.connect(url) as client, serving(client, code=CODE):
            shown = {"search_attributes": attributes({AMOUNT: 1}), "memo": {"a": 1}}
            await begin(client, Shows.run, id="s", start_signal="end", **shown)
            operation = WithStartWorkflowOperation(
                Shows.run,
                id="u",
                task_queue=QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary="sum",
                **shown,
            )
            before = await client.execute_update_with_start_workflow(
                Shows.amount, 2, start_workflow_operation=operation
            )
            assert before == 1
            assert await listed(client, "Amount IN (1, 2) ORDER BY Amount") == ["s", "u"]
            run = await (await operation.workflow_handle()).describe()
            assert await run.memo() == {"a": 1}
            assert await run.static_summary() == "sum"

    asyncio.run(main())


def test_outside_of_a_workflow_there_is_nothing_to_show():
    for call in (workflow.memo, workflow.get_current_details):
        with pytest.raises(NotInWorkflowError):
            call()


# Replay


changed = {"attributes": {}, "memo": {}, "words": "as before"}


@workflow.defn
async def changing() -> str:
    if changed["attributes"]:
        workflow.upsert_search_attributes(
            [k.value_set(v) for k, v in changed["attributes"].items()]
        )

    workflow.upsert_memo(changed["memo"])
    workflow.set_current_details(changed["words"])
    await asyncio.sleep(0.001)
    return "done"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"attributes": {AMOUNT: 2}}, "differ at Amount"),
        ({"attributes": {AMOUNT: 1, SCORE: 1.0}}, "differ at their number"),
        ({"attributes": {}}, "recorded change of 1 search attributes #1, got nothing more"),
        ({"memo": {"a": 2}}, r"recorded 1, now 2"),
        ({"memo": {}}, "recorded change of the memo #1, got nothing more"),
        ({"words": "otherwise"}, None),
        ({}, None),
    ],
)
def test_a_replay_must_change_the_same_and_may_say_other_words(store_url, change, told):
    async def main():
        before = {"attributes": {AMOUNT: 1}, "memo": {"a": 1}, "words": "as before"}
        changed.update(before)
        async with await Client.connect(store_url) as client, serving(client, 1000, [changing]):
            handle = await begin(client, changing)
            await handle.result()
            recorded = await handle.fetch_history()

        changed.update(before | change)
        replayer = Replayer(workflows=[changing])
        if told is None:
            await replayer.replay_workflow(recorded)
        else:
            with pytest.raises(NonDeterminismError, match=told):
                await replayer.replay_workflow(recorded)

    asyncio.run(main())


def test_rows_of_purged_runs_go_with_them(store_url, store_path):
    async def main():
        async with await Client.connect(store_url) as client, serving(client, code=CODE):
            for n in range(3):
                handle = await begin(client, all_at_once, id=f"w{n}", memo={"a": 1})
                await handle.result()

            await begin(client, Shows.run, id="open", search_attributes=attributes({AMOUNT: 1}))
            assert await client.store.purge("default", QUEUE, 1e12, limit=100) == 3
            assert await listed(client) == ["open"]
            for table in ("profile", "attribute"):
                assert rows(store_path, f"SELECT count(DISTINCT run) FROM {table}") == [(1,)]

            # The name keeps its type, and can still be asked for.
            assert await listed(client, "Customer = 'ann'") == []

    asyncio.run(main())
