"""The client and the worker of an event loop: made at the first call, closed with the loop."""

from __future__ import annotations

import asyncio
import os
import sys
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

from durable_core.client import Client, _url
from durable_core.worker import Worker

if TYPE_CHECKING:
    from ._recover import Recovery

__all__ = ["TASK_QUEUE", "Embedded", "close", "of_running_loop", "opened_here", "when_closed"]

TASK_QUEUE = "embedded"


class Embedded(msgspec.Struct):
    """The client and worker of one loop and one store.

    Attributes:
        waiting: How many callers wait for each run, by its id.
        recoveries: What continues runs without their callers, by workflow.
    """

    client: Client
    worker: Worker
    keeper: AsyncGenerator[None, None]
    recoveries: dict[str, Recovery]
    locks: weakref.WeakValueDictionary[str, asyncio.Lock] = msgspec.field(
        default_factory=weakref.WeakValueDictionary[str, asyncio.Lock]
    )
    waiting: Counter[str] = msgspec.field(default_factory=Counter[str])

    def lock(self, workflow_id: str) -> asyncio.Lock:
        """Return the lock under which a run is looked up and started or taken."""
        found = self.locks.get(workflow_id)
        if found is None:
            found = self.locks[workflow_id] = asyncio.Lock()

        return found


# By loop and path. Not weak: what a loop left open when it was closed is closed by the next one.
_loops: dict[asyncio.AbstractEventLoop, dict[str, asyncio.Task[Embedded]]] = {}


# How many stores are open on each loop, and what is to be done when none is any more.
_open_stores: Counter[asyncio.AbstractEventLoop] = Counter()
_afterwards: dict[asyncio.AbstractEventLoop, list[Callable[[], Awaitable[None]]]] = {}


# What a forked child inherited: it must neither use nor close it.
_inherited: list[object] = []


def _after_in_child() -> None:
    _inherited.append(dict(_loops))
    _inherited.append(dict(_afterwards))
    for found in (_loops, _open_stores, _afterwards):
        found.clear()


os.register_at_fork(after_in_child=_after_in_child)


async def close() -> None:
    """Close what this module opened on the running loop, before the loop ends by itself.

    Runs that are under way are released; calling their id again continues them.
    """
    stores = _loops.get(asyncio.get_running_loop(), {})
    for opening in list(stores.values()):
        await (await asyncio.shield(opening)).keeper.aclose()


def when_closed(loop: asyncio.AbstractEventLoop, callback: Callable[[], Awaitable[None]]) -> None:
    """Call back on a loop once what is open there is closed; for what its runs use to the last.

    Args:
        loop: One on which a run is under way.
        callback: Called once.
    """
    _afterwards.setdefault(loop, []).append(callback)


async def of_running_loop(url: str | None) -> Embedded:
    """Return the client and worker of the running loop for a store; they are made if need be.

    Raises:
        EngineURLError: The URL is malformed or its scheme is unknown.
        StoreError: The store cannot be used.
    """
    loop = asyncio.get_running_loop()
    path = _url.location(url)
    _close_what_closed_loops_left()
    stores = _loops.setdefault(loop, {})
    opening = stores.get(path)
    if opening is None:
        # A task of its own, since others wait for it too when its first caller gives up.
        opening = stores[path] = loop.create_task(_open(url), name="durable-open")
        opening.add_done_callback(lambda done: _forget_if_failed(loop, path, done))

    return await asyncio.shield(opening)


def opened_here() -> list[Embedded]:
    """Return what is open on the running loop."""
    stores = _loops.get(asyncio.get_running_loop(), {})
    return [
        opening.result()
        for opening in stores.values()
        if opening.done() and not opening.cancelled() and opening.exception() is None
    ]


def _forget_if_failed(
    loop: asyncio.AbstractEventLoop, path: str, done: asyncio.Task[Embedded]
) -> None:
    if done.cancelled() or done.exception() is not None:
        _forget(loop, path)


def _forget(loop: asyncio.AbstractEventLoop, path: str) -> None:
    stores = _loops.get(loop, {})
    stores.pop(path, None)
    if not stores:
        _loops.pop(loop, None)


def _close_what_closed_loops_left() -> None:
    """Release the runs of loops that were closed without closing their generators."""
    # A copy, and no surprise at what is gone: loops of other threads come and go meanwhile.
    for loop in [loop for loop in list(_loops) if loop.is_closed()]:
        _afterwards.pop(loop, None)
        _open_stores.pop(loop, None)
        for opening in _loops.pop(loop, {}).values():
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                opening.result().worker.close_threads()
                opening.result().client.store.close_now()


async def _open(url: str | None) -> Embedded:
    client = await Client.connect(url)
    try:
        worker = Worker(client, task_queue=TASK_QUEUE, activities=None)
        await worker.start()
    except BaseException:
        await client.close()
        raise

    recoveries: dict[str, Recovery] = {}
    keeper = _keep(client, worker, recoveries)
    hooks = sys.get_asyncgen_hooks()
    if getattr(asyncio.get_running_loop(), "_asyncgens_shutdown_called", False):
        # A loop that goes on after it shut its generators down once (as `run_sync` of some SDKs
        # does) warns about new ones and will not close them: then `close` has to be called.
        sys.set_asyncgen_hooks(None, None)

    try:
        await anext(keeper)
    finally:
        sys.set_asyncgen_hooks(*hooks)

    return Embedded(client, worker, keeper, recoveries)


async def _keep(
    client: Client, worker: Worker, recoveries: Mapping[str, Recovery]
) -> AsyncGenerator[None, None]:
    """Close the worker and the client when the loop ends.

    A loop that ends in order (`asyncio.run`, `asyncio.Runner`) closes its async generators as the
    last thing that still runs on it, after every task was cancelled. That is the moment to close.
    """
    loop = asyncio.get_running_loop()
    _open_stores[loop] += 1
    try:
        yield
    finally:
        _forget(loop, client.store.location)
        async with AsyncExitStack() as stack:
            # Each in turn, the last one first, whatever becomes of those before it.
            stack.push_async_callback(_leave, loop)
            stack.push_async_callback(client.close)
            for recovery in recoveries.values():
                # After the bodies have ended that use what was made for their runs.
                stack.push_async_callback(recovery.close)

            stack.push_async_callback(worker.shutdown)
            for recovery in recoveries.values():
                stack.push_async_callback(recovery.look_no_more)


async def _leave(loop: asyncio.AbstractEventLoop) -> None:
    _open_stores[loop] -= 1
    if _open_stores[loop] <= 0:
        del _open_stores[loop]
        async with AsyncExitStack() as stack:
            for callback in _afterwards.pop(loop, ()):
                stack.push_async_callback(callback)
