"""Runs that are to be activated: all of one pass of the event loop in one go."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from functools import partial

from durable_core.engine import held

__all__ = ["Activations"]


class Activations:
    """What one worker is to activate next. Belongs to the worker's event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready = deque[Callable[[], None]]()
        self._called = False

    def soon(self, activate: Callable[[], None]) -> None:
        """Call something in the next pass of the loop, after what was asked for before."""
        # In the context of who asks, as `call_soon` has it, and not in that of the first of all.
        self._ready.append(partial(contextvars.copy_context().run, activate))
        self._call()

    def _call(self) -> None:
        if self._ready and not self._called:
            self._called = True
            self._loop.call_soon(self._go)

    def _go(self) -> None:
        # What they ask for in turn is for another pass, which bodies and commits come before.
        number = len(self._ready)
        try:
            with held():
                for _ in range(number):
                    self._ready.popleft()()
        finally:
            # Also after what ends the program, which somebody may have caught.
            self._called = False
            self._call()
