"""Updates: accepted or rejected, answered once, asked for again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid

import pytest
from durable_core import Client, _defaults, activity, workflow
from durable_core.client import WorkflowUpdateStage
from durable_core.common import (
    RawValue,
    RetryPolicy,
    WorkflowIDConflictPolicy,
)
from durable_core.exceptions import (
    ApplicationError,
    ArgumentError,
    DefinitionError,
    ReadOnlyContextError,
    WorkflowFailureError,
    WorkflowNotFoundError,
    WorkflowStalledError,
    WorkflowUpdateFailedError,
)
from durable_core.stores import Outcome
from support.talking import Inbox, Note, begin, both, working
from support.waiting import eventually

ADMITTED = WorkflowUpdateStage.ADMITTED
ACCEPTED = WorkflowUpdateStage.ACCEPTED
COMPLETED = WorkflowUpdateStage.COMPLETED
USE_EXISTING = WorkflowIDConflictPolicy.USE_EXISTING


def updates_of(entries):
    return [e for e in entries if e.kind == "update"]


@pytest.fixture(params=["near", "far", "memory"])
def talkers(request, store_url):
    """Open a worker's client, and one that talks to it from elsewhere, or the same one."""

    def open_both():
        return both(f"memory://{uuid.uuid4()}" if request.param == "memory" else store_url)

    open_both.where = request.param
    return open_both


def handle_of(talkers, near, far, id="w"):
    client = far if talkers.where == "far" else near
    return client.get_workflow_handle(id)


def test_an_update_is_answered_wherever_it_comes_from(talkers):
    async def main():
        async with talkers() as (near, far):
            await begin(near, Inbox.run, "ann")
            handle = handle_of(talkers, near, far)
            assert await handle.execute_update(Inbox.add, Note("a")) == 1
            assert await handle.execute_update("add", {"text": "b", "size": 20}) == 2
            assert await handle.execute_update(Inbox.rename, args=[0, "x"]) == Note("x")
            assert await handle.execute_update("rename", args=[0, "y"]) == {"text": "y", "size": 0}
            assert (await handle.execute_update("rename", args=[0, "z"], result_type=Note)) == Note(
                "z"
            )
            await handle.signal(Inbox.end)
            assert [n["text"] for n in await handle.result()] == ["z", "b"]
            told = updates_of((await handle.fetch_history()).timeline())
            assert [(e.name, e.status, e.result) for e in told[:2]] == [
                ("add", "completed", 1),
                ("add", "completed", 2),
            ]
            sender = "far" if talkers.where == "far" else "worker's client"
            assert told[0].detail == f"from {sender}"

    asyncio.run(main())


def test_a_rejected_update_leaves_no_trace_and_is_rejected_again(talkers):
    async def main():
        async with talkers() as (near, far):
            await begin(near, Inbox.run, "ann")
            handle = handle_of(talkers, near, far)
            await handle.execute_update(Inbox.add, Note("a"))
            before = await handle.describe()
            for _ in range(2):
                sent = await handle.start_update(
                    Inbox.add, Note(""), id="bad", wait_for_stage=ACCEPTED
                )
                with pytest.raises(
                    WorkflowUpdateFailedError, match="was rejected.*needs a text"
                ) as e:
                    await sent.result()

                assert isinstance(e.value.cause, ValueError)

            # The same id is the same update, whatever it says now.
            with pytest.raises(WorkflowUpdateFailedError, match="needs a text"):
                await handle.execute_update(Inbox.add, Note("good"), id="bad")

            after = await handle.describe()
            assert after.history_length == before.history_length
            assert len(updates_of((await handle.fetch_history()).timeline())) == 1
            assert await handle.query(Inbox.texts) == ["a"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "args", "why"),
    [
        ("add", [], "add"),
        ("add", [{"text": 5}], "text"),
        ("add", [{"text": "a"}, 2], "add"),
        ("nothing", [], "has no update 'nothing'; it has 'add', 'rename'"),
    ],
)
def test_what_the_run_cannot_take_is_rejected_and_disturbs_nothing(store_url, name, args, why):
    async def main():
        async with both(store_url) as (near, far):
            await begin(near, Inbox.run, "ann")
            for client in (near, far):
                handle = client.get_workflow_handle("w")
                with pytest.raises(WorkflowUpdateFailedError, match=why):
                    await handle.execute_update(name, args=args)

            assert (await handle.describe()).stalled is None
            await handle.signal(Inbox.end)
            assert await handle.result() == []

    asyncio.run(main())


def test_a_handler_that_fails_fails_its_update_and_not_its_run(talkers):
    async def main():
        async with talkers() as (near, far):
            await begin(near, Inbox.run, "ann")
            handle = handle_of(talkers, near, far)
            with pytest.raises(WorkflowUpdateFailedError, match="no such note") as caught:
                await handle.execute_update(Inbox.add, Note("fail"))

            assert isinstance(caught.value.cause, ApplicationError)
            assert caught.value.cause.type == "NoNote"
            await handle.signal(Inbox.end)
            assert await handle.result() == []

    asyncio.run(main())


def test_an_update_sent_again_is_handled_once_and_has_the_same_answer(talkers):
    async def main():
        async with talkers() as (near, far):
            await begin(near, Inbox.run, "ann")
            handle = handle_of(talkers, near, far)
            both_at_once = (
                handle.execute_update(Inbox.add, Note("a", 30), id="once") for _ in range(5)
            )
            assert await asyncio.gather(*both_at_once) == [1] * 5
            assert await handle.execute_update(Inbox.add, Note("a"), id="once") == 1
            other = near.get_workflow_handle("w").get_update_handle("once", result_type=int)
            assert await other.result() == 1
            await handle.signal(Inbox.end)
            assert len(await handle.result()) == 1
            # Also after the end.
            assert await handle.execute_update(Inbox.add, Note("a"), id="once") == 1
            with pytest.raises(WorkflowNotFoundError, match="has ended"):
                await handle.execute_update(Inbox.add, Note("a"), id="other")

    asyncio.run(main())


def test_accepted_is_told_before_completed(talkers):
    async def main():
        async with talkers() as (near, far):
            await begin(near, Inbox.run, "ann")
            handle = handle_of(talkers, near, far)
            sent = await handle.start_update(
                Inbox.add, Note("slow", 500), id="u", wait_for_stage=ACCEPTED
            )
            told = updates_of((await handle.fetch_history()).timeline())
            assert [(e.key, e.status) for e in told] == [("u", "accepted")]
            assert await sent.result() == 1
            assert await sent.result() == 1
            assert (sent.id, sent.workflow_id) == ("u", "w")

    asyncio.run(main())


def test_an_update_whose_run_ends_first_says_so(talkers, caplog):
    async def main():
        async with talkers() as (near, far):
            await begin(near, Inbox.run, "ann")
            handle = handle_of(talkers, near, far)
            sent = await handle.start_update(
                Inbox.add, Note("slow", 60_000), wait_for_stage=ACCEPTED
            )
            waiting = asyncio.create_task(sent.result())
            await handle.signal(Inbox.end)
            with pytest.raises(WorkflowUpdateFailedError, match="ended .completed. before") as e:
                await waiting

            assert e.value.cause.type == "AcceptedUpdateCompletedWorkflow"
            await handle.result()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())

    assert caplog.text.count("ended while handlers were under way") == 1
    assert "update add" in caplog.text


@workflow.defn
class Meddling:
    """Its validator does what a validator must not do."""

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: False)
        return ""

    @workflow.update
    def poke(self, how: str) -> str:
        return how

    @poke.validator
    def check_poke(self, how: str) -> None:
        match how:
            case "task":
                asyncio.get_running_loop().create_task(asyncio.sleep(1))
            case "timer":
                asyncio.get_running_loop().call_later(1, print)
            case "handler":
                workflow.set_signal_handler("x", print)
            case "random":
                workflow.random().random()
                workflow.uuid4()


def test_a_validator_that_changes_its_run_rejects_the_update(store_url):
    async def main():
        async with working(store_url, workflows=[Meddling]) as client:
            handle = await begin(client, Meddling.run)
            for how in ("task", "timer", "handler"):
                with pytest.raises(WorkflowUpdateFailedError) as caught:
                    await handle.execute_update(Meddling.poke, how)

                assert isinstance(caught.value.cause, ReadOnlyContextError), how

            assert await handle.execute_update(Meddling.poke, "random") == "random"
            assert (await handle.describe()).history_length == 2

    asyncio.run(main())


# Over ends and evictions


def test_an_update_wakes_a_run_that_is_out_of_memory(store_url, monkeypatch):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.1)

    async def main():
        async with working(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            for n in range(3):
                await eventually(lambda: not client.workers[0]._owned, "an eviction")
                if n == 1:
                    with pytest.raises(WorkflowUpdateFailedError, match="needs a text"):
                        await handle.execute_update(Inbox.add, Note(""), id="bad")
                elif n == 2:
                    with pytest.raises(WorkflowUpdateFailedError, match="needs a text"):
                        await handle.execute_update(Inbox.add, Note("good"), id="bad")
                else:
                    assert await handle.execute_update(Inbox.add, Note("a")) == 1

            assert await handle.query(Inbox.texts) == ["a"]

    asyncio.run(main())


def test_who_waits_for_an_update_sleeps_while_its_run_comes_and_goes(store_url, monkeypatch):
    """The run is let go, comes back by a signal, and answers later: few looks at the store."""
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.1)

    async def main():
        async with working(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            sent = await handle.start_update(Inbox.add, Note("slow", 1500), wait_for_stage=ACCEPTED)
            looks, read = [], client.store.read_reply

            async def counted(*asked):
                looks.append(asked)
                return await read(*asked)

            monkeypatch.setattr(client.store, "read_reply", counted)
            waiting = asyncio.create_task(sent.result())
            await eventually(lambda: not client.workers[0]._owned, "an eviction")
            await handle.signal(Inbox.take, Note("back"))
            monkeypatch.setattr(_defaults, "EVICT_AFTER", 60.0)
            assert await waiting == 2
            assert len(looks) < 60

    asyncio.run(main())


broken: set[str] = set()
allowed: set[int] = set()


@activity.defn(retry_policy=RetryPolicy(maximum_attempts=1))
async def fragile() -> None:
    if broken:
        raise ApplicationError("broken")


@workflow.defn
class Failing:
    """Meets a failure, goes on for a while, and fails by it."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.met = self.ends = False

    @workflow.run
    async def run(self) -> None:
        try:
            await fragile()
        except ApplicationError:
            self.met = True
            await workflow.wait_condition(lambda: self.ends)
            raise

    @workflow.signal
    def end(self) -> None:
        self.ends = True

    @workflow.update
    def put(self, number: int) -> int:
        self.taken.append(number)
        return len(self.taken)

    @put.validator
    def check(self, number: int) -> None:
        if number not in allowed:
            raise ValueError(f"{number} is not allowed")

    @workflow.query
    def numbers(self) -> list[int]:
        return self.taken if self.met or self.ends else []


def test_what_was_accepted_before_a_failure_is_handled_again_and_nothing_else_unasked(store_url):
    def opened():
        return working(store_url, workflows=[Failing], activities=[fragile])

    async def main():
        broken.add("it")
        allowed.update({1, 2})
        async with opened() as client:
            handle = await begin(client, Failing.run)
            while not await handle.query(Failing.numbers):
                # Some of them come after the failure, and are set aside with what followed it.
                await handle.execute_update(Failing.put, 1)

            put = len(await handle.query(Failing.numbers))
            assert await handle.execute_update(Failing.put, 2, id="two") == put + 1
            await handle.signal(Failing.end)
            with pytest.raises(WorkflowFailureError):
                await handle.result()

        broken.clear()
        allowed.clear()
        async with await Client.connect(store_url) as client:
            row = await client.store.find("default", "w")
            assert await client.store.revive(row.run_id, reopen=True) is Outcome.ACCEPTED
            handle = client.get_workflow_handle("w")
            new = await handle.start_update(Failing.put, 3, wait_for_stage=ADMITTED)
            old = await handle.start_update(Failing.put, 9, id="two", wait_for_stage=ADMITTED)
            async with opened():
                with pytest.raises(WorkflowUpdateFailedError, match="3 is not allowed"):
                    await new.result()

                assert await old.result() == put + 1
                assert await handle.query(Failing.numbers) == [*[1] * put, 2]

    asyncio.run(main())


def test_an_update_to_a_run_that_no_worker_has_waits_for_one(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            sent = await handle.start_update(
                Inbox.add, Note("early"), id="u", wait_for_stage=ADMITTED
            )
            told = updates_of((await handle.fetch_history()).timeline())
            assert [(e.key, e.status) for e in told] == [("u", "waiting")]
            async with working(store_url):
                assert await sent.result() == 1

    asyncio.run(main())


# Definitions


def test_what_is_no_update_is_refused_with_the_remedy(store_url):
    async def main():
        async with working(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            with pytest.raises(DefinitionError, match="no update.*@workflow.update"):
                await handle.execute_update(Inbox.take, Note("a"))

            with pytest.raises(ArgumentError, match="1 to 1000 characters, got ''"):
                await handle.execute_update(Inbox.add, Note("a"), id="")

            with pytest.raises(ArgumentError, match="1 to 1000 characters"):
                await handle.execute_update(Inbox.add, Note("a"), id="x" * 1001)

            with pytest.raises(ArgumentError):
                await handle.execute_update(Inbox.add)

            with pytest.raises(ArgumentError, match="a list of arguments, got 'text'"):
                await begin(client, Inbox.run, "ann", start_signal="take", start_signal_args="text")

    asyncio.run(main())


def test_handlers_that_cannot_work_are_refused_where_they_are_defined():
    with pytest.raises(DefinitionError, match="make it a plain def"):

        class A:
            @workflow.update
            def a(self) -> None: ...

            @a.validator
            async def check(self) -> None: ...

    with pytest.raises(DefinitionError, match="it takes every name"):

        class B:
            @workflow.update(name="b", dynamic=True)
            def b(self, name: str, args: list[RawValue]) -> None: ...

    with pytest.raises(DefinitionError, match="must be self, a name and a list"):

        class C:
            @workflow.signal(dynamic=True)
            def c(self, name: str) -> None: ...

    with pytest.raises(DefinitionError, match="two dynamic handlers of the query"):

        @workflow.defn
        class D:
            @workflow.run
            async def run(self) -> None: ...

            @workflow.query(dynamic=True)
            def c(self, name: str, args: list[RawValue]) -> None: ...

            @workflow.query(dynamic=True)
            def d(self, name: str, args: list[RawValue]) -> None: ...


@workflow.defn(name="Changed")
class Larger:
    """A workflow before its update was removed."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    def add(self, text: str) -> str:
        return text


@workflow.defn(name="Changed")
class Smaller:
    """The same afterwards."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


def test_code_that_lost_a_handler_stalls_a_run_whose_update_it_accepted(store_url):
    async def main():
        async with working(store_url, workflows=[Larger]) as client:
            assert await (await begin(client, Larger.run)).execute_update(Larger.add, "a") == "a"

        async with working(store_url, workflows=[Smaller]) as client:
            handle = client.get_workflow_handle("w")
            await handle.signal("anything")
            with pytest.raises(WorkflowStalledError, match="has no update 'add'.*restore it"):
                while True:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(handle.result(on_stall="raise"), 0.05)

        async with working(store_url, workflows=[Larger]) as client:
            assert await client.get_workflow_handle("w").execute_update(Larger.add, "b") == "b"

    asyncio.run(main())
