"""Waiting for a condition, with a deadline and no fixed pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_PAUSE = 0.002


def until(condition: Callable[[], object], what: str, *, timeout: float = 20.0) -> None:
    """Return as soon as a condition holds; fail the test if it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain for {what}"
        time.sleep(_PAUSE)


async def eventually(condition: Callable[[], object], what: str, *, timeout: float = 20.0) -> None:
    """As `until`, without blocking the event loop."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain for {what}"
        await asyncio.sleep(_PAUSE)
