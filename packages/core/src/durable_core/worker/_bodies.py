"""Activity bodies: where they run, their attempts, and what comes of them.

Async bodies run as tasks on the worker's event loop, sync ones in threads, both in a copy of the
context that the unit asks for. An attempt that the process did not survive is not seen here: the
next owner finds it (ENGINE R18).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from durable_core import _clock, _defaults, _faults
from durable_core import exceptions as ex
from durable_core._planted import planted
from durable_core._signatures import signature
from durable_core.activity import _context, _defn
from durable_core.engine import idempotency_key
from durable_core.history import (
    ActivityCancelled,
    ActivityCompleted,
    ActivityFailed,
    Attempt,
    Event,
    Failure,
    Payload,
)
from durable_core.payloads import _faithful, _json
from durable_core.payloads._failures import qualified_name

from ._deadline import Deadline
from ._job import Job
from ._pulse import Pulse, finder
from ._switching import Switching
from ._threads import Threads

if TYPE_CHECKING:
    from durable_core._clock import Clock
    from durable_core.adapter import UnitOptions
    from durable_core.engine import Pending
    from durable_core.history import Start
    from durable_core.payloads._failures import Registry

    from ._membership import Membership

__all__ = ["Bodies", "backoff_of_lost", "exhausted"]

_log = logging.getLogger("durable_core.worker")


class Bodies:
    """Runs bodies for one worker. Belongs to the worker's event loop.

    Args:
        identity: Name of the worker in attempts.
        failures: How exceptions are recorded.
        at_once: How many bodies may run at the same time.
        clock: Tells when attempts begin and end.
        membership: Says whether a body may start.
    """

    def __init__(
        self,
        identity: str,
        failures: Registry,
        at_once: int,
        clock: Clock,
        membership: Membership,
    ) -> None:
        self._identity = identity
        self._failures = failures
        self._clock = clock
        self._membership = membership
        self._slots = asyncio.Semaphore(at_once)
        self._threads = Threads(_defaults.THREADS)
        self._switching = Switching()
        self._adopted: set[asyncio.Task[None]] = set()

    def adopt(self, task: asyncio.Task[None]) -> None:
        """Keep a body until it ends, or the worker does."""
        self._adopted.add(task)
        task.add_done_callback(self._adopted.discard)

    def close(self) -> None:
        """Let the threads end by themselves, and end what no run waits for."""
        for task in self._adopted:
            task.cancel()

        self._switching.end()
        self._threads.close()

    async def run(self, start: Start, job: Job, remember: Callable[[], Awaitable[None]]) -> Event:
        """Try an activity until it has an outcome, and return the outcome.

        Args:
            start: Of the run.
            job: The activity; its attempts and backoff are kept up to date.
            remember: Makes its `Job.state` durable: before a long backoff, and before a body begins
                that may begin at most once.

        Raises:
            asyncio.CancelledError: The task was cancelled, be it on the run's behalf or because the
                worker ends; the caller knows which.
            LostRunError: The worker was found dead before the body could start.
            StoreError: Whether it was cannot be found out.
        """
        seq = job.pending.seq
        while True:
            await job.rest(self._clock)
            job.began = self._clock.now()
            try:
                # Most need not wait.
                if self._slots.locked() or not _defn.is_async(job.body):
                    await self._wait_for_slot(job)
                else:
                    await self._slots.acquire()

                try:
                    if job.held:
                        continue

                    result = await self._attempt(start, job, remember)
                finally:
                    self._slots.release()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise

                error: BaseException = ex.CancelledError(
                    "the activity's body raised asyncio.CancelledError"
                )
            except _NotStartedError as unstarted:
                raise unstarted.reason from None
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as raised:  # noqa: BLE001  # whatever a body raises is its outcome
                error = raised
            else:
                done = self._attempted(job, "completed")
                attempts = (*job.attempts, done)
                return ActivityCompleted(seq=seq, result=Payload(data=result), attempts=attempts)

            failure = self._failures.record(error)
            outcome = "timed_out" if isinstance(error, ex.TimeoutError) else "failed"
            job.attempts = (*job.attempts, self._attempted(job, outcome, failure))
            job.started = None
            job.committed = False
            if job.streams is not None:
                job.streams.void()

            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # Asked to end, it ended in its own way; nobody wants another attempt.
                delay, why = None, int(ex.RetryState.CANCEL_REQUESTED)
            else:
                delay, why = self._next_delay(job, error, failure)

            if delay is None:
                return ActivityFailed(
                    seq=seq, failure=failure, retry_state=why, attempts=job.attempts
                )

            job.retry_at = self._clock.now() + delay
            _log.warning(
                "%s of run %r failed (attempt %d): %s: %s; next attempt in %.1f s. See: durable "
                "show %s",
                job.what,
                start.workflow_id,
                len(job.attempts),
                failure.type,
                failure.message,
                delay,
                start.workflow_id,
            )
            if delay > _defaults.COMMITTED_BACKOFF or job.once:
                await remember()

    def cancelled(self, pending: Pending, attempts: tuple[Attempt, ...]) -> Event:
        """Return the outcome of an activity that ended because the run asked for it."""
        return ActivityCancelled(seq=pending.seq, attempts=attempts)

    def _attempted(self, job: Job, outcome: Any, failure: Failure | None = None) -> Attempt:
        return Attempt(
            number=len(job.attempts) + 1,
            outcome=outcome,
            started=job.began,
            ended=self._clock.now(),
            worker=self._identity,
            fence=job.fence,
            failure=failure,
        )

    async def _wait_for_slot(self, job: Job) -> None:
        """Take a place among the bodies that run at once, with a thread if the body needs one."""
        options = job.pending.unit.options
        in_thread = not _defn.is_async(job.body)
        limits = [job.deadline]
        # A later attempt has waited before, and once is enough.
        if options.schedule_to_start_timeout is not None and not job.attempts:
            limits.append(job.pending.scheduled_time + options.schedule_to_start_timeout)

        until = min((limit for limit in limits if limit is not None), default=None)
        scope = asyncio.timeout(None if until is None else until - self._clock.now())
        try:
            async with scope:
                await self._slots.acquire()
                try:
                    if in_thread:
                        await self._threads.available()
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            if until == job.deadline:
                raise self._too_late(job) from None

            raise ex.TimeoutError(
                f"{job.what} did not start within its schedule-to-start timeout of "
                f"{options.schedule_to_start_timeout:g} s: the worker runs as many bodies at once "
                "as it may",
                type=ex.TimeoutType.SCHEDULE_TO_START,
            ) from None

    def _too_late(self, job: Job) -> ex.TimeoutError:
        limit = job.pending.unit.options.schedule_to_close_timeout
        return ex.TimeoutError(
            f"{job.what} did not finish within its schedule-to-close timeout of {limit:g} s",
            type=ex.TimeoutType.SCHEDULE_TO_CLOSE,
        )

    async def _attempt(
        self, start: Start, job: Job, remember: Callable[[], Awaitable[None]]
    ) -> bytes:
        """Run the body once and return the bytes of its result."""
        pending, unit, what = job.pending, job.pending.unit, job.what
        target = signature(job.body)
        args = _faithful.decode_arguments(pending.args, target, unit.arg_types, owner=what)
        begun = [job.began]
        info = _info_of(start, job, begun)
        pulse = job.pulse = Pulse(job, unit.options.heartbeat_timeout, remember)
        streams = None if job.streams is None else job.streams.attempt(len(job.attempts) + 1)
        running = _context.Running(info, finder(pulse), unit.resources, self._in_thread)
        running.open_stream = None if streams is None else streams.open
        _context.current.set(running)
        _faults.reach("activity.body.before")
        if job.once and not planted("began.unsaid"):
            job.committed = True
            try:
                await remember()
            except Exception as error:
                raise _NotStartedError(error) from error

        limit, left = unit.options.start_to_close_timeout, math.inf
        if job.deadline is not None:
            left = max(job.deadline - self._clock.now(), 0.0)

        shortest = min(math.inf if limit is None else limit, left)
        scope = Deadline(None if shortest == math.inf else shortest)
        try:
            with streams or contextlib.nullcontext(), scope, pulse:
                result = await self._call(job, args, begun)
        except TimeoutError:
            if pulse.expired:
                raise ex.TimeoutError(
                    f"{what} said nothing for its heartbeat timeout of "
                    f"{unit.options.heartbeat_timeout:g} s",
                    type=ex.TimeoutType.HEARTBEAT,
                ) from None

            if not scope.expired:
                raise

            if limit is None or left < limit:
                raise self._too_late(job) from None

            raise ex.TimeoutError(
                f"{what} did not finish within its start-to-close timeout of {limit:g} s",
                type=ex.TimeoutType.START_TO_CLOSE,
            ) from None

        _faults.reach("activity.body.after")
        return _faithful.encode_result(result, pending.result, what=f"the result of {what}")

    async def _call(self, job: Job, args: tuple[Any, ...], begun: list[float]) -> Any:
        """Call a body while the lease holds, which is looked at last of all (ENGINE R16)."""
        body = job.body
        while True:
            if not _defn.is_async(body):
                call = partial(contextvars.copy_context().run, body, *args)
                begin = partial(self._begin_if, job, begun, call)
                result = await self._threads.run(begin)
                if result is not _NOT_STARTED:
                    return result
            elif self._may(job, begun):
                return await body(*args)

            try:
                await self._membership.confirm()
            except Exception as error:
                raise _NotStartedError(error) from error

    def _begin_if(self, job: Job, begun: list[float], call: Callable[[], Any]) -> Any:
        return call() if self._may(job, begun) else _NOT_STARTED

    def _may(self, job: Job, begun: list[float]) -> bool:
        now = self._clock.now()
        if not self._membership.holds():
            return False

        begun[0] = job.began = job.started = now
        return True

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        if self._threads.closed or not self._threads.at_home:
            # A task that outlives its body, and the worker; or a body that runs a loop of its own
            # in one of the threads, which must not wait for another of them.
            return await self._threads.run_apart(call)

        await self._threads.available()
        return await self._threads.run(call)

    def _next_delay(
        self, job: Job, error: BaseException, failure: Failure
    ) -> tuple[float | None, int]:
        """Return the seconds until the next attempt, or None and why there is none."""
        options = job.pending.unit.options
        policy = options.retry_policy
        after = failure.retry_after
        if isinstance(error, ex.TimeoutError) and error.type in _FINAL_TIMEOUTS:
            return None, ex.RetryState.TIMEOUT

        if job.once and not isinstance(error, ex.NotStarted):
            return None, ex.RetryState.NON_RETRYABLE_FAILURE

        decision = None if options.decide is None else options.decide(error)
        if decision is not None:
            if not decision.retry:
                return None, ex.RetryState.NON_RETRYABLE_FAILURE

            after = decision.after if decision.after is not None else after
        elif failure.non_retryable or _names(error, failure) & set(
            policy.non_retryable_error_types or ()
        ):
            return None, ex.RetryState.NON_RETRYABLE_FAILURE

        if exhausted(options, job.attempts):
            return None, ex.RetryState.MAXIMUM_ATTEMPTS_REACHED

        failures = sum(a.outcome in {"failed", "timed_out"} for a in job.attempts)
        delay = policy.delay(failures) if after is None else after
        first = next((a.started for a in job.attempts if a.started is not None), None)
        window, then = options.retry_window, self._clock.now() + delay
        if window is not None and first is not None and then - first > window:
            return None, ex.RetryState.TIMEOUT

        if job.deadline is not None and then >= job.deadline:
            return None, ex.RetryState.TIMEOUT

        return delay, 0


def _info_of(start: Start, job: Job, begun: list[float]) -> Callable[[], _context.Info]:
    """Return what makes the facts of an attempt, which few bodies ask for.

    Invariant: it holds none of its arguments but the last. What a body leaves behind, such as a
    connection, keeps its context, and must not keep its run in memory.
    """
    pending = job.pending
    unit, attempt, details = pending.unit, len(job.attempts) + 1, job.details
    beats = unit.options.heartbeat_timeout
    facts: dict[str, Any] = {
        "activity_id": str(pending.seq),
        "activity_type": unit.name,
        "attempt": attempt,
        "workflow_id": start.workflow_id,
        "workflow_run_id": start.run_id,
        "workflow_type": start.workflow_type,
        "workflow_namespace": start.namespace,
        "task_queue": start.task_queue,
    }
    scheduled = pending.scheduled_time
    identity = pending.effect_scope, unit.name, unit.key, pending.occurrence

    def info() -> _context.Info:
        return _context.Info(
            **facts,
            heartbeat_timeout=None if beats is None else timedelta(seconds=beats),
            heartbeat_details=_json.decode_untyped(details, what="a heartbeat") if details else (),
            scheduled_time=_clock.from_timestamp(scheduled),
            started_time=_clock.from_timestamp(begun[0]),
            idempotency_key=idempotency_key(*identity),
        )

    return info


class _NotStartedError(Exception):
    """Carries why a body was not started past what bodies raise."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(reason)
        self.reason = reason


_NOT_STARTED: Any = object()
_FINAL_TIMEOUTS = {ex.TimeoutType.SCHEDULE_TO_START, ex.TimeoutType.SCHEDULE_TO_CLOSE}


def exhausted(options: UnitOptions, attempts: tuple[Attempt, ...]) -> bool:
    """Return whether the retry policy allows no further attempt, by their number alone."""
    limit = options.retry_policy.maximum_attempts
    # One that the worker's own end cut off is nobody's failure.
    kinds = {"failed", "timed_out"} | ({"lost"} if options.lost_attempts_count else set())
    counted = [a for a in attempts if a.outcome in kinds]
    return limit > 0 and len(counted) >= limit


def backoff_of_lost(options: UnitOptions, attempts: tuple[Attempt, ...]) -> float:
    """Return the seconds to wait after the last attempt was lost.

    A loss or two are a crash, a deploy, or somebody who tries it out, so the next attempt starts at
    once; more in a row look like a body that kills its worker, and back off by the retry policy.
    """
    in_a_row = 0
    for attempt in reversed(attempts):
        if attempt.outcome != "lost":
            break

        in_a_row += 1

    spare = in_a_row - _defaults.LOSSES_AT_ONCE
    return options.retry_policy.delay(spare) if spare > 0 else 0.0


def _names(error: BaseException, failure: Failure) -> set[str]:
    return {type(error).__name__, qualified_name(type(error)), failure.type}
