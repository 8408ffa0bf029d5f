"""Closing what is left of a run that is dropped from memory: its tasks and generators."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

__all__ = ["close_generator", "close_task"]

_STEPS_OF_GENERATORS = {"async_generator_asend", "async_generator_athrow"}
# Of `anext` with a default, and of an `__await__` that returns that of a coroutine.
_WRAPPERS = {"anext_awaitable", "coroutine_wrapper"}
_CLOSINGS = 1000  # a coroutine that has not ended then never will


def close_task(task: Any) -> None:
    """Close the coroutine of a task, over every `await` of its cleanup. Never raises."""
    _as_task(task, _close, task.get_coro())


def close_generator(task: Any, generator: Any) -> None:
    """Close an asynchronous generator, in the task that began it if there was one. Never raises."""
    _as_task(task, _close_generator, generator)


def _close(closed: Any) -> None:
    """Close a coroutine or a step of a generator; whatever its cleanup raises, it is dropped.

    From the inside out: closed from the outside, one whose `finally` block waits for something is
    let go in the middle of that block.
    """
    ended: list[Any] = []  # steps, which do not tell it themselves
    for _ in range(_CLOSINGS):
        inner = _innermost(closed, ended)
        is_step = type(inner).__name__ in _STEPS_OF_GENERATORS
        goes_on = False
        with contextlib.suppress(BaseException):
            if is_step:
                inner.throw(GeneratorExit)
                goes_on = True
            else:
                inner.close()

        if is_step and not goes_on:
            ended.append(inner)

        if inner is closed and not goes_on and getattr(closed, "cr_frame", None) is None:
            return


def _close_generator(generator: Any) -> None:
    closing = generator.aclose()
    with contextlib.suppress(BaseException):
        closing.send(None)
        # Its cleanup waits for something.
        _close(closing)


def _as_task(task: Any, function: Callable[[Any], None], closed: Any) -> None:
    """Close something as its task: `finally` blocks may ask for it, and hold tokens of its context.

    A timeout, for one, can only be entered in a task.
    """
    if task is None:
        function(closed)
        return

    loop = task.get_loop()
    running = asyncio.current_task(loop)
    if running is not None:
        asyncio.tasks._leave_task(loop, running)

    asyncio.tasks._enter_task(loop, task)
    try:
        # One that is itself running, and whose context is entered therefore, cannot be closed.
        with contextlib.suppress(RuntimeError):
            task.get_context().run(function, closed)
    finally:
        asyncio.tasks._leave_task(loop, task)
        if running is not None:
            asyncio.tasks._enter_task(loop, running)


def _innermost(closed: Any, ended: list[Any]) -> Any:
    """Return what a coroutine waits for in the end, of what has not ended.

    That is a coroutine, a generator, or a step of an asynchronous generator: closing that from the
    outside would leave the generator suspended for ever.
    """
    found: Any = closed
    waits_for: Any = closed
    while not any(step is waits_for for step in ended):
        kind: type[Any] = type(waits_for)
        if kind is CoroutineType:
            frame, inner = waits_for.cr_frame, waits_for.cr_await
        elif kind is GeneratorType:
            frame, inner = waits_for.gi_frame, waits_for.gi_yieldfrom
        elif kind.__name__ in _STEPS_OF_GENERATORS:
            referents = gc.get_referents(waits_for)
            generator = next(r for r in referents if isinstance(r, AsyncGeneratorType))
            frame, inner = generator.ag_frame, generator.ag_await
        elif kind.__name__ in _WRAPPERS:
            waits_for = gc.get_referents(waits_for)[0]
            continue
        else:
            break

        if frame is None:
            break

        found, waits_for = waits_for, inner

    return found
