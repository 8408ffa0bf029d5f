"""Closing what is left of a run that is dropped from memory: its tasks and generators."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType
from typing import Any

__all__ = ["close_generator", "close_task"]

_STEPS_OF_GENERATORS = ("async_generator_asend", "async_generator_athrow")
_CLOSINGS = 1000  # a coroutine that has not ended then never will


def close_task(task: Any) -> None:
    """Close the coroutine of a task, over every `await` of its cleanup. Never raises."""
    _as_task(task, _close, task.get_coro())


def close_generator(task: Any, generator: Any) -> None:
    """Close an asynchronous generator, in the task that began it if there was one. Never raises."""
    _as_task(task, _close_generator, generator)


def _close(coro: Any) -> None:
    """Close a coroutine; whatever its cleanup raises, it is dropped.

    From the inside out: closed from the outside, one whose `finally` block waits for something is
    let go in the middle of that block.
    """
    for _ in range(_CLOSINGS):
        inner = _innermost(coro)
        with contextlib.suppress(BaseException):
            if isinstance(inner, CoroutineType):
                inner.close()
            else:
                inner.throw(GeneratorExit)

        if inner is coro and getattr(coro, "cr_frame", None) is None:
            return


def _close_generator(generator: Any) -> None:
    closing = generator.aclose()
    with contextlib.suppress(BaseException):
        closing.send(None)

    closing.close()


def _as_task(task: Any, function: Callable[[Any], None], closed: Any) -> None:
    """Close something as its task: `finally` blocks may ask for it, and hold tokens of its context.

    A timeout, for one, can only be entered in a task.
    """
    if task is None:
        function(closed)
        return

    asyncio.tasks._enter_task(task.get_loop(), task)
    try:
        task.get_context().run(function, closed)
    finally:
        asyncio.tasks._leave_task(task.get_loop(), task)


def _innermost(coro: Any) -> Any:
    """Return what a coroutine waits for in the end, of what has not ended.

    That is a coroutine, or a step of an asynchronous generator: closing that from the outside would
    leave the generator suspended for ever.
    """
    found = waits_for = coro
    while True:
        if isinstance(waits_for, CoroutineType) and waits_for.cr_frame is not None:
            found, waits_for = waits_for, waits_for.cr_await
        elif type(waits_for).__name__ in _STEPS_OF_GENERATORS:
            referents = gc.get_referents(waits_for)
            generator = next(r for r in referents if isinstance(r, AsyncGeneratorType))
            if generator.ag_frame is None:
                return found

            found, waits_for = waits_for, generator.ag_await
        else:
            return found
