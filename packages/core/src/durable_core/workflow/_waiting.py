"""Waiting for several: asyncio's functions, with lists where those have sets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Iterator

__all__ = ["as_completed", "wait"]

R = TypeVar("R")
F = TypeVar("F", bound=asyncio.Future[Any])


def as_completed(
    fs: Iterable[Awaitable[R]], *, timeout: float | None = None
) -> Iterator[Awaitable[R]]:
    """Yield awaitables in the order in which they end; coroutines are started in their order.

    ``asyncio.as_completed`` is the same inside workflow code, unless its name was imported before
    the first workflow ran.

    Args:
        fs: Coroutines, tasks or activity handles.
        timeout: Seconds, by a recorded timer, after which those that have not ended raise
            `TimeoutError`; None waits for ever.
    """
    return iter(asyncio.as_completed([asyncio.ensure_future(f) for f in fs], timeout=timeout))


async def wait(
    fs: Iterable[F],
    *,
    timeout: float | None = None,
    return_when: str = asyncio.ALL_COMPLETED,
) -> tuple[list[F], list[F]]:
    """Wait as ``asyncio.wait`` does, and return lists, each in the order of ``fs``.

    Args:
        fs: Tasks or activity handles.
        timeout: Seconds, by a recorded timer; None waits for ever.
        return_when: ``asyncio.FIRST_COMPLETED``, ``FIRST_EXCEPTION`` or ``ALL_COMPLETED``.

    Returns:
        What has ended, and what has not.

    Raises:
        ValueError: There is nothing to wait for, or ``return_when`` is something else.
        TypeError: One is a coroutine: make a task of it.
    """
    waited = list(dict.fromkeys(fs))
    done, pending = await asyncio.wait(waited, timeout=timeout, return_when=return_when)
    return [f for f in waited if f in done], [f for f in waited if f in pending]
