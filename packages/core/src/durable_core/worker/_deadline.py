"""A time limit for one attempt: `asyncio.timeout`, which every attempt would wait 10 us for."""

from __future__ import annotations

import asyncio

__all__ = ["Deadline"]


class Deadline:
    """Raises `TimeoutError` in the task that entered it, as `asyncio.timeout` does.

    Args:
        seconds: From entering on; None is no limit.

    Attributes:
        expired: Whether it did, or tried to: the task may have answered with something else.
    """

    __slots__ = ("_cancelling", "_handle", "_seconds", "_task", "expired")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None
        self.expired = False

    def __enter__(self) -> None:
        if self._seconds is None:
            return

        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._handle = task.get_loop().call_later(self._seconds, self._fire)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if self._handle is None:
            return

        self._handle.cancel()
        if not self.expired:
            return

        # Somebody else may have cancelled the task as well, which comes first.
        alone = self._task.uncancel() <= self._cancelling
        if alone and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def _fire(self) -> None:
        self.expired = True
        self._task.cancel()
