"""What the code of a run asks for: collected while it lives, compared while it is replayed."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from durable_core._planted import planted
from durable_core._signatures import modules_of, signature
from durable_core.adapter import Unit
from durable_core.history import (
    CancelActivity,
    CancelTimer,
    Note,
    Payload,
    ScheduleActivity,
    StartTimer,
)
from durable_core.payloads import _digest, _faithful, _json
from durable_core.payloads._texts import Texts

from ._handle import ActivityFuture

if TYPE_CHECKING:
    from durable_core._signatures import Parameter
    from durable_core.activity import _defn as activity_defn
    from durable_core.history import ActivityCompleted, Command, Start
    from durable_core.payloads._failures import Registry
    from durable_core.workflow._defn import Definition as WorkflowDefinition

    from ._loop import Timer, WorkflowLoop
    from ._match import Asks, Expected
    from ._streams import StreamPart

__all__ = ["Commands", "Host", "Pending", "idempotency_key"]

_log = logging.getLogger("durable_core.engine")


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

    def child(self, workflow: str | WorkflowDefinition) -> WorkflowDefinition | None:
        """Return what a child runs, if that is known here; it may run here from now on."""
        ...

    def check_body(self, unit: Unit) -> None:
        """Check that a callable that workflow code named may run here.

        Raises:
            NotRegisteredError: The worker was given a list of activities and it is not on it.
        """
        ...


class Pending(msgspec.Struct):
    """An activity that was asked for and has no outcome yet.

    Attributes:
        result: How its result is annotated.
        modules: Those whose exception classes a failure of it may come back as.
    """

    seq: int
    unit: Unit
    args: bytes
    result: Parameter
    modules: tuple[str, ...]
    occurrence: int
    future: ActivityFuture
    context: contextvars.Context
    scheduled_time: float
    effect_scope: str

    @property
    def idempotency_key(self) -> str:
        """Equal for every attempt of it, also after a crash, and different from any other's."""
        return idempotency_key(self.effect_scope, self.unit.name, self.unit.key, self.occurrence)


def idempotency_key(effect_scope: str, name: str, key: str, occurrence: int) -> str:
    """Return the key of an activity, see `Pending`."""
    occurrence = 1 if planted("key.reused") else occurrence
    parts = "\0".join((effect_scope, name, key, str(occurrence)))
    return blake2b(parts.encode(), digest_size=16).hexdigest()


class _Collected(msgspec.Struct):
    """What the activation under way has asked for so far."""

    commands: list[Command] = []
    new_timers: list[Timer] = []
    notes: list[Note] = []
    callbacks: list[Callable[[], None]] = []
    parts: list[StreamPart] = []
    items: dict[str, bytes] = {}


class Commands:
    """The commands of one run.

    Attributes:
        expected: What a replay must ask for; None while the run lives.
        pending: Activities without an outcome, by command number.
        timers: Timers that have not fired, by command number.
        host: The worker that holds the run.
        next_seq: Number of the next command.
        modules: Those whose exception classes the failures of activities may come back as.
        collected: What the activation under way has asked for so far.
        time: Of the activation under way, in seconds since the epoch.
    """

    def __init__(
        self,
        start: Start,
        loop: WorkflowLoop,
        host: Host,
        context: contextvars.Context,
        module: str,
    ) -> None:
        self.expected: Expected | None = None
        self.pending: dict[int, Pending] = {}
        self.timers: dict[int, Timer] = {}
        self.next_seq = 1
        self.collected = _Collected()
        self.time = start.time
        self._start = start
        self._loop = loop
        self.host = host
        self._context = context
        self._module = module
        self.modules: dict[str, None] = {module: None}
        self._occurrences: dict[tuple[str, str], int] = {}
        self._timer_occurrences = 0
        self._texts = Texts(start.lineage)
        self._changed_texts: set[tuple[str, str]] = set()
        self._late_notes: list[Note] = []

    def begin(self, time: float) -> None:
        """Begin an activation."""
        self.time = time
        self.collected = _Collected()

    # Activities

    def schedule(self, unit: Unit) -> ActivityFuture:
        """Ask for a unit; see `durable_core.adapter.Engine.schedule`."""
        if unit.body is None:
            body = self.host.activity(unit.name).fn
        else:
            self.host.check_body(unit)
            body = unit.body

        owner = f"activity {unit.name!r}"
        what = f"the arguments of {owner}"
        target = signature(body)
        result = target.result
        if unit.result_type is not None:
            result = _faithful.result_of(body, unit.result_type)

        types = _faithful.types_of(target, len(unit.args), unit.arg_types)
        args = b""
        if self.expected is None:
            target.check_count(unit.args, what=owner)
            _faithful.check_result(result, owner=owner)
            parameters = _faithful.expected(target, len(unit.args), unit.arg_types)
            args = _faithful.encode_arguments(unit.args, parameters, owner=owner, what=what)

        digest = _digest.digest(_json.lower_args(unit.args, types, what=what), what=what)
        occurrence = self._occurrences.get((unit.name, unit.key), 0) + 1
        self._occurrences[(unit.name, unit.key)] = occurrence
        if self.expected is None:
            seq = self._collect(unit, args, digest, occurrence)
        else:
            recorded = self.expected.activity(unit, occurrence, digest, types)
            self._compare_text(unit, recorded)
            seq, args = recorded.seq, recorded.args.data

        self.next_seq = max(self.next_seq, seq + 1)
        # Not all that this run has met so far: another order of events must not find other classes.
        modules = (self._module, *modules_of(body), *unit.failure_modules)
        self.modules.update(dict.fromkeys(modules))

        future = ActivityFuture(loop=self._loop, owner=self, seq=seq, unit=unit)
        self.pending[seq] = Pending(
            seq=seq,
            unit=unit,
            args=args,
            result=result,
            modules=modules,
            occurrence=occurrence,
            future=future,
            context=contextvars.copy_context() if unit.in_context else self._context.copy(),
            scheduled_time=self.time,
            effect_scope=self._start.effect_scope,
        )
        return future

    def _collect(self, unit: Unit, args: bytes, digest: str, occurrence: int) -> int:
        options, text = unit.options, None
        if unit.text is not None:
            what = f"the text of activity {unit.name!r}"
            text = self._texts.record(unit.text, self.collected.items, what=what)

        self.collected.commands.append(
            ScheduleActivity(
                seq=self.next_seq,
                name=unit.name,
                args=Payload(data=args),
                digest=digest,
                key=unit.key,
                occurrence=occurrence,
                text=text,
                summary=unit.summary or "",
                timeout=options.start_to_close_timeout,
                schedule_to_close=options.schedule_to_close_timeout,
                schedule_to_start=options.schedule_to_start_timeout,
                max_attempts=options.retry_policy.maximum_attempts,
                heartbeat=options.heartbeat_timeout,
                once=options.delivery == "at_most_once",
            )
        )
        return self.next_seq

    def completed(self, event: ActivityCompleted) -> None:
        """Note the result of an activity, of which later texts may hold parts."""
        if self.expected is None:
            # What a replay passes is looked for no more: it is stored once more, if at all.
            self._texts.completed(event.seq, event.result)

    def cancel_activity(self, future: ActivityFuture) -> None:
        """Ask for the end of an activity, on behalf of its future."""
        if future.seq in self.pending:
            cancel = CancelActivity(seq=future.seq, wait=future.waits, abandon=future.abandons)
            self.issue(cancel)
            if not future.waits:
                del self.pending[future.seq]

    # Timers

    def timer_started(self, handle: Timer) -> None:
        """Note a timer; it becomes a command if it outlives the activation."""
        self.collected.new_timers.append(handle)

    def timer_cancelled(self, handle: Timer) -> None:
        """Withdraw a timer that is a command already; one that is not simply never becomes one."""
        if self.timers.pop(handle.seq, None) is not None:
            self.issue(CancelTimer(seq=handle.seq))

    def settle_timers(self) -> None:
        """Make commands of the timers that the activation leaves running."""
        for handle in self.collected.new_timers:
            if handle.cancelled():
                continue

            self._timer_occurrences += 1
            # To the microsecond: a sum with the seconds since the epoch is not exact beyond that.
            delay = round(handle.when() - self.time, 6)
            occurrence = self._timer_occurrences
            if self.expected is None:
                seq = self.next_seq
                self.collected.commands.append(
                    StartTimer(seq=seq, delay=delay, due=handle.when(), occurrence=occurrence)
                )
            else:
                seq = self.expected.timer(occurrence, delay).seq

            self.next_seq = max(self.next_seq, seq + 1)
            handle.seq = seq
            self.timers[seq] = handle

    # Other runs, and people

    def ask(self, command: Asks, args: tuple[Any, ...], types: tuple[Any, ...]) -> Asks:
        """Ask for what another run, or people, are to do; return what is recorded in its place.

        Args:
            command: What is asked for.
            args: For the other run, or the question.
            types: Theirs.
        """
        if self.expected is None:
            self.collected.commands.append(command)
        else:
            command = self.expected.same(command, args, types)

        self.next_seq = max(self.next_seq, command.seq + 1)
        return command

    # Everything else

    def issue(self, command: Command) -> Command:
        """Ask for what has no identity of its own; return what is recorded in its place."""
        if self.expected is None:
            self.collected.commands.append(command)
            return command

        return self.expected.other(command)

    def annotate(self, name: str, value: Any) -> None:
        """Record a fact for readers; see `durable_core.adapter.Engine.annotate`."""
        if self.expected is None:
            self.collected.notes.append(self._note(name, value))

    def take_notes(self) -> tuple[Note, ...]:
        """Return the notes of the activation, behind those that a replay before it left."""
        notes = (*self._late_notes, *self.collected.notes)
        self._late_notes.clear()
        return notes

    def _note(self, name: str, value: Any) -> Note:
        return Note(name=name, value=_json.encode(value, what=f"the note {name!r}"))

    def _compare_text(self, unit: Unit, recorded: ScheduleActivity) -> None:
        """Note what is asked for in other words than before; a mismatch if the unit is strict."""
        if unit.text is None or recorded.text is None:
            return

        changed = self._texts.changes(recorded.text, unit.text, strict=unit.strict)
        if changed and unit.strict:
            assert self.expected is not None
            raise self.expected.text_error(unit, recorded, changed)

        for key in changed:
            if (unit.name, key) not in self._changed_texts:
                self._changed_texts.add((unit.name, key))
                _log.info(
                    "run %r is replayed with other %s of %s (%s): the recorded answers stand, "
                    "later calls use the new one. See: durable show %s",
                    *(self._start.workflow_id, key, unit.name, unit.key, self._start.workflow_id),
                )
                what = {"activity": unit.name, "key": unit.key, "what": key}
                self._late_notes.append(self._note("text changed", what))
