"""Eviction: runs that only wait leave memory, and come back when something happens."""

from __future__ import annotations

import asyncio

import pytest
from durable_core import _defaults
from durable_core.exceptions import WorkflowFailureError
from support.talking import Inbox, Note, begin, both, hanging, ran, sleeper, working
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
