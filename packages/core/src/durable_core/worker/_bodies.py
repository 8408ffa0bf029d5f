"""Activity bodies: where they run, their attempts, and what comes of them.

Async bodies run as tasks on the worker's event loop, sync ones in threads, both in a copy of the
context that the unit asks for. An attempt that the process did not survive is not seen here: the
next owner finds it (ENGINE R18).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import TYPE_CHECKING, Any

from durable_core import _clock, _defaults, _faults
from durable_core import exceptions as ex
from durable_core.activity import _context, _defn
from durable_core.history import (
    ActivityCancelled,
    ActivityCompleted,
    ActivityFailed,
    Attempt,
    Event,
    Failure,
    Payload,
)
from durable_core.payloads import _json
from durable_core.payloads._failures import qualified_name

from ._threads import Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_core.adapter import UnitOptions
    from durable_core.engine import Pending
    from durable_core.history import Start
    from durable_core.payloads._failures import Registry

__all__ = ["Bodies", "backoff_of_lost", "exhausted"]

_log = logging.getLogger("durable_core.worker")


class Bodies:
    """Runs bodies for one worker. Belongs to the worker's event loop.

    Args:
        identity: Name of the worker in attempts.
        failures: How exceptions are recorded.
        at_once: How many bodies may run at the same time.
    """

    def __init__(self, identity: str, failures: Registry, at_once: int) -> None:
        self._identity = identity
        self._failures = failures
        self._slots = asyncio.Semaphore(at_once)
        self._threads = Threads(_defaults.THREADS)

    def close(self) -> None:
        """Let the threads end by themselves."""
        self._threads.close()

    async def run(
        self,
        start: Start,
        pending: Pending,
        body: Callable[..., Any],
        fence: int,
        earlier: tuple[Attempt, ...],
        retry_at: float,
        remember: Callable[[tuple[Attempt, ...], float], Awaitable[None]],
    ) -> Event:
        """Try an activity until it has an outcome, and return the outcome.

        Args:
            start: Of the run.
            pending: The activity.
            body: Its callable.
            fence: Of the ownership under which it runs.
            earlier: Attempts of earlier owners.
            retry_at: Before this time no attempt starts.
            remember: Makes the attempts so far durable, before a long backoff.

        Raises:
            asyncio.CancelledError: The task was cancelled, be it on the run's behalf or because the
                worker ends; the caller knows which.
        """
        options = pending.unit.options
        attempts = earlier
        while True:
            await _until(retry_at)
            number = len(attempts) + 1
            started = _clock.now()
            try:
                async with self._slots:
                    started = _clock.now()
                    result = await self._attempt(start, pending, body, number, started)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise

                error: BaseException = ex.CancelledError(
                    "the activity's body raised asyncio.CancelledError"
                )
            except Exception as raised:  # noqa: BLE001  # whatever a body raises is its outcome
                error = raised
            else:
                done = self._attempted(number, "completed", started, fence)
                return ActivityCompleted(
                    seq=pending.seq, result=Payload(data=result), attempts=(*attempts, done)
                )

            failure = self._failures.record(error)
            outcome = "timed_out" if isinstance(error, ex.TimeoutError) else "failed"
            attempts = (*attempts, self._attempted(number, outcome, started, fence, failure))
            delay, why = _next_delay(options, error, failure, attempts)
            if delay is None:
                return ActivityFailed(
                    seq=pending.seq, failure=failure, retry_state=why, attempts=attempts
                )

            retry_at = _clock.now() + delay
            _log.warning(
                "activity %r of run %r failed (attempt %d): %s: %s; next attempt in %.1f s",
                pending.unit.name,
                start.workflow_id,
                number,
                failure.type,
                failure.message,
                delay,
            )
            if delay > _defaults.COMMITTED_BACKOFF:
                await remember(attempts, retry_at)

    def cancelled(self, pending: Pending, attempts: tuple[Attempt, ...]) -> Event:
        """Return the outcome of an activity that ended because the run asked for it."""
        return ActivityCancelled(seq=pending.seq, attempts=attempts)

    def _attempted(
        self, number: int, outcome: Any, started: float, fence: int, failure: Failure | None = None
    ) -> Attempt:
        return Attempt(
            number=number,
            outcome=outcome,
            started=started,
            ended=_clock.now(),
            worker=self._identity,
            fence=fence,
            failure=failure,
        )

    async def _attempt(
        self, start: Start, pending: Pending, body: Callable[..., Any], number: int, started: float
    ) -> bytes:
        """Run the body once and return the bytes of its result."""
        unit = pending.unit
        what = f"activity {unit.name!r}"
        types, _ = _defn.signature_types(body)
        args = _json.decode_args(
            pending.args, types if unit.arg_types is None else unit.arg_types, what=what
        )
        _context.current.set(
            _context.Running(
                info=_context.Info(
                    activity_id=str(pending.seq),
                    activity_type=unit.name,
                    attempt=number,
                    scheduled_time=_clock.from_timestamp(pending.scheduled_time),
                    started_time=_clock.from_timestamp(started),
                    idempotency_key=pending.idempotency_key,
                    workflow_id=start.workflow_id,
                    workflow_run_id=start.run_id,
                    workflow_type=start.workflow_type,
                    workflow_namespace=start.namespace,
                    task_queue=start.task_queue,
                ),
                resources=unit.resources,
            )
        )
        _faults.reach("activity.body.before")
        limit = unit.options.start_to_close_timeout
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                result = await self._call(body, args)
        except TimeoutError:
            if not scope.expired():
                raise

            raise ex.TimeoutError(
                f"{what} did not finish within its start-to-close timeout of {limit:g} s",
                type=ex.TimeoutType.START_TO_CLOSE,
            ) from None

        _faults.reach("activity.body.after")
        data = _json.encode(result, what=f"the result of {what}")
        if len(data) > _defaults.PAYLOAD_LIMIT:
            raise ex.EncodeError(
                f"the result of {what} has {len(data):,} bytes, the limit is "
                f"{_defaults.PAYLOAD_LIMIT:,}: store it elsewhere and return a reference"
            )

        return data

    async def _call(self, body: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if _defn.is_async(body):
            return await body(*args)

        context = contextvars.copy_context()
        return await self._threads.run(lambda: context.run(body, *args))


def exhausted(options: UnitOptions, attempts: tuple[Attempt, ...]) -> bool:
    """Return whether the retry policy allows no further attempt, by their number alone."""
    limit = options.retry_policy.maximum_attempts
    counted = [a for a in attempts if a.outcome != "lost" or options.lost_attempts_count]
    return limit > 0 and len(counted) >= limit


def backoff_of_lost(options: UnitOptions, attempts: tuple[Attempt, ...]) -> float:
    """Return the seconds to wait after the last attempt was lost.

    One loss is a crash or a deploy, so the next attempt starts at once; more in a row look like a
    body that kills its worker, and back off by the retry policy.
    """
    in_a_row = 0
    for attempt in reversed(attempts):
        if attempt.outcome != "lost":
            break

        in_a_row += 1

    return options.retry_policy.delay(in_a_row - 1) if in_a_row > 1 else 0.0


def _next_delay(
    options: UnitOptions, error: BaseException, failure: Failure, attempts: tuple[Attempt, ...]
) -> tuple[float | None, int]:
    """Return the seconds until the next attempt, or None and why there is none."""
    policy = options.retry_policy
    after = failure.retry_after
    if options.decide is not None:
        decision = options.decide(error)
        if not decision.retry:
            return None, ex.RetryState.NON_RETRYABLE_FAILURE

        after = decision.after if decision.after is not None else after
    elif failure.non_retryable or _names(error, failure) & set(
        policy.non_retryable_error_types or ()
    ):
        return None, ex.RetryState.NON_RETRYABLE_FAILURE

    if exhausted(options, attempts):
        return None, ex.RetryState.MAXIMUM_ATTEMPTS_REACHED

    failures = sum(a.outcome != "lost" for a in attempts)
    delay = policy.delay(failures) if after is None else after
    first = next((a.started for a in attempts if a.started is not None), None)
    window = options.retry_window
    if window is not None and first is not None and _clock.now() + delay - first > window:
        return None, ex.RetryState.TIMEOUT

    return delay, 0


def _names(error: BaseException, failure: Failure) -> set[str]:
    return {type(error).__name__, qualified_name(type(error)), failure.type}


async def _until(due: float) -> None:
    while (left := due - _clock.now()) > 0:  # noqa: ASYNC110  # the wall clock may be set meanwhile
        await asyncio.sleep(left)
