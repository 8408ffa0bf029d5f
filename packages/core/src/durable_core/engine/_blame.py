"""Which failures of recorded calls an exception of workflow code comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["culprits", "is_of"]

Delivered = Iterable[tuple[BaseException, int]]
"""Failures that were handed to workflow code, with the numbers of their activities."""


def is_of(error: BaseException, delivered: Delivered) -> bool:
    """Return whether an exception is a failure of an activity, or was raised from one.

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


def culprits(error: BaseException, delivered: Delivered) -> Iterator[int]:
    """Yield the activities whose failures an exception came from: the nearest on each branch."""
    seen: BaseException | None = error
    for _ in range(100):  # a chain may be a ring
        if seen is None:
            return

        if isinstance(seen, BaseExceptionGroup):
            for part in seen.exceptions:
                yield from culprits(part, delivered)

            return

        found = [seq for failure, seq in delivered if failure is seen]
        if found:
            yield found[0]
            return

        seen = seen.__cause__ or seen.__context__
