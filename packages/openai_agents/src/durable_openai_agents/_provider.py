"""The model provider of a run whose caller names none, and the connections of default clients.

The SDK would make one and close it inside the run, and it keeps one pool of connections for the
process. But connections belong to the loop that made them: that is not the loop of the workflow,
and the next `asyncio.run` would meet "Event loop is closed". Here each loop has a pool of its own,
which ends after the runs of the loop. Inside a workflow of the user's own it is the SDK's.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agents import MultiProvider, RunConfig
from durable_core import embedded
from durable_core.adapter import current_engine
from openai import DefaultAsyncHttpx2Client

from ._scope import current_scope

__all__ = ["close_after", "durable_pool", "give", "own"]

_closing: set[asyncio.Task[None]] = set()
_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()


def give(arguments: dict[str, Any]) -> MultiProvider | None:
    """Give a run without a provider one of its own, and return it to be closed afterwards.

    Args:
        arguments: Those of the SDK's runner; changed.
    """
    config = arguments["run_config"]
    if config is None:
        provider = MultiProvider()
        arguments["run_config"] = RunConfig(model_provider=provider)
        return provider

    if isinstance(config, dict) and "model_provider" not in config:
        provider = MultiProvider()
        arguments["run_config"] = {**config, "model_provider": provider}
        return provider

    return None


@asynccontextmanager
async def own(arguments: dict[str, Any]) -> AsyncGenerator[None]:
    """Give a run a provider, as `give` does, and close it at the end."""
    provider = give(arguments)
    try:
        yield
    finally:
        if provider is not None:
            await _close(provider)


async def close_after(provider: MultiProvider, workflow_id: str | None) -> None:
    """Close a provider on the loop that its connections belong to, once its run is not here.

    A run that goes on without its caller is not waited for; a task of its own closes it then.
    """
    run = None if workflow_id is None else embedded.under_way(workflow_id)
    if run is None or run.done():
        await _close(provider)
        return

    async def close_later() -> None:
        await asyncio.wait([run])
        await _close(provider)

    task = asyncio.get_running_loop().create_task(close_later())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def _close(provider: MultiProvider) -> None:
    with contextlib.suppress(Exception):
        await provider.aclose()


def durable_pool(original: Callable[[], Any]) -> Callable[[], Any]:
    """Return a replacement for the SDK's function that returns its pool of connections."""

    def shared_http_client() -> Any:
        loop = None if current_engine() is None else current_scope().loop
        return original() if loop is None else _pool(loop)

    return shared_http_client


def _pool(loop: asyncio.AbstractEventLoop) -> Any:
    """Return the pool of a loop, made at the first call, while a run of it is under way."""
    pool = _pools.get(loop)
    if pool is None:
        pool = _pools[loop] = DefaultAsyncHttpx2Client()

        async def close() -> None:
            _pools.pop(loop, None)
            await pool.aclose()

        embedded.when_closed(loop, close)

    return pool
