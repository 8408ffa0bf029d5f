"""What one run has going on outside its code: bodies that run, and alarms of its timers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from durable_core import _defaults
from durable_core import exceptions as ex
from durable_core.history import (
    ActivityFailed,
    Attempt,
    CancelActivity,
    CancelTimer,
    Command,
    PendingActivity,
    RetryAsked,
    ScheduleActivity,
    StartTimer,
)
from durable_core.stores import Outcome

from ._arrived import LostRunError
from ._bodies import exhausted
from ._job import Job
from ._outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from durable_core._clock import Alarm, Clock
    from durable_core.engine import Pending
    from durable_core.history import Event, Start

    from ._bodies import Bodies
    from ._host import Registered

__all__ = ["Work"]


class Work:
    """The bodies and alarms of one run that a worker owns. Belongs to the worker's event loop.

    Args:
        start: Of the run.
        fence: Of the ownership.
        bodies: Runs them.
        host: Knows activities by name.
        clock: Says when a timer is due.
        deliver: Takes an outcome.
        fire: Takes the number of a timer that is due.
        remember: Makes what is known of an activity durable.
        wanted: Says whether the run waits for an activity.
        broken: Takes what keeps an outcome from being known.
        interrupted: Called when a body ended with SystemExit or Ctrl-C, if its loop goes on.
        resting: Called when an activity begins to wait for its next attempt.
        flush: Hands chunks of streams to the store.

    Attributes:
        outbox: What is written to streams.
    """

    def __init__(
        self,
        *,
        start: Start,
        fence: int,
        bodies: Bodies,
        host: Registered,
        clock: Clock,
        deliver: Callable[[Event], None],
        fire: Callable[[int], None],
        remember: Callable[[Pending, PendingActivity], Awaitable[Outcome]],
        wanted: Callable[[int], bool],
        broken: Callable[[BaseException], None],
        interrupted: Callable[[], None],
        resting: Callable[[], None],
        flush: Callable[[], asyncio.Future[Outcome]],
    ) -> None:
        self._start = start
        self._fence = fence
        self._bodies = bodies
        self._host = host
        self._clock = clock
        self._deliver = deliver
        self._fire = fire
        self._remember = remember
        self._wanted = wanted
        self._broken = broken
        self._interrupted = interrupted
        self._resting = resting
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._jobs: dict[int, Job] = {}
        self._alarms: dict[int, Alarm] = {}
        self._dues: dict[int, float] = {}
        self._withdrawn: set[int] = set()
        self.outbox = Outbox(
            run_id=start.run_id,
            fence=fence,
            clock=clock,
            flush=flush,
            state_of=self._state_of,
            broken=broken,
        )

    def begin(self, command: Command, pending: Mapping[int, Pending]) -> None:
        """Do what a command that is durable asks for, if it is a matter of bodies and alarms.

        Args:
            command: Of a run that goes on.
            pending: Activities without an outcome, by command number.
        """
        match command:
            case ScheduleActivity():
                if (wanted := pending.get(command.seq)) is not None:
                    self.start_body(wanted, PendingActivity(seq=command.seq))
            case StartTimer():
                self.set_alarm(command.seq, command.due)
            case CancelTimer():
                self.cancel_alarm(command.seq)
            case CancelActivity() if not command.abandon:
                self.withdraw(command.seq)
            case _:
                pass

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of bodies that run or wait for their next attempt."""
        return list(self._tasks.values())

    @property
    def executing(self) -> bool:
        """Whether a body runs, or is about to."""
        return any(job.rests is None for job in self._jobs.values())

    @property
    def backs_off(self) -> bool:
        """Whether an activity waits for a next attempt that is not soon."""
        soon = self._clock.now() + _defaults.EVICT_AFTER
        return any(job.retry_at > soon for job in self._jobs.values())

    def next_due(self) -> float | None:
        """Return when the first timer or the next attempt is due; None if nothing is waited for."""
        dues = [self._dues[seq] for seq in self._alarms]
        dues += [job.retry_at for job in self._jobs.values()]
        return min(dues, default=None)

    def cut_off(
        self, now: float, outcome: Literal["lost", "cancelled"]
    ) -> list[tuple[Pending, PendingActivity]]:
        """Return what is to be known of the activities whose bodies are about to be ended.

        What they wrote to streams is void from now on, and no more of it is taken.

        Args:
            now: Seconds since the epoch.
            outcome: How the attempts end that are under way.
        """
        found: list[tuple[Pending, PendingActivity]] = []
        self.outbox.close()
        for job in self._jobs.values():
            if job.streams is not None and self._wanted(job.pending.seq):
                job.streams.void()

            attempts = job.attempts
            if job.started is not None:
                ended = Attempt(
                    number=len(attempts) + 1,
                    outcome=outcome,
                    started=job.started,
                    ended=now,
                    fence=self._fence,
                )
                attempts = (*attempts, ended)

            if attempts or job.details:
                found.append((job.pending, replace(job.state, attempts=attempts)))

        return found

    def start_body(self, pending: Pending, known: PendingActivity) -> None:
        """Let the body of an activity run, after the attempts that there were.

        Args:
            pending: The activity.
            known: What earlier owners made of it.
        """
        unit, earlier = pending.unit, known.attempts
        if known.began is not None:
            unknown = ex.OutcomeUnknown(
                f"activity {unit.name!r} had begun when its worker died or was stopped, and it may "
                "happen at most once: whether it did is not known",
                non_retryable=True,
            )
            self._fail(pending, unknown, ex.RetryState.NON_RETRYABLE_FAILURE, earlier)
        elif earlier and earlier[-1].outcome == "lost" and exhausted(unit.options, earlier):
            error = ex.ApplicationError(
                f"activity {unit.name!r} was running when its worker died, and its retry policy "
                "allows no further attempt",
                type="AttemptLost",
            )
            self._fail(pending, error, ex.RetryState.MAXIMUM_ATTEMPTS_REACHED, earlier)
        elif pending.future.cancel_sent:
            # Withdrawn before it began, or before its worker died: nothing is left to wait for.
            self._deliver(self._bodies.cancelled(pending, earlier))
        else:
            body = unit.body if unit.body is not None else self._host.activity(unit.name).fn
            job = Job(
                pending,
                body,
                self._fence,
                attempts=earlier,
                retry_at=known.retry_at,
                details=known.details,
                when_resting=self._resting,
                streams=self.outbox.of(pending.seq),
            )
            self._jobs[pending.seq] = job
            coro = self._run_body(job)
            self._tasks[pending.seq] = self._loop.create_task(coro, context=pending.context)

    def _fail(
        self,
        pending: Pending,
        error: ex.ApplicationError,
        why: ex.RetryState,
        attempts: tuple[Attempt, ...],
    ) -> None:
        self._deliver(
            ActivityFailed(
                seq=pending.seq,
                failure=self._host.failures.record(error),
                retry_state=why,
                attempts=attempts,
            )
        )

    def hold(self) -> None:
        """Let no further attempt of any activity begin."""
        for job in self._jobs.values():
            job.hold()

    def sooner(self, events: Iterable[Event], now: float) -> list[tuple[Pending, PendingActivity]]:
        """Return what is known of activities whose next attempt is not to be waited for."""
        asked = {e.activity for e in events if isinstance(e, RetryAsked)}
        if not asked:
            return []

        jobs = (job for job in self._jobs.values() if job.rests is not None)
        return [
            (job.pending, replace(job.state, retry_at=min(job.retry_at, now)))
            for job in jobs
            if 0 in asked or job.pending.seq in asked
        ]

    def retry_now(self, seq: int) -> None:
        """Let the next attempt of an activity begin, if one is waited for; of all of them for 0."""
        for job in self._jobs.values():
            if seq in (0, job.pending.seq):
                job.retry_now(self._clock.now())

    def withdraw(self, seq: int) -> None:
        """Ask the body of an activity to end."""
        self._withdrawn.add(seq)
        if seq in self._tasks:
            self._ask_to_end(seq)

    def _ask_to_end(self, seq: int) -> None:
        job = self._jobs.get(seq)
        if job is not None and job.pulse is not None:
            # First, so that the body can tell its end from an exception of its own.
            job.pulse.cancel()

        self._tasks[seq].cancel()

    def abandon(self, seq: int) -> None:
        """Leave the body of an activity alone, also when the run ends."""
        self._jobs.pop(seq, None)
        task = self._tasks.pop(seq, None)
        if task is not None:
            self._bodies.adopt(task)

    def set_alarm(self, seq: int, due: float) -> None:
        """Let a timer fire at a time."""
        self._dues[seq] = due
        self._alarms[seq] = self._clock.call_at(due, self._ring, seq)

    def cancel_alarm(self, seq: int) -> None:
        """Forget a timer."""
        alarm = self._alarms.pop(seq, None)
        if alarm is not None:
            alarm.cancel()

    def due(self, seq: int) -> float:
        """Return when a timer that has fired was due, and forget it."""
        return self._dues.pop(seq, 0.0)

    def stop(self) -> None:
        """Cancel everything; what bodies still bring is dropped."""
        self.outbox.close()
        for alarm in self._alarms.values():
            alarm.cancel()

        for seq in list(self._tasks):
            self._ask_to_end(seq)

    def _state_of(self, seq: int) -> tuple[Pending, PendingActivity] | None:
        job = self._jobs.get(seq)
        return (job.pending, job.state) if job is not None and self._wanted(seq) else None

    def _ring(self, seq: int) -> None:
        self._alarms.pop(seq, None)
        self._fire(seq)

    async def _run_body(self, job: Job) -> None:
        pending, earlier = job.pending, job.attempts

        async def remember() -> None:
            if not self._wanted(pending.seq):
                # Withdrawn or abandoned: it has no row any more, and must get none.
                return

            if await self._remember(pending, job.state) is not Outcome.ACCEPTED:
                raise LostRunError(self._start.run_id)

        try:
            event = await self._bodies.run(self._start, job, remember)
        except asyncio.CancelledError:
            if pending.seq not in self._withdrawn:
                # The worker ends. The job stays, as for whatever else ends the process (SystemExit,
                # Ctrl-C): a run that is let go without it would wait for ever for its outcome.
                raise

            event = self._bodies.cancelled(pending, earlier)
        except (ex.StoreError, LostRunError) as error:
            self._broken(error)
            return
        except (KeyboardInterrupt, SystemExit):
            # asyncio raises it where the loop is run, and would log it once more as not retrieved.
            task = asyncio.current_task()
            if task is not None:
                task.add_done_callback(asyncio.Task.exception)

            self._loop.call_soon(self._interrupted)
            raise

        self._tasks.pop(pending.seq, None)
        self._jobs.pop(pending.seq, None)
        self._deliver(event)
