"""Signals, queries, cancellation and the end of runs from outside."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from durable_core import Client, Worker
from durable_core.client import WorkflowExecutionStatus
from durable_core.exceptions import (
    CancelledError,
    TerminatedError,
    WorkflowFailureError,
    WorkflowNotFoundError,
    WorkflowQueryFailedError,
    WorkflowQueryUnansweredError,
)
from support.talking import QUEUE, Inbox, Note, begin, both, hanging, note, ran, sleeper, working
from support.waiting import eventually

# Signals and queries


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_signal_and_a_query_reach_the_run_wherever_they_come_from(store_url, where):
    async def main():
        async with both(store_url) as (near, far):
            await begin(near, Inbox.run, "ann")
            handle = (near if where == "near" else far).get_workflow_handle("w")
            await handle.signal(Inbox.take, Note("a", 1))
            await handle.signal("take", {"text": "b", "size": 2})
            # A signal to another process is durable before it is handled.
            texts = []
            while len(texts) < 2:
                texts = await handle.query(Inbox.texts)

            assert texts == ["a", "b"]
            assert await handle.query(Inbox.texts, 2) == ["b"]
            assert await handle.query(Inbox.first) == Note("a", 1)
            assert await handle.query("first") == {"text": "a", "size": 1}
            assert await handle.query("first", result_type=Note) == Note("a", 1)
            await handle.signal(Inbox.end)
            assert await handle.result() == [
                {"text": "a", "size": 1},
                {"text": "b", "size": 2},
            ]
            assert await handle.query(Inbox.texts) == ["a", "b"]
            signals = [e for e in (await handle.fetch_history()).timeline() if e.kind == "signal"]
            assert (signals[0].name, signals[0].args) == ("take", [{"text": "a", "size": 1}])
            sender = "far" if where == "far" else "worker's client"
            assert signals[0].detail == f"from {sender}"

    asyncio.run(main())


def test_signals_of_one_sender_are_handled_in_the_order_of_sending(store_url):
    async def main():
        async with both(store_url) as (near, far):
            await begin(near, Inbox.run, "ann")
            handles = [near.get_workflow_handle("w"), far.get_workflow_handle("w")]

            async def send(handle, name):
                for n in range(40):
                    await handle.signal(Inbox.take, Note(f"{name}{n:03}"))

            await asyncio.gather(*(send(h, n) for h, n in zip(handles, "ab", strict=True)))
            await handles[1].signal(Inbox.end)
            got = [n["text"] for n in await handles[0].result()]
            for name in "ab":
                mine = [t for t in got if t.startswith(name)]
                assert mine == [f"{name}{n:03}" for n in range(40)]

    asyncio.run(main())


def test_a_signal_at_the_end_is_handled_or_refused_and_never_lost(store_url):
    """Many runs are ended while others go on to send: what was accepted is in the result."""

    async def main():
        async with both(store_url) as (near, far):

            async def one(n):
                id = f"w{n}"
                await begin(near, Inbox.run, "ann", id=id)
                accepted = []

                async def send(client, name):
                    handle = client.get_workflow_handle(id)
                    for k in range(50):
                        text = f"{name}{k}"
                        try:
                            await handle.signal(Inbox.take, Note(text))
                        except WorkflowNotFoundError:
                            return

                        accepted.append(text)

                sending = [asyncio.ensure_future(send(c, c.identity[0])) for c in (near, far)]
                await asyncio.sleep(0.002 * (n % 7))
                await far.get_workflow_handle(id).signal(Inbox.end)
                got = [x["text"] for x in await near.get_workflow_handle(id).result()]
                await asyncio.gather(*sending)
                assert sorted(got) == sorted(accepted)
                return len(accepted)

            assert sum(await asyncio.gather(*(one(n) for n in range(12)))) > 12

    asyncio.run(main())


def test_a_signal_to_a_run_that_no_worker_has_waits_for_one(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            await handle.signal(Inbox.take, Note("early"))
            await handle.signal(Inbox.end)
            assert [e.status for e in (await handle.fetch_history()).timeline()][1:] == [
                "waiting",
                "waiting",
            ]
            async with Worker(client, task_queue=QUEUE, workflows=[Inbox], activities=[note]):
                assert await handle.result() == [Note("early")]

    asyncio.run(main())


def test_a_large_signal_is_stored_as_an_item(store_url):
    text = "x" * 20_000

    async def main():
        async with both(store_url) as (near, far):
            await begin(near, Inbox.run, "ann")
            for client in (near, far):
                await client.get_workflow_handle("w").signal(Inbox.take, Note(text))

            await far.get_workflow_handle("w").signal(Inbox.end)
            result = await near.get_workflow_handle("w").result()
            assert [len(n["text"]) for n in result] == [20_000, 20_000]

    asyncio.run(main())


def test_talking_to_nobody_says_so(store_url):
    async def main():
        async with working(store_url) as client:
            nobody = client.get_workflow_handle("nobody")
            for talk in (
                nobody.signal("take", Note("a")),
                nobody.query("texts"),
                nobody.cancel(),
                nobody.terminate(),
            ):
                with pytest.raises(WorkflowNotFoundError, match="'nobody'"):
                    await talk

            handle = await begin(client, sleeper, 0.0)
            await handle.result()
            for talk in (handle.signal("x"), handle.cancel(), handle.terminate()):
                with pytest.raises(
                    WorkflowNotFoundError, match=r"has ended \(completed\).*durable show w"
                ):
                    await talk

    asyncio.run(main())


def test_a_query_in_a_process_that_does_not_know_the_code_says_so(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = await begin(client, "Elsewhere", 1)
            with pytest.raises(
                WorkflowQueryUnansweredError, match="import the module that defines"
            ):
                await handle.query("anything", rpc_timeout=timedelta(seconds=0.1))

            known = await begin(client, Inbox.run, "ann", id="known")
            with pytest.raises(WorkflowQueryFailedError, match="no query 'nothing'"):
                await known.query("nothing")

    asyncio.run(main())


# Cancellation and termination


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_cancelled_run_cleans_up_and_is_canceled(store_url, where):
    async def main():
        async with both(store_url) as (near, far):
            handle = await begin(near, Inbox.run, "ann")
            client = near if where == "near" else far
            await client.get_workflow_handle("w").cancel(reason="too late")
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()

            assert isinstance(raised.value.cause, CancelledError)
            assert ran == ["cleaned up"]
            assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
            assert await handle.query(Inbox.texts) == ["cancelled: too late"]
            (asked,) = [e for e in (await handle.fetch_history()).timeline() if e.kind == "cancel"]
            assert "too late" in asked.detail

    asyncio.run(main())


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_terminated_run_ends_at_once_and_its_bodies_are_cancelled(store_url, where):
    async def main():
        async with both(store_url) as (near, far):
            handle = await begin(near, hanging)
            await eventually(lambda: "begun body" in ran, "the body")
            client = near if where == "near" else far
            await client.get_workflow_handle("w").terminate("why", 7, reason="enough")
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()

            assert isinstance(raised.value.cause, TerminatedError)
            assert str(raised.value.cause) == "enough"
            await eventually(lambda: "ended body" in ran, "the end of the body")
            assert (await handle.describe()).status is WorkflowExecutionStatus.TERMINATED
            recorded = await handle.fetch_history()
            assert recorded.timeline()[-1].status == "terminated"
            assert recorded.pending == {}

    asyncio.run(main())


def test_a_run_that_was_terminated_can_still_be_asked(store_url):
    async def main():
        async with working(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            await handle.signal(Inbox.take, Note("a"))
            await handle.terminate()
            assert await handle.query(Inbox.texts) == ["a"]

    asyncio.run(main())
