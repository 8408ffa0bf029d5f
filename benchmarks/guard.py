"""What the guard costs: outside of workflows, per activation, and per guarded call.

Outside, functions are what they always were, and a hook is called for each audit event.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import timeit
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from durable_core.adapter import outside
from durable_core.engine import _guard, _loop

USES: dict[str, Callable[[], Any]] = {
    "time.time()": lambda: time.time(),  # noqa: PLW0108  # looked up at each call, as users do
    "random.random()": lambda: random.random(),  # noqa: PLW0108
    "os.urandom(16)": lambda: os.urandom(16),
    "id(x)": lambda: id(sys),
    "open(path)": lambda: open(os.devnull, "rb").close(),  # noqa: PTH123
}


class _Owner:
    def timer_started(self, handle: _loop.Timer) -> None: ...

    def timer_cancelled(self, handle: _loop.Timer) -> None: ...

    def broken_from_outside(self) -> None: ...


def nanoseconds(use: Callable[[], Any], number: int = 20_000) -> int:
    """Return the nanoseconds of a call, the least of several tries."""
    return round(min(timeit.repeat(use, number=number, repeat=9)) / number * 1e9)


def entering(loop: _loop.WorkflowLoop) -> Callable[[], None]:
    """Return what begins and ends an activation in which nothing happens."""

    def enter() -> None:
        with loop.entered(1.0, "seed", 1):
            pass

    return enter


def all_of(number: int) -> dict[str, int]:
    """Measure the functions that the guard is about."""
    return {name: nanoseconds(use, number) for name, use in USES.items()}


def main() -> int:
    """Print the figures in nanoseconds as one line of JSON."""
    figures = {"before": all_of(20_000)}
    loop = _loop.new_loop(_Owner(), None, 1)
    enter = entering(loop)
    enter()
    figures["outside"] = all_of(20_000)
    with loop.entered(1.0, "seed", 1):
        figures["inside"] = all_of(2_000)
        thread = threading.Thread(target=lambda: figures.update({"another thread": all_of(2_000)}))
        outside(thread.start)
        thread.join()

    guarded = nanoseconds(enter)
    with patch.multiple(_guard, enter=lambda *_: None, leave=lambda *_: None):
        figures["activation"] = {"guarded": guarded, "bare": nanoseconds(enter)}

    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
