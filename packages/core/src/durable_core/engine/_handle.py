"""The future of an activity, and what cancelling it means (ENGINE R27)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

from durable_core import exceptions as ex

from ._loop import WorkflowFuture, WorkflowLoop

if TYPE_CHECKING:
    from durable_core.adapter import Unit

__all__ = ["ActivityFuture"]


class _Owner(Protocol):
    def cancel_activity(self, future: ActivityFuture) -> None: ...


class ActivityFuture(WorkflowFuture):
    """The outcome of one activity.

    Cancelling the task that awaits it lets `asyncio.CancelledError` out of the await at once, so
    that `asyncio.timeout` and cancel scopes behave as everywhere. Cancelling the future itself,
    from another task, raises `ActivityError` with a `CancelledError` as cause at whoever awaits
    it. With ``wait_cancellation_completed`` either one waits for the outcome instead; with
    ``abandon`` the body is left alone.
    """

    def __init__(self, *, loop: WorkflowLoop, owner: _Owner, seq: int, unit: Unit) -> None:
        super().__init__(loop=loop)
        self.seq = seq
        self.waits = unit.options.cancellation == "wait_cancellation_completed"
        self.abandons = unit.options.cancellation == "abandon"
        self.cancel_sent = False
        self._owner = owner
        self._unit = unit
        # An activity that fails unobserved is in the history; asyncio's warning would come at a
        # moment that the garbage collector chooses.
        self._log_traceback = False

    def set_exception(self, exception: type | BaseException) -> None:
        """Fail the future, without asyncio's warning if nobody looks."""
        super().set_exception(exception)
        self._log_traceback = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Ask for the activity's cancellation; return False if its outcome is known already."""
        if self.done():
            return False

        if not self.cancel_sent:
            self.cancel_sent = True
            self._owner.cancel_activity(self)

        return True if self.waits else super().cancel(msg)

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
