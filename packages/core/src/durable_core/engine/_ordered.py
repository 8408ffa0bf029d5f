"""What asyncio and anyio do by address, or differently from one Python to the next, made alike.

Sets of futures iterate in the order of their hashes. Those of the loop's own futures and tasks are
numbers of their run; here are the two classes that a loop does not make itself. Everything is
replaced once and for all, and does what it did outside of workflow code.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

__all__ = ["install", "redelivers"]

_ANYIO = "anyio._backends._asyncio"
# By address, with a reference that takes the entry away together with its object.
_hashes: dict[int, tuple[int, weakref.ref[Any]]] = {}
_installed: set[str] = set()


def install(loop_type: type[Any]) -> None:
    """Replace what there is to replace; anyio's part as soon as somebody has imported anyio."""
    if "asyncio" not in _installed:
        _installed.add("asyncio")
        _replace("as_completed", _as_completed(asyncio.as_completed, loop_type))
        if sys.version_info < (3, 12):
            _replace("wait_for", _wait_for(asyncio.wait_for, loop_type))

        gathering: Any = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]
        _number(gathering, loop_type, loop_type.next_hash)

    if "anyio" not in _installed and _ANYIO in sys.modules:
        _installed.add("anyio")
        _number(sys.modules[_ANYIO].CancelScope, loop_type, loop_type.next_scope)


def redelivers(handle: asyncio.Handle) -> bool:
    """Return whether a callback only repeats a cancellation of anyio's.

    It does so until the cancelled task has ended, which may take until another activation.
    """
    callback: Any = getattr(handle, "_callback", None)
    return getattr(callback, "__name__", "") == "_deliver_cancellation"


def _replace(name: str, function: Callable[..., Any]) -> None:
    setattr(asyncio, name, function)
    setattr(asyncio.tasks, name, function)


def _number(cls: Any, loop_type: type[Any], draw: Callable[[Any], int]) -> None:
    """Let objects that workflow code makes from now on hash by a number of their run.

    What was made before, or elsewhere, may be in a set already and keeps its hash.
    """
    init = cls.__init__

    @functools.wraps(init)
    def numbered(self: object, *args: Any, **kwargs: Any) -> None:
        loop: Any = asyncio._get_running_loop()
        if isinstance(loop, loop_type):
            address = id(self)
            reference = weakref.ref(self, lambda _: _hashes.pop(address, None))
            _hashes[address] = (draw(loop), reference)

        init(self, *args, **kwargs)

    def number(self: object) -> int:
        known = _hashes.get(id(self))
        return object.__hash__(self) if known is None else known[0]

    cls.__init__ = numbered
    cls.__hash__ = number


def _as_completed(original: Callable[..., Any], loop_type: type[Any]) -> Any:
    """Start coroutines in their order, not in that of their addresses."""

    @functools.wraps(original)
    def as_completed(fs: Iterable[Awaitable[Any]], *, timeout: float | None = None) -> Any:
        if isinstance(asyncio._get_running_loop(), loop_type) and not asyncio.isfuture(fs):
            # Each once, as a set would have it; sets of coroutines have no order of their own.
            fs = [asyncio.ensure_future(f) for f in dict.fromkeys(fs)]

        return original(fs, timeout=timeout)

    return as_completed


def _wait_for(original: Callable[..., Any], loop_type: type[Any]) -> Any:
    """Run what is waited for in the waiting task, as from Python 3.12 on (ENGINE R13)."""

    async def in_workflow(fut: Awaitable[Any], timeout: float | None) -> Any:
        if timeout is not None and timeout <= 0:
            future = asyncio.ensure_future(fut)
            if future.done():
                return future.result()

            future.cancel()
            await asyncio.wait([future])
            try:
                return future.result()
            except asyncio.CancelledError as error:
                raise TimeoutError from error

        async with asyncio.timeout(timeout):
            return await fut

    @functools.wraps(original)
    def wait_for(fut: Awaitable[Any], timeout: float | None) -> Any:
        inside = isinstance(asyncio._get_running_loop(), loop_type)
        return (in_workflow if inside else original)(fut, timeout)

    return wait_for
