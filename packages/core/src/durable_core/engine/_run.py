"""One run in memory: events in, workflow code runs until nothing is ready, commands out.

A `Run` is built from its start record and then fed activations, in order: recorded ones by
`replay`, which checks that the code asks for the same commands again, new ones by `activate`, which
returns the commands to commit. It does no I/O and reads no clock. What the code receives is always
decoded from recorded bytes, so that the first execution sees what a replay sees.

Invariant: after an activation raised, the run in memory is dead. It is closed and rebuilt from its
history; the events of the failed try are not lost, the caller still has them.
"""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from durable_core import _clock
from durable_core import exceptions as ex
from durable_core.activity import _defn as activity_defn
from durable_core.adapter import Capabilities, Items, Unit
from durable_core.history import (
    Activation,
    ActivityCancelled,
    ActivityCompleted,
    ActivityFailed,
    CancelActivity,
    CancelTimer,
    CompleteRun,
    FailRun,
    Note,
    Payload,
    ScheduleActivity,
    StartTimer,
    Taken,
    TimerFired,
)
from durable_core.payloads import _digest, _json
from durable_core.payloads._items import SharedLists
from durable_core.workflow import _calls

from ._handle import ActivityFuture
from ._loop import Timer, new_loop
from ._match import Expected, waiting_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from durable_core.history import Command, Event, Failure, Start
    from durable_core.payloads._failures import Registry
    from durable_core.workflow._defn import Definition

__all__ = ["Host", "Pending", "Run"]

_CAPABILITIES = Capabilities(
    name="embedded", durable=True, atomic=True, identity_matching=True, resources=True
)


class Host(Protocol):
    """What a run needs of the worker that holds it."""

    @property
    def failures(self) -> Registry:
        """How exceptions are recorded and rebuilt."""
        ...

    def activity(self, name: str) -> activity_defn.Definition:
        """Return a registered activity.

        Raises:
            NotRegisteredError: There is none of that name.
        """
        ...

    def check_body(self, unit: Unit) -> None:
        """Check that a callable that workflow code named may run here.

        Raises:
            NotRegisteredError: The worker was given a list of activities and it is not on it.
        """
        ...


@dataclass(slots=True)
class Pending:
    """An activity that was asked for and has no outcome yet."""

    seq: int
    unit: Unit
    args: bytes
    occurrence: int
    future: ActivityFuture
    context: contextvars.Context
    scheduled_time: float
    idempotency_key: str


@dataclass(slots=True)
class _Collected:
    """What the activation under way has asked for so far."""

    commands: list[Command] = field(default_factory=list["Command"])
    new_timers: list[Timer] = field(default_factory=list[Timer])
    notes: list[Note] = field(default_factory=list[Note])


class Run:
    """One run in memory. Belongs to the thread and event loop of its worker.

    Attributes:
        start: Its start record.
        pending: Activities without an outcome, by command number.
        timers: Timers that have not fired, by command number.
        next_number: Number of the next activation.
        time: Time of the last activation.
        closed: The command that ended the run, once there is one.
        resources: Live objects that were attached to the run in this process, by role.
        new_items: Items that the last activation refers to, by address, still to be stored.
    """

    def __init__(
        self,
        start: Start,
        definition: Definition,
        host: Host,
        *,
        context: contextvars.Context | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        self.start = start
        self.pending: dict[int, Pending] = {}
        self.timers: dict[int, Timer] = {}
        self.next_number = 0
        self.time = start.time
        self.closed: CompleteRun | FailRun | None = None
        self.new_items: dict[str, bytes] = {}
        self._definition = definition
        self._failing: tuple[type[BaseException], ...] = (
            ex.FailureError,
            TimeoutError,
            *definition.failure_exception_types,
        )
        self._host = host
        self.resources = resources or {}
        self._loop = new_loop(self, self, self._derive("hash"))
        self._context = context or contextvars.copy_context()
        self._random = Random(self._derive("random"))  # noqa: S311  # replayable, not secret
        self._uuids = Random(self._derive("uuid"))  # noqa: S311
        self._occurrences: dict[tuple[str, str], int] = {}
        self._timer_occurrences = 0
        self._next_seq = 1
        self._now: _Collected = _Collected()
        self._expected: Expected | None = None
        self._python = start.python
        self._lists = SharedLists(start.lineage)
        self._main: asyncio.Task[Any] | None = None
        self._info: _calls.Info | None = None

    # Activations

    def activate(self, time: float, events: Iterable[Event], fence: int) -> Activation:
        """Run workflow code on new events and return the activation to commit.

        Raises:
            Exception: What a bug in workflow code raised; the run in memory is dead.
        """
        events = tuple(events)
        self._execute(time, events)
        collected = self._now
        return Activation(
            number=self.next_number - 1,
            time=time,
            fence=fence,
            events=events,
            commands=tuple(collected.commands),
            notes=tuple(collected.notes),
        )

    def replay(self, record: Activation) -> None:
        """Run workflow code on recorded events and check that it asks for the recorded commands.

        Raises:
            NonDeterminismError: It asks for something else.
            Exception: What a bug in workflow code raised; the run in memory is dead.
        """
        for event in record.events:
            if isinstance(event, Taken):
                self._python = event.python

        self._expected = Expected(record, self._python, self._where)
        try:
            self._execute(record.time, record.events)
            self._expected.finish()
        finally:
            self._expected = None

    def close(self) -> None:
        """Drop the run from memory: its coroutines are closed in their own loop. Never raises."""
        with self._loop.entered(self.time):
            self._context.copy().run(self._loop.close_run)

        self.pending.clear()
        self.timers.clear()

    def _execute(self, time: float, events: tuple[Event, ...]) -> None:
        self._now = _Collected()
        self.new_items = {}
        self.time = time
        loop = self._loop
        with loop.entered(time):
            if self._main is None:
                self._main = self._begin()

            for event in events:
                self._apply(event)

            loop.drain()
            if loop.error is not None:
                raise loop.error

            self._settle_timers()
            if self._main.done() and self.closed is None:
                self.closed = self._end(self._main)
                self._issue(self.closed)

        self.next_number += 1

    def _begin(self) -> asyncio.Task[Any]:
        definition = self._definition
        types, _ = activity_defn.signature_types(definition.run_fn)
        what = f"the input of workflow {definition.name!r}"
        args = _json.decode_args(self.start.args.data, types[1:], what=what)

        async def main() -> Any:
            return await definition.run_fn(definition.cls(), *args)

        return self._loop.create_task(main(), name="workflow", context=self._context)

    def _end(self, main: asyncio.Task[Any]) -> CompleteRun | FailRun:
        try:
            result = main.result()
        except asyncio.CancelledError as error:
            return FailRun(failure=self._host.failures.record(error), cancelled=True)
        except BaseExceptionGroup as group:
            # Of a task group: it fails the run if all that is in it would.
            if group.split(self._failing)[1] is not None:
                raise

            return FailRun(failure=self._host.failures.record(group))
        except self._failing as error:
            return FailRun(failure=self._host.failures.record(error))

        what = f"the result of workflow {self._definition.name!r}"
        return CompleteRun(result=Payload(data=_json.encode(result, what=what)))

    # Events

    def _apply(self, event: Event) -> None:
        match event:
            case ActivityCompleted():
                self._complete(event)
            case ActivityFailed():
                pending = self.pending.pop(event.seq, None)
                if pending is not None and not pending.future.done():
                    pending.future.set_exception(self._failure(pending, event))
            case ActivityCancelled():
                pending = self.pending.pop(event.seq, None)
                if pending is not None and not pending.future.done():
                    pending.future.set_exception(pending.future.cancelled_error())
            case TimerFired():
                handle = self.timers.pop(event.seq, None)
                if handle is not None:
                    self._loop.ready_timer(handle)
            case Taken():
                self._python = event.python

    def _complete(self, event: ActivityCompleted) -> None:
        pending = self.pending.pop(event.seq, None)
        if pending is None or pending.future.done():
            return

        unit = pending.unit
        type_ = unit.result_type
        if type_ is None:
            type_ = Any if unit.body is None else activity_defn.signature_types(unit.body)[1]

        pending.future.set_result(
            _json.decode(
                event.result.data, type_, what=f"the recorded result of activity {unit.name!r}"
            )
        )

    def _failure(self, pending: Pending, event: ActivityFailed) -> BaseException:
        cause = self._host.failures.rebuild(event.failure)
        if isinstance(cause, (StopIteration, asyncio.CancelledError)):
            # Neither can travel through a future as itself.
            cause = ex.ApplicationError(str(cause), type=event.failure.type)

        if pending.unit.raise_cause:
            return cause

        error = ex.ActivityError(
            f"activity {pending.unit.name!r} failed: {event.failure.type}: {event.failure.message}",
            activity_type=pending.unit.name,
            activity_id=str(pending.seq),
            attempts=len(event.attempts),
            retry_state=ex.RetryState(event.retry_state) if event.retry_state else None,
        )
        error.__cause__ = cause
        return error

    # Commands

    def schedule(self, unit: Unit) -> ActivityFuture:
        """Ask for a unit; see `durable_core.adapter.Engine.schedule`."""
        self._check_usable()
        if unit.body is None:
            body = self._host.activity(unit.name).fn
        else:
            self._host.check_body(unit)
            body = unit.body

        types = activity_defn.signature_types(body)[0] if unit.arg_types is None else unit.arg_types
        what = f"the arguments of activity {unit.name!r}"
        args = _json.encode(unit.args, what=what)
        digest = _digest.digest(unit.args, what=what)
        occurrence = self._occurrences.get((unit.name, unit.key), 0) + 1
        self._occurrences[(unit.name, unit.key)] = occurrence
        if self._expected is None:
            seq = self._next_seq
        else:
            try:
                recorded = self._expected.activity(unit, occurrence, digest, types)
            except ex.NonDeterminismError as error:
                self._loop.error = error
                raise

            seq, args = recorded.seq, recorded.args.data

        self._next_seq = max(self._next_seq, seq + 1)
        future = ActivityFuture(loop=self._loop, owner=self, seq=seq, unit=unit)
        self.pending[seq] = Pending(
            seq=seq,
            unit=unit,
            args=args,
            occurrence=occurrence,
            future=future,
            context=contextvars.copy_context() if unit.in_context else self._context.copy(),
            scheduled_time=self.time,
            idempotency_key=self._idempotency_key(unit, occurrence),
        )
        if self._expected is None:
            self._now.commands.append(
                ScheduleActivity(
                    seq=seq,
                    name=unit.name,
                    args=Payload(data=args),
                    digest=digest,
                    key=unit.key,
                    occurrence=occurrence,
                    text=self._text(unit),
                    summary=unit.summary or "",
                    timeout=unit.options.start_to_close_timeout,
                    max_attempts=unit.options.retry_policy.maximum_attempts,
                )
            )

        return future

    def cancel_activity(self, future: ActivityFuture) -> None:
        """Ask for the end of an activity, on behalf of its future."""
        if future.seq in self.pending:
            self._issue(CancelActivity(seq=future.seq, wait=future.waits))
            if not future.waits:
                del self.pending[future.seq]

    def timer_started(self, handle: Timer) -> None:
        """Note a timer; it becomes a command if it outlives the activation."""
        self._check_usable()
        self._now.new_timers.append(handle)

    def timer_cancelled(self, handle: Timer) -> None:
        """Withdraw a timer that is a command already; one that is not simply never becomes one."""
        if self.timers.pop(handle.seq, None) is not None:
            self._issue(CancelTimer(seq=handle.seq))

    def annotate(self, name: str, value: Any) -> None:
        """Record a fact for readers; see `durable_core.adapter.Engine.annotate`."""
        if self._expected is None:
            self._now.notes.append(
                Note(name=name, value=_json.encode(value, what=f"the note {name!r}"))
            )

    def _settle_timers(self) -> None:
        for handle in self._now.new_timers:
            if handle.cancelled():
                continue

            self._timer_occurrences += 1
            # To the microsecond: a sum with the seconds since the epoch is not exact beyond that.
            delay = round(handle.when() - self.time, 6)
            if self._expected is None:
                seq = self._next_seq
                self._now.commands.append(
                    StartTimer(
                        seq=seq, delay=delay, due=handle.when(), occurrence=self._timer_occurrences
                    )
                )
            else:
                seq = self._expected.timer(self._timer_occurrences, delay).seq

            self._next_seq = max(self._next_seq, seq + 1)
            handle.seq = seq
            self.timers[seq] = handle

    def _issue(self, command: Command) -> None:
        if self._expected is None:
            self._now.commands.append(command)
            return

        try:
            self._expected.other(command)
        except ex.NonDeterminismError as error:
            self._loop.error = error
            raise

    def _text(self, unit: Unit) -> Payload | None:
        if unit.text is None:
            return None

        what = f"the text of activity {unit.name!r}"
        try:
            plain = {
                k: self._lists.encode(v, self.new_items, what=what) if isinstance(v, Items) else v
                for k, v in unit.text.items()
            }
            data = _json.encode(plain, what=what)
        except ex.EncodeError as error:
            # For readers only, so a part that cannot be recorded must not stop the call.
            data = _json.encode({"not recorded": str(error)}, what=what)

        return Payload(data=data)

    def _idempotency_key(self, unit: Unit, occurrence: int) -> str:
        parts = "\0".join((self.start.effect_scope, unit.name, unit.key, str(occurrence)))
        return blake2b(parts.encode(), digest_size=16).hexdigest()

    def _check_usable(self) -> None:
        if self._loop.error is not None:
            raise self._loop.error

        if asyncio._get_running_loop() is not self._loop:  # noqa: SLF001
            raise ex.NotInWorkflowError(
                "this run's code called its engine from outside its own event loop"
            )

    def _derive(self, label: str) -> int:
        return int.from_bytes(
            blake2b(f"{self.start.seed}\0{label}".encode(), digest_size=8).digest(), "big"
        )

    def _where(self) -> str | None:
        """Return ``file:line in function`` at which the main task waits."""
        if self._main is None or self._main.done():
            return None

        return waiting_line(self._main.get_coro())

    # What workflow code asks

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return _CAPABILITIES

    @property
    def workflow_id(self) -> str:
        """Id of the run, as its user chose it."""
        return self.start.workflow_id

    @property
    def run_id(self) -> str:
        """Unique id of the run."""
        return self.start.run_id

    @property
    def replaying(self) -> bool:
        """Whether the code now running repeats what is already recorded."""
        return self._expected is not None

    def resource(self, role: str) -> Any:
        """Return a live object that was attached to the run in this process."""
        if role not in self.resources:
            raise LookupError(
                f"nothing is attached to run {self.workflow_id!r} as {role!r}; there are "
                f"{sorted(self.resources)}"
            )

        return self.resources[role]

    def now(self) -> float:
        """Return the time of the activation."""
        return self.time

    def random(self) -> Random:
        """Return the run's own random generator."""
        return self._random

    def uuid4(self) -> UUID:
        """Return a new UUID, equal on every replay."""
        return UUID(int=self._uuids.getrandbits(128), version=4)

    def info(self) -> _calls.Info:
        """Return facts about the run."""
        if self._info is None:
            start = self.start
            self._info = _calls.Info(
                namespace=start.namespace,
                workflow_id=start.workflow_id,
                run_id=start.run_id,
                workflow_type=start.workflow_type,
                task_queue=start.task_queue,
                start_time=_clock.from_timestamp(start.time),
            )

        return self._info

    @property
    def status(self) -> str:
        """What became of the run: ``running``, ``completed``, ``failed`` or ``canceled``."""
        match self.closed:
            case None:
                return "running"
            case CompleteRun():
                return "completed"
            case FailRun():
                return "canceled" if self.closed.cancelled else "failed"

    @property
    def failure(self) -> Failure | None:
        """Why the run failed, if it did."""
        return self.closed.failure if isinstance(self.closed, FailRun) else None
