"""The futures of activities and children, and what cancelling them means (ENGINE R27)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

from durable_core import exceptions as ex

from ._loop import WorkflowFuture, WorkflowLoop

if TYPE_CHECKING:
    from durable_core.adapter import Unit

__all__ = ["ActivityFuture", "OutcomeFuture"]


class OutcomeFuture(WorkflowFuture):
    """The outcome of something that goes on outside the run.

    Cancelling the task that awaits it lets `asyncio.CancelledError` out of the await at once, so
    that `asyncio.timeout` and cancel scopes behave as everywhere. Cancelling the future itself,
    from another task, raises `cancelled_error` at whoever awaits it. If it ``waits``, either one
    waits for the outcome instead.
    """

    def __init__(self, *, loop: WorkflowLoop, seq: int, waits: bool) -> None:
        super().__init__(loop=loop)
        self.seq = seq
        self.waits = waits
        self.cancel_sent = False
        # What fails unobserved is in the history; asyncio's warning would come at a moment that the
        # garbage collector chooses.
        self._log_traceback = False

    def set_exception(self, exception: type | BaseException) -> None:
        """Fail the future, without asyncio's warning if nobody looks."""
        super().set_exception(exception)
        self._log_traceback = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Ask for the end of what goes on; return False if its outcome is known already."""
        if self.done():
            return False

        if not self.cancel_sent:
            self.cancel_sent = True
            self.withdraw(msg)

        return True if self.waits else super().cancel(msg)

    def withdraw(self, msg: Any | None) -> None:
        """Ask for its end, once."""
        raise NotImplementedError

    def cancelled_error(self) -> ex.FailureError:
        """Return what awaiting raises when it was cancelled by somebody else."""
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from super().__await__())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling() or not self.cancelled():
                raise

            # Not "from None", which would drop the cause that says what happened.
            error = self.cancelled_error()
            raise error from error.__cause__

    __iter__ = __await__


class _Owner(Protocol):
    def cancel_activity(self, future: ActivityFuture) -> None: ...


class ActivityFuture(OutcomeFuture):
    """The outcome of one activity; with ``abandon`` cancelling it leaves the body alone."""

    def __init__(self, *, loop: WorkflowLoop, owner: _Owner, seq: int, unit: Unit) -> None:
        waits = unit.options.cancellation == "wait_cancellation_completed"
        super().__init__(loop=loop, seq=seq, waits=waits)
        self.abandons = unit.options.cancellation == "abandon"
        self._owner = owner
        self._unit = unit

    def withdraw(self, msg: Any | None) -> None:  # noqa: ARG002  # bodies are given no reason
        """Ask for the activity's cancellation."""
        self._owner.cancel_activity(self)

    def cancelled_error(self) -> ex.ActivityError:
        """Return what awaiting raises when the activity was cancelled by somebody else."""
        error = ex.ActivityError(
            f"activity {self._unit.name!r} was cancelled",
            activity_type=self._unit.name,
            activity_id=str(self.seq),
            attempts=0,
            retry_state=ex.RetryState.CANCEL_REQUESTED,
        )
        error.__cause__ = ex.CancelledError(f"activity {self._unit.name!r} was cancelled")
        return error
