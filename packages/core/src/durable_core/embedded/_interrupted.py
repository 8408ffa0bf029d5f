"""The last line on stderr of a process that ends in the middle of a run: how the run continues.

Ctrl-C, SIGTERM and the end of an event loop interrupt a run and never cancel it: nothing is
recorded of them, and the same call continues it. A notebook, whose process goes on, says the line
below the cell that was interrupted.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

__all__ = ["cell_stopped", "forget", "interrupting", "note", "say", "watched"]

_open: dict[str, bool] = {}  # runs under way in this process, and whether their users named them
_interrupted: dict[str, bool] = {}


@contextmanager
def watched(workflow_id: str, *, named: bool) -> Generator[None]:
    """Let a SIGTERM that would end the process say how a run continues, while it is under way."""
    _open[workflow_id] = named
    _interrupted.pop(workflow_id, None)
    _watch()
    try:
        yield
    finally:
        _open.pop(workflow_id, None)
        if not _open:
            _unwatch()


def note(workflow_id: str, *, named: bool) -> None:
    """Remember that a run was interrupted; said when the process ends, unless it went on."""
    _interrupted[workflow_id] = named


def forget(workflow_id: str) -> None:
    """Say nothing of a run that goes on without its caller."""
    _interrupted.pop(workflow_id, None)


def interrupting() -> bool:
    """Return whether the running loop is being ended, by Ctrl-C in particular.

    A task cannot tell otherwise why it is cancelled.
    """
    # What `asyncio.Runner`, and so `asyncio.run`, does on Ctrl-C: it counts, and cancels the task.
    handler = getattr(signal.getsignal(signal.SIGINT), "func", None)
    runner: Any = getattr(handler, "__self__", None)
    return isinstance(runner, asyncio.Runner) and getattr(runner, "_interrupt_count", 0) > 0


def cell_stopped() -> bool:
    """Return whether somebody interrupts the cell of a notebook whose code is being cancelled.

    The kernel cancels the task of the cell then, and goes on with its loop.
    """
    # `IPythonKernel._cancel_on_sigint`, of all versions of ipykernel with top-level `await`.
    handler = signal.getsignal(signal.SIGINT)
    names = getattr(getattr(handler, "__code__", None), "co_freevars", ())
    if getattr(handler, "__module__", "") != "ipykernel.ipkernel" or "sigint_future" not in names:
        return False

    cell: Any = getattr(handler, "__closure__", ())[names.index("sigint_future")]
    pressed: asyncio.Future[Any] = cell.cell_contents
    return pressed.done() and not pressed.cancelled()


def say(workflow_id: str, *, named: bool) -> None:
    """Say how a run continues, on stderr."""
    with suppress(OSError, ValueError):  # a stream that is closed
        sys.stderr.write(_line(workflow_id, named=named))


def _line(workflow_id: str, *, named: bool) -> str:
    if named:
        how = "the same call continues it"
    else:
        how = f"it had no workflow_id, so give workflow_id={workflow_id!r} to continue it"

    return (
        f"durable: run {workflow_id!r} was interrupted and is kept; {how}. See: durable show "
        f"{workflow_id}\n"
    )


@atexit.register
def _say_last() -> None:
    for workflow_id, named in _interrupted.items():
        say(workflow_id, named=named)


def _after_in_child() -> None:
    """Say nothing of the parent's runs."""
    _open.clear()
    _interrupted.clear()


os.register_at_fork(after_in_child=_after_in_child)


def _watch() -> None:
    """Take SIGTERM over if it would end the process without a word."""
    if threading.current_thread() is not threading.main_thread():
        return

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _unwatch() -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    if signal.getsignal(signal.SIGTERM) is _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminated(number: int, _: FrameType | None) -> None:
    for workflow_id, named in {**_interrupted, **_open}.items():
        with suppress(OSError, ValueError):
            os.write(2, _line(workflow_id, named=named).encode())

    # As if nobody had taken it over: whoever waits for the process sees the signal.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
