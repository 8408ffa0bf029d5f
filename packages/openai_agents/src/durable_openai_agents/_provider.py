"""The model provider of a run whose caller named none.

The SDK would make one and close it inside the run; but its connections belong to the loop that
made the calls, which is not the loop of the workflow.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from agents import MultiProvider, RunConfig
from durable_core import embedded

__all__ = ["close_after", "give", "own"]

_closing: set[asyncio.Task[None]] = set()


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
