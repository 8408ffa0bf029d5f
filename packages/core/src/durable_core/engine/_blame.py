"""What exceptions of workflow code come from: a recorded call that failed, or a bug."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator

from durable_core.exceptions import ActivityError, CancelledError, ChildWorkflowError, FailureError
from durable_core.workflow._continuing import ContinueAsNewError

__all__ = ["Blame", "is_of"]

Delivered = Iterable[tuple[BaseException, int]]
"""Failures that were handed to workflow code, with the numbers of their commands."""

_REMEMBERED = 256


class Blame:
    """Judges the exceptions of one run.

    Args:
        declared: Classes that fail the run instead of stalling it, beside our own.
    """

    def __init__(self, declared: Iterable[type[BaseException]]) -> None:
        self._failing = (FailureError, asyncio.TimeoutError, ContinueAsNewError, *declared)
        self._delivered = deque[tuple[BaseException, int]](maxlen=_REMEMBERED)

    def deliver(self, failure: BaseException, seq: int) -> None:
        """Note a failure that is handed to workflow code, of the command of this number."""
        self._delivered.append((failure, seq))

    def fails(self, error: BaseException) -> bool:
        """Return whether what code raised fails its run instead of stalling it.

        What is declared does, and what a recorded call failed with: mended code would only meet it
        again, while a run that failed is taken up before it.
        """
        if isinstance(error, self._failing) or is_of(error, self._delivered):
            return True

        if isinstance(error, BaseExceptionGroup):
            # Of a task group: it fails the run if all that is in it would.
            return all(self.fails(part) for part in error.exceptions)

        return False

    def culprits(self, error: BaseException) -> tuple[int, ...]:
        """Return the numbers of the commands whose failures an exception came from."""
        return tuple(sorted(set(_culprits(error, self._delivered))))

    @staticmethod
    def says_cancelled(error: BaseException) -> bool:
        """Return whether a failure says that something was cancelled."""
        wraps = isinstance(error, ActivityError | ChildWorkflowError)
        return isinstance(error.__cause__ if wraps else error, CancelledError)


def is_of(error: BaseException, delivered: Delivered) -> bool:
    """Return whether an exception is a failure of a call, or was raised from one.

    Not merely while one was handled: that is a bug of the code that handles it.
    """
    seen: BaseException | None = error
    for _ in range(100):  # a chain may be a ring
        if seen is None:
            return False

        if any(failure is seen for failure, _ in delivered):
            return True

        seen = seen.__cause__

    return False


def _culprits(error: BaseException, delivered: Delivered) -> Iterator[int]:
    """Yield the calls whose failures an exception came from: the nearest on each branch."""
    seen: BaseException | None = error
    for _ in range(100):  # a chain may be a ring
        if seen is None:
            return

        if isinstance(seen, BaseExceptionGroup):
            for part in seen.exceptions:
                yield from _culprits(part, delivered)

            return

        found = [seq for failure, seq in delivered if failure is seen]
        if found:
            yield found[0]
            return

        seen = seen.__cause__ or seen.__context__
