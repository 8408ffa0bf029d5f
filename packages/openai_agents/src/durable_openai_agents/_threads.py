"""Threads of sync tools, which nobody waits for when the program ends.

The SDK calls a sync tool by `asyncio.to_thread`. Both the end of `asyncio.run` and that of the
interpreter wait for such a thread, so that Ctrl-C would take as long as the tool. Tools of a
durable run have daemons instead; one that is cut off is a lost attempt, as after a crash.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from durable_core import activity

__all__ = ["AsyncioOfTools"]


class AsyncioOfTools:
    """The module ``asyncio``, with another ``to_thread`` in the bodies of recorded calls."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def to_thread(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in a thread of its own, in a copy of the context."""
        if not activity.in_activity():
            return await asyncio.to_thread(function, *args, **kwargs)

        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def work() -> None:
            result, error = None, None
            try:
                result = context.run(function, *args, **kwargs)
            except BaseException as raised:  # noqa: BLE001  # raised where it is awaited
                error = raised

            with suppress(RuntimeError):  # the loop ended meanwhile: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, result, error)

        threading.Thread(target=work, name="durable-tool", daemon=True).start()
        return await future


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return

    if isinstance(error, StopIteration):  # which a future cannot carry
        future.set_exception(RuntimeError(f"the function raised StopIteration: {error}"))
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
