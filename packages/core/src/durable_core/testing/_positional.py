"""A second engine, for authors of adapters: no store, and commands are matched by position.

It runs what an adapter runs as workflow code, keeps in a list what its units brought, and replays
from that list. An adapter that passes its tests on it does not lean on how the embedded engine
finds recorded commands again (ENGINE R43).
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Any
from uuid import UUID

import msgspec

from durable_core import _clock
from durable_core import exceptions as ex
from durable_core._signatures import modules_of, signature
from durable_core.activity import _context
from durable_core.adapter import Answer, Capabilities, Request, RunStream, Unit
from durable_core.engine._blame import is_of
from durable_core.engine._handle import ActivityFuture
from durable_core.engine._loop import Timer, WorkflowTask, new_loop
from durable_core.history import Failure
from durable_core.payloads import _faithful, _json
from durable_core.payloads._failures import Registry
from durable_core.worker._heart import Heart

__all__ = ["PositionalEngine"]

_CAPABILITIES = Capabilities(
    name="positional",
    durable=False,
    atomic=False,
    identity_matching=False,
    resources=True,
    streams=False,
    waits=True,
)


_Outcome = tuple[int, bytes | Failure | None]


class _Step(msgspec.Struct):
    """What one activation received, and what it then asked for.

    Attributes:
        time: Of the activation, in seconds since the epoch.
        outcomes: Position of a command, and what it brought: bytes, a failure, or None for a timer.
        commands: What was asked for, in order.
    """

    time: float
    outcomes: list[_Outcome]
    commands: list[str] = []


class PositionalEngine:
    """One run, live and again. Belongs to the event loop that it is used on.

    Attributes:
        workflow_id, run_id: As in `durable_core.adapter.Engine`.
    """

    def __init__(self, workflow_id: str = "run") -> None:
        self.workflow_id = self.run_id = workflow_id
        self._steps: list[_Step] = []
        self._left: list[_Outcome] = []
        self._latest: _Execution | None = None
        self._failures = Registry()

    async def run(
        self,
        code: Callable[[], Coroutine[Any, Any, Any]],
        *,
        resources: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run workflow code: what is recorded is replayed, and from there on it lives.

        A run that raised goes on before the step in which it did: what that step received is kept,
        but for failures, which are tried again.

        Args:
            code: Returns the coroutine.
            resources: Live objects for it, by role.

        Raises:
            NonDeterminismError: It asks for something else than is recorded.
            Exception: Whatever the code raises.
        """
        execution = _Execution(self, resources or {}, self._steps, self._failures)
        execution.arrived, self._left = self._left, []
        self._latest = execution
        try:
            return await execution.run(code)
        except BaseException:
            self._left = execution.unrecorded
            raise

    def failed_with(self, error: BaseException) -> bool:
        """Return whether what `run` raised comes from the failure of a unit, and is no bug."""
        return self._latest is not None and self._latest.failed_with(error)


class _Execution:
    """One execution of a run; what its code finds as its engine."""

    def __init__(
        self,
        engine: PositionalEngine,
        resources: Mapping[str, Any],
        steps: list[_Step],
        failures: Registry,
    ) -> None:
        self.workflow_id, self.run_id = engine.workflow_id, engine.run_id
        self._resources = resources
        self._steps = steps
        self._failures = failures
        self._random = Random(engine.run_id)  # noqa: S311  # replayable, not secret
        self._loop = new_loop(self, self, 7)
        self._context = contextvars.copy_context()
        self._outer = asyncio.get_running_loop()
        self._time = _clock.now()
        self._replaying = False
        self._commands: list[str] = []
        self._base = self._issued = 0
        self._units: dict[int, tuple[Unit, bytes, ActivityFuture, contextvars.Context]] = {}
        self._timers: dict[int, Timer] = {}
        self._new_timers: list[Timer] = []
        self._callbacks: list[Callable[[], None]] = []
        self._tasks: dict[int, asyncio.Task[None] | asyncio.TimerHandle] = {}
        self._delivered: list[tuple[BaseException, int]] = []
        self.arrived: list[_Outcome] = []
        self.unrecorded: list[_Outcome] = []
        self._woken = asyncio.Event()

    async def run(self, code: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Replay, then live, to the end."""
        main: asyncio.Task[Any] | None = None
        number = 0
        try:
            while True:
                if number < len(self._steps):
                    step, self._replaying = self._steps[number], True
                else:
                    step, self._replaying = await self._next(first=number == 0), False

                main = self._activate(number, step, main, code)
                number += 1
                if main.done():
                    return main.result()
        finally:
            for task in self._tasks.values():
                task.cancel()

            tasks = [t for t in self._tasks.values() if isinstance(t, asyncio.Task)]
            await asyncio.gather(*tasks, return_exceptions=True)
            with self._loop.entered(self._time):
                self._context.copy().run(self._loop.close_run)

    def failed_with(self, error: BaseException) -> bool:
        """Return whether an exception comes from the failure of a unit."""
        return is_of(error, self._delivered)

    async def _next(self, *, first: bool) -> _Step:
        """Return what happens next, live."""
        if not first:
            self._start_what_waits()
            while not self.arrived:
                self._woken.clear()
                await self._woken.wait()

        arrived, self.arrived = self.arrived, []
        return _Step(max(self._time, _clock.now()), arrived)

    def _activate(
        self,
        number: int,
        step: _Step,
        main: asyncio.Task[Any] | None,
        code: Callable[[], Coroutine[Any, Any, Any]],
    ) -> asyncio.Task[Any]:
        self._commands = list(step.commands)
        self._issued = 0
        self._time = step.time
        with self._loop.entered(step.time, self.run_id, number):
            if main is None:
                main = self._loop.create_task(code(), name="workflow", context=self._context)

            for position, outcome in step.outcomes:
                self._apply(position, outcome)

            self._loop.drain()
            if self._loop.error is not None:
                raise self._loop.error

            for timer in self._new_timers:
                if not timer.cancelled():
                    timer.seq = self._ask(f"timer of {timer.when() - self._time:.6f} s")
                    self._timers[timer.seq] = timer

            self._new_timers.clear()

        if self._issued != len(self._commands):
            raise self._mismatch(self._commands[self._issued], "nothing more")

        self._base += self._issued
        if not self._replaying and main.done() and (main.cancelled() or main.exception()):
            kept = [o for o in step.outcomes if not isinstance(o[1], Failure)]
            self.unrecorded = [*kept, *self.arrived]
        elif not self._replaying:
            step.commands = self._commands
            self._steps.append(step)

        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

        return main

    def _ask(self, command: str) -> int:
        """Ask for a command and return its position; on replay it must be what stands there."""
        if not self._replaying:
            self._commands.append(command)
        elif self._issued >= len(self._commands):
            raise self._mismatch("nothing more", command)
        elif self._commands[self._issued] != command:
            raise self._mismatch(self._commands[self._issued], command)

        self._issued += 1
        return self._base + self._issued

    def _mismatch(self, expected: str, got: str) -> ex.NonDeterminismError:
        error = ex.NonDeterminismError(
            f"recorded {expected}, got {got}, at position {self._base + self._issued + 1}",
            activation=self._base,
            expected=expected,
            got=got,
        )
        self._loop.error = error
        return error

    def _apply(self, position: int, outcome: bytes | Failure | None) -> None:
        timer = self._timers.pop(position, None)
        if timer is not None:
            self._loop.ready_timer(timer)
            return

        found = self._units.pop(position, None)
        if found is None or found[2].done():
            return

        unit, _, future, _ = found
        if isinstance(outcome, Failure):
            modules = (*(modules_of(unit.body) if unit.body else ()), *unit.failure_modules)
            error = self._failures.rebuild(outcome, modules=modules)
            self._delivered.append((error, position))
            future.set_exception(error)
        elif outcome is not None:
            annotated = _faithful.result_of(unit.body, unit.result_type)
            future.set_result(_json.decode(outcome, annotated.type, what="a result"))

    # Bodies

    def _start_what_waits(self) -> None:
        settled = {position for position, _ in self.arrived}
        for position, (unit, args, _, context) in self._units.items():
            if position not in self._tasks and position not in settled:
                body = self._run_body(position, unit, args)
                self._tasks[position] = self._outer.create_task(body, context=context)

        for position, timer in self._timers.items():
            if position not in self._tasks and position not in settled:
                delay = max(0.0, timer.when() - _clock.now())
                self._tasks[position] = self._outer.call_later(delay, self._arrive, position, None)

    async def _run_body(self, position: int, unit: Unit, args: bytes) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                self._arrive(position, await self._attempt(unit, args, attempt))
                return
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise

                error: BaseException = ex.CancelledError("the body raised asyncio.CancelledError")
            except Exception as raised:  # noqa: BLE001  # whatever a body raises is its outcome
                error = raised

            failure = self._failures.record(error)
            delay = _delay(unit, error, failure, attempt)
            if delay is None:
                self._arrive(position, failure)
                return

            await asyncio.sleep(delay)

    async def _attempt(self, unit: Unit, args: bytes, attempt: int) -> bytes:
        assert unit.body is not None
        info = _context.Info(
            activity_id="0",
            activity_type=unit.name,
            attempt=attempt,
            scheduled_time=_clock.from_timestamp(self._time),
            started_time=_clock.from_timestamp(_clock.now()),
            idempotency_key=blake2b(f"{self.run_id} {unit.name} {unit.key}".encode()).hexdigest(),
            workflow_id=self.workflow_id,
            workflow_run_id=self.run_id,
            workflow_type="positional",
            workflow_namespace="default",
            task_queue="positional",
        )
        _context.current.set(_context.Running(lambda: info, Heart, unit.resources))
        owner = f"activity {unit.name!r}"
        given = _faithful.decode_arguments(args, signature(unit.body), unit.arg_types, owner=owner)
        limit = unit.options.start_to_close_timeout
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                result = unit.body(*given)
                if inspect.isawaitable(result):
                    result = await result
        except TimeoutError:
            if not scope.expired():
                raise

            raise ex.TimeoutError(
                f"{owner} did not finish within its start-to-close timeout of {limit:g} s",
                type=ex.TimeoutType.START_TO_CLOSE,
            ) from None

        annotated = _faithful.result_of(unit.body, unit.result_type)
        return _faithful.encode_result(result, annotated, what=f"the result of {owner}")

    def _arrive(self, position: int, outcome: bytes | Failure | None) -> None:
        self.arrived.append((position, outcome))
        self._woken.set()

    # What the loop and activity futures ask

    def timer_started(self, handle: Timer) -> None:
        """Note a timer."""
        self._new_timers.append(handle)

    def timer_cancelled(self, handle: Timer) -> None:
        """Withdraw a timer."""
        if self._timers.pop(handle.seq, None) is not None:
            self._stop(handle.seq)

    def broken_from_outside(self) -> None:
        """Let the execution fail with what broke its loop."""
        self._outer.call_soon_threadsafe(self._arrive, 0, None)

    def cancel_activity(self, future: ActivityFuture) -> None:
        """Withdraw a unit."""
        if self._units.pop(future.seq, None) is not None:
            self._stop(future.seq)

    def _stop(self, position: int) -> None:
        task = self._tasks.get(position)
        if task is not None:
            task.cancel()

    # What adapters ask

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return _CAPABILITIES

    @property
    def replaying(self) -> bool:
        """Whether the code now running repeats what is already recorded."""
        return self._replaying

    def schedule(self, unit: Unit) -> asyncio.Future[Any]:
        """Ask for a unit."""
        if self._loop.error is not None:
            raise self._loop.error

        if unit.body is None:
            raise ex.NotSupported("the positional engine knows no activities by name")

        owner = f"activity {unit.name!r}"
        parameters = _faithful.expected(signature(unit.body), len(unit.args), unit.arg_types)
        args = _faithful.encode_arguments(
            unit.args, parameters, owner=owner, what=f"the arguments of {owner}"
        )
        position = self._ask(f"{unit.name} {unit.key} {args.decode(errors='replace')}")
        future = ActivityFuture(loop=self._loop, owner=self, seq=position, unit=unit)
        context = contextvars.copy_context() if unit.in_context else self._context.copy()
        self._units[position] = (unit, args, future, context)
        return future

    def request(self, request: Request) -> asyncio.Future[Answer[Any]]:
        """Refuse: nobody is there to be asked."""
        raise ex.NotSupported(
            f"the positional engine cannot ask people for {request.kind!r}: its capability "
            "`requests` says so"
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        await self._loop.until(condition)

    def annotate(self, name: str, value: Any) -> None:
        """Check that the fact has a JSON form, and forget it."""
        _json.encode(value, what=f"the note {name!r}")

    def stream(self, name: str) -> RunStream:
        """Raise: there is nobody who could read it."""
        raise ex.NotSupported(
            f"the stream {name!r} cannot be written: the positional engine has none, as its "
            "capabilities say; use the embedded one"
        )

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call something after the activation; not on replay."""
        if not self._replaying and not self._loop.is_closed():
            task = asyncio.current_task()
            own = task.get_context() if isinstance(task, WorkflowTask) else self._context
            self._callbacks.append(partial(own.run, callback))

    def resource(self, role: str) -> Any:
        """Return a live object that was attached to the execution."""
        if role not in self._resources:
            raise LookupError(f"nothing is attached as {role!r}")

        return self._resources[role]

    def now(self) -> float:
        """Return the time of the activation."""
        return self._time

    def random(self) -> Random:
        """Return the run's own random generator."""
        return self._random

    def uuid4(self) -> UUID:
        """Return a new UUID, equal on every replay."""
        return UUID(int=self._random.getrandbits(128), version=4)


def _delay(unit: Unit, error: BaseException, failure: Failure, attempt: int) -> float | None:
    """Return the seconds until the next attempt; None if there is none."""
    options = unit.options
    policy = options.retry_policy
    if policy.maximum_attempts and attempt >= policy.maximum_attempts:
        return None

    decision = None if options.decide is None else options.decide(error)
    if decision is None:
        named = {type(error).__name__, failure.type} & {*(policy.non_retryable_error_types or ())}
        return None if failure.non_retryable or named else policy.delay(attempt)

    if not decision.retry:
        return None

    return policy.delay(attempt) if decision.after is None else decision.after
