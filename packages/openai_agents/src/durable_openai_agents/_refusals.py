"""I/O that a function of the user does inside the agent loop: named, and never told to the model.

Guardrails, hooks and the like are workflow code, whose event loop refuses I/O. On its way up that
refusal gets wrapped, by the SDK into the error of a tool, by HTTP libraries into a group; and what
fails inside an agent tool the SDK tells the model instead of its caller. Here it is found again.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from durable_core.adapter import current_engine
from durable_core.exceptions import NotSupported

from ._scope import current_scope

__all__ = ["durable_failure", "io_refusal"]

_SDK = ("agents", "durable_openai_agents")
_LOOP = ("asyncio", "durable_core")


def durable_failure(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement for the SDK's function that tells the model of a failed tool."""

    async def tell(*, function_tool: Any, context: Any, error: BaseException) -> Any:
        refused = None if current_engine() is None else io_refusal(error)
        if refused is not None:
            # Whatever the SDK makes of this exception, the run ends with it.
            current_scope().refused.append(refused)
            raise refused

        return await original(function_tool=function_tool, context=context, error=error)

    return tell


def io_refusal(error: BaseException) -> NotSupported | None:
    """Return what says who did I/O, if that is what an exception comes of."""
    # The loop itself and, beside it, the guard.
    engine = type(asyncio.get_running_loop()).__module__.rpartition(".")[0]
    for path in _paths(error, (), set()):
        refused = path[-1]
        frames = _frames(refused)
        if isinstance(refused, NotSupported) and frames and _is_in(engine, frames[-1][0]):
            # What runs in a task of its own is called by nobody; then the group's way up tells.
            culprits = [found for e in reversed(path) if (found := _called_by_the_sdk(e))]
            named = NotSupported(
                f"{culprits[0] if culprits else 'a function'} does I/O in the agent loop of a "
                "durable run, where it would not be recorded: put it into a tool, or into an "
                f"@activity.defn and await workflow.execute_activity ({refused})"
            )
            named.__cause__ = refused
            return named

    return None


def _is_in(package: str, module: str) -> bool:
    return module.rpartition(".")[0] == package


def _paths(
    error: BaseException, above: tuple[BaseException, ...], seen: set[int]
) -> Iterator[tuple[BaseException, ...]]:
    """Yield the exceptions that an exception comes of, each once and with those above it."""
    seen.add(id(error))
    path = (*above, error)
    yield path
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for cause in (*inner, error.__cause__, error.__context__):
        if cause is not None and id(cause) not in seen:
            yield from _paths(cause, path, seen)


def _called_by_the_sdk(error: BaseException) -> str:
    """Return the innermost function that the SDK called on the way to where it was raised."""
    frames = _frames(error)
    for (caller, _), (called, where) in reversed([*pairwise(frames)]):
        if caller.partition(".")[0] in _SDK:
            return "" if called.partition(".")[0] in (*_SDK, *_LOOP) else where

    return ""


def _frames(error: BaseException) -> list[tuple[str, str]]:
    """Return the module and the place of each frame, outermost first."""
    return [
        (
            str(frame.f_globals.get("__name__", "")),
            f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{line})",
        )
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
