"""An activity under way, over its attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from durable_core.history import Attempt, PendingActivity

if TYPE_CHECKING:
    from durable_core._clock import Clock
    from durable_core.engine import Pending

    from ._outbox import ActivityStreams
    from ._pulse import Pulse

__all__ = ["Job"]


class Job(msgspec.Struct):
    """An activity under way.

    Attributes:
        pending: The activity.
        body: Its callable.
        fence: Of the ownership under which it runs.
        attempts: Those that ended.
        retry_at: Before this time no attempt starts.
        started: When the attempt under way began, if one is.
        began: When the latest attempt began: just before the look at the lease that let its body
            start.
        committed: Whether it is durable that the attempt under way began, or about to be.
        details: JSON array of what its latest heartbeat said.
        pulse: Listens to the attempt under way.
        held: Whether no further attempt begins, whatever the time.
        rests: Ends when it is to look again whether an attempt may begin; None while one is under
            way, or about to be.
        when_resting: Called when it begins to rest.
        streams: What it writes to streams by.
    """

    pending: Pending
    body: Callable[..., Any]
    fence: int
    attempts: tuple[Attempt, ...] = ()
    retry_at: float = 0.0
    started: float | None = None
    began: float = 0.0
    committed: bool = False
    details: bytes = b""
    pulse: Pulse | None = None
    held: bool = False
    rests: asyncio.Future[None] | None = None
    when_resting: Callable[[], None] | None = None
    streams: ActivityStreams | None = None

    @property
    def once(self) -> bool:
        """Whether its body may begin at most once."""
        return self.pending.unit.options.delivery == "at_most_once"

    @property
    def state(self) -> PendingActivity:
        """What is to be known of it if the process dies."""
        return PendingActivity(
            seq=self.pending.seq,
            attempts=self.attempts,
            retry_at=self.retry_at,
            began=self.began if self.committed else None,
            details=self.details,
            streams=() if self.streams is None else tuple(sorted(self.streams.names)),
        )

    @property
    def what(self) -> str:
        """The activity, for messages."""
        return f"activity {self.pending.unit.name!r}"

    @property
    def deadline(self) -> float | None:
        """When the schedule-to-close timeout expires, in seconds since the epoch."""
        limit = self.pending.unit.options.schedule_to_close_timeout
        return None if limit is None else self.pending.scheduled_time + limit

    async def rest(self, clock: Clock) -> None:
        """Return when the next attempt may begin."""
        while self.held or self.retry_at > clock.now():
            self.rests = asyncio.get_running_loop().create_future()
            alarm = None if self.held else clock.call_at(self.retry_at, self.look_again)
            if self.when_resting is not None:
                self.when_resting()

            try:
                await self.rests
            finally:
                self.rests = None
                if alarm is not None:
                    alarm.cancel()

    def look_again(self) -> None:
        """Let it see, if it rests, whether an attempt may begin now."""
        if self.rests is not None and not self.rests.done():
            self.rests.set_result(None)

    def hold(self) -> None:
        """Let no further attempt begin."""
        self.held = True
        self.look_again()

    def retry_now(self, now: float) -> None:
        """Let the next attempt begin at once, if one is waited for."""
        if self.rests is not None:
            self.retry_at = min(self.retry_at, now)
            self.look_again()
