"""When a worker learns of what others did to its runs."""

from __future__ import annotations

import asyncio

from durable_core.exceptions import StoreError
from support.talking import Inbox, Note, begin, both
from support.waiting import eventually


def slowly(store, monkeypatch):
    """Let no append of a store be written until the event that is returned."""
    go_on = asyncio.Event()
    original = store.append

    def slow(append):
        async def later():
            await go_on.wait()
            return await original(append)

        return asyncio.ensure_future(later())

    monkeypatch.setattr(store, "append", slow)
    return go_on


def test_a_signal_from_elsewhere_is_seen_while_the_only_run_waits_for_its_commit(
    store_url, monkeypatch
):
    """Its own commits are no news to a worker: who looks in vain during one would look late."""

    async def main():
        async with both(store_url) as (near, far):
            handle = await begin(near, Inbox.run, "ann")
            owned = near.owned("w", None)
            go_on = slowly(near.store, monkeypatch)
            near_signal = asyncio.ensure_future(handle.signal(Inbox.take, Note("a")))
            await asyncio.sleep(0.05)
            await far.get_workflow_handle("w").signal(Inbox.take, Note("b"))
            await eventually(lambda: bool(owned.inbox.rows), "the worker to see it", timeout=10)
            assert not near_signal.done()
            go_on.set()
            await handle.signal(Inbox.end)
            assert [n.text for n in await handle.result()] == ["a", "b"]

    asyncio.run(main())


def test_a_pause_from_elsewhere_is_seen_while_the_run_waits_for_its_commit(store_url, monkeypatch):
    async def main():
        async with both(store_url) as (near, far):
            handle = await begin(near, Inbox.run, "ann")
            owned = near.owned("w", None)
            go_on = slowly(near.store, monkeypatch)
            first = asyncio.ensure_future(handle.signal(Inbox.take, Note("a")))
            await asyncio.sleep(0.05)
            await far.get_workflow_handle("w").pause()
            await eventually(lambda: owned.leaving, "the worker to see it", timeout=10)
            go_on.set()
            await first
            await eventually(lambda: near.owned("w", None) is None, "the run to be let go")
            await handle.unpause()
            await handle.signal(Inbox.end)
            assert [n.text for n in await handle.result()] == ["a"]

    asyncio.run(main())


def test_a_paused_run_that_could_not_be_let_go_goes_on_when_it_is_unpaused(store_url, monkeypatch):
    async def main():
        async with both(store_url) as (near, _):
            handle = await begin(near, Inbox.run, "ann")
            owned = near.owned("w", None)

            def fails(_):
                failed = asyncio.get_running_loop().create_future()
                failed.set_exception(StoreError("the disk is full"))
                return failed

            with monkeypatch.context() as broken:
                broken.setattr(near.store, "append", fails)
                await handle.pause()
                await asyncio.wait([owned.done])

            await handle.unpause()
            await handle.signal(Inbox.end)
            assert await asyncio.wait_for(handle.result(), 20) == []

    asyncio.run(main())
