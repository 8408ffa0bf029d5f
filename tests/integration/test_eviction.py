"""Eviction: runs that only wait leave memory, and come back when something happens."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from durable_core import Client, Worker, _defaults
from durable_core.exceptions import StoreError, WorkflowFailureError
from support.talking import (
    QUEUE,
    Inbox,
    Note,
    begin,
    both,
    hanging,
    note,
    ran,
    sleeper,
    working,
)
from support.waiting import eventually


def owned_runs(client):
    return list(client.workers[0]._owned)


def test_a_run_that_only_waits_leaves_memory_and_wakes_in_time(store_url, monkeypatch):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.2)

    async def main():
        async with working(store_url) as client:
            handle = await begin(client, sleeper, 1.5)
            await eventually(lambda: not owned_runs(client), "an eviction")
            row = await client.store.find("default", "w")
            assert row.owner is None
            assert row.wake > 0
            assert await handle.result() == "slept"
            assert ran == ["awake"]

    asyncio.run(main())


def test_a_run_that_was_taken_from_a_dead_worker_and_only_waits_leaves_memory(
    store_url, monkeypatch
):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.2)

    async def main():
        async with await Client.connect(store_url) as client:
            dead = Worker(client, task_queue=QUEUE, workflows=[sleeper], activities=[note])
            await dead.start()
            await begin(client, sleeper, 600.0)
            # As if its process had been killed: nobody hands anything over.
            await client.store.release_worker(dead.membership.number)
            client.detach(dead)
            async with working(store_url) as other:
                while (await other.store.find("default", "w")).fence == 1:
                    await asyncio.sleep(0.01)

                await eventually(lambda: not owned_runs(other), "an eviction")
                assert (await other.store.find("default", "w")).owner is None

            with contextlib.suppress(StoreError):
                await dead.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_run_out_of_memory_is_woken_by_a_signal(store_url, monkeypatch, where):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.1)

    async def main():
        async with both(store_url) as (near, far):
            handle = await begin(near, Inbox.run, "ann")
            await eventually(lambda: not owned_runs(near), "an eviction")
            talker = (near if where == "near" else far).get_workflow_handle("w")
            await talker.signal(Inbox.take, Note("a"))
            await talker.signal(Inbox.end)
            assert await handle.result() == [Note("a")]

    asyncio.run(main())


def test_what_is_over_the_limit_leaves_memory_at_once(store_url):
    async def main():
        async with working(store_url, max_cached_workflows=3) as client:
            for n in range(8):
                await begin(client, sleeper, 600.0, id=f"w{n}")

            await eventually(lambda: len(owned_runs(client)) <= 3, "evictions")
            handle = client.get_workflow_handle("w0")
            await handle.cancel()
            with pytest.raises(WorkflowFailureError):
                await handle.result()

    asyncio.run(main())


def test_a_run_whose_body_runs_stays(store_url, monkeypatch):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.05)

    async def main():
        async with working(store_url, max_cached_workflows=1) as client:
            await begin(client, hanging)
            await eventually(lambda: "begun body" in ran, "the body")
            await begin(client, sleeper, 600.0, id="other")
            await eventually(lambda: len(owned_runs(client)) == 1, "an eviction")
            assert [o.row.workflow_id for o in client.workers[0]._owned.values()] == ["w"]
            assert "ended body" not in ran

    asyncio.run(main())


@pytest.mark.parametrize("read", [False, True], ids=["before it is read", "while it is read"])
def test_a_signal_in_memory_does_not_overtake_one_that_went_to_the_inbox(
    store_url, monkeypatch, read
):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.1)

    async def main():
        async with working(store_url) as client:
            handle = await begin(client, Inbox.run, "ann")
            await eventually(lambda: not owned_runs(client), "an eviction")
            load, send, talking = client.store.load, client.store.send, []

            async def talk():
                await handle.signal(Inbox.take, Note("2"))
                await eventually(lambda: owned_runs(client), "the run in memory")
                await handle.signal(Inbox.take, Note("3"))

            async def load_and_talk(row):
                loaded = await load(row)
                if not talking:
                    talking.append(asyncio.create_task(talk()))
                    # The inbox was read before; the signal comes too late to be among what was.
                    await (asyncio.sleep(0) if read else eventually(sent.is_set, "a signal"))

                return loaded

            async def send_late(*args, **more):
                if talking and read:
                    await eventually(lambda: owned_runs(client), "the run in memory")

                outcome = await send(*args, **more)
                if talking:
                    sent.set()

                return outcome

            sent = asyncio.Event()
            monkeypatch.setattr(client.store, "load", load_and_talk)
            monkeypatch.setattr(client.store, "send", send_late)
            await handle.signal(Inbox.take, Note("1"))
            await eventually(lambda: talking and talking[0].done(), "the signals")
            await handle.signal(Inbox.end)
            assert [note.text for note in await handle.result()] == ["1", "2", "3"]

    asyncio.run(main())
