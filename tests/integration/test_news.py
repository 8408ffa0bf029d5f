"""When a worker learns of what others did to its runs."""

from __future__ import annotations

import asyncio

from support.talking import Inbox, Note, begin, both
from support.waiting import eventually


def test_a_signal_from_elsewhere_is_seen_while_the_only_run_waits_for_its_commit(
    store_url, monkeypatch
):
    """Its own commits are no news to a worker: who looks in vain during one would look late."""

    async def main():
        async with both(store_url) as (near, far):
            handle = await begin(near, Inbox.run, "ann")
            owned = near.owned("w", None)
            go_on = asyncio.Event()
            original = near.store.append

            def slow(append):
                async def later():
                    await go_on.wait()
                    return await original(append)

                return asyncio.ensure_future(later())

            monkeypatch.setattr(near.store, "append", slow)
            near_signal = asyncio.ensure_future(handle.signal(Inbox.take, Note("a")))
            await asyncio.sleep(0.05)
            await far.get_workflow_handle("w").signal(Inbox.take, Note("b"))
            await eventually(lambda: bool(owned.inbox.rows), "the worker to see it", timeout=10)
            assert not near_signal.done()
            go_on.set()
            await handle.signal(Inbox.end)
            assert [n.text for n in await handle.result()] == ["a", "b"]

    asyncio.run(main())
