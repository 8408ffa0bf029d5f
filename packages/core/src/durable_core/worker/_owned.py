"""A run that this worker owns: its activations, their commits, and their effects.

The cycle is: events arrive, the code runs (`Run.activate`), the activation is frozen and committed,
and only then its effects happen: bodies start, timers are set, whoever waits is told. One
activation of a run is under way at a time; what arrives meanwhile goes into the next one.

Invariant: nothing leaves the process before the commit that records why it does.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from durable_core import _clock, _faults, history
from durable_core import exceptions as ex
from durable_core.engine import Pending, Run, python_version
from durable_core.history import (
    Activation,
    ActivityFailed,
    Attempt,
    CancelActivity,
    CancelTimer,
    Event,
    Failure,
    PendingActivity,
    ScheduleActivity,
    StartTimer,
    Taken,
    TimerFired,
)
from durable_core.stores import Append, InboxRow, Outcome, PendingRow

from ._bodies import Bodies, backoff_of_lost, exhausted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from durable_core.stores import Loaded, RunRow, Store

    from ._host import Registered

__all__ = ["LostRunError", "OwnedRun", "stall_record"]

_log = logging.getLogger("durable_core.worker")


class LostRunError(Exception):
    """Internal: another worker owns the run now; look at it anew."""


class OwnedRun:
    """One run, from claim to close. Belongs to the worker's event loop.

    Attributes:
        created: Ends when a run that began here is durable, or with the exception why it is not.
        done: Ends when the run is closed (with the engine's `Run`), or with the exception that
            keeps it from going on here: a bug in its code, a `StoreError`, or `LostRunError`.
    """

    def __init__(
        self,
        run: Run,
        row: RunRow,
        *,
        worker: int,
        identity: str,
        store: Store,
        host: Registered,
        bodies: Bodies,
        forget: Callable[[OwnedRun], None],
    ) -> None:
        self.run = run
        self.row = row
        self.fence = row.fence + 1
        self.done: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(_retrieved)
        self.created: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.created.add_done_callback(_retrieved)
        self._worker = worker
        self._identity = identity
        self._store = store
        self._host = host
        self._bodies = bodies
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._events: list[tuple[Event, int | None]] = []
        self._appending = False
        self._queued = False
        self._ended = False
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._alarms: dict[int, asyncio.TimerHandle] = {}
        self._dues: dict[int, float] = {}
        self._withdrawn: set[int] = set()

    # Becoming the owner

    def begin(self, start: bytes, items: Mapping[str, bytes]) -> None:
        """Create the run and commit it together with its first activation."""
        self._activate(create=(self.row, start), items=items)

    async def take_over(self, loaded: Loaded) -> None:
        """Claim a run that was replayed from its record, and go on with it.

        Raises:
            LostRunError: Somebody else was faster.
        """
        _faults.reach("run.claim.before")
        resumed = self._resume(loaded)
        outcome = await self._store.append(
            Append(
                run_id=self.row.run_id,
                expected_fence=self.row.fence,
                fence=self.fence,
                owner=self._worker,
                claim=True,
                pending=[
                    PendingRow(seq=p.seq, kind="activity", data=history.Packer("").pack(p))
                    for p in resumed.values()
                ],
            )
        )
        if outcome is not Outcome.ACCEPTED:
            self._end(LostRunError(self.row.run_id))
            raise LostRunError(self.row.run_id)

        _faults.reach("run.claim.after")
        if self.row.next_number or loaded.pending:
            self._events.insert(0, (self._taken(), None))

        for seq, state in resumed.items():
            self._start_body(self.run.pending[seq], state.attempts, state.retry_at)

        for seq, handle in self.run.timers.items():
            self._set_alarm(seq, handle.when())

        # A run that never ran begins now. `Taken` alone waits for company, if any is to come.
        if (
            not self.row.next_number
            or len(self._events) > 1
            or not (self.run.pending or self.run.timers)
        ):
            self._wake()

    def _resume(self, loaded: Loaded) -> dict[int, PendingActivity]:
        """Return what is known of each pending activity; an attempt that died is lost."""
        known = {
            p.seq: history.pending_from(p.data)
            for p in loaded.pending
            if p.kind == "activity" and p.data
        }
        settled: set[int] = set()
        for row_id, data in loaded.inbox:
            event = history.resolve(history.event_from(data), dict(loaded.items))
            self._events.append((event, row_id))
            settled.add(getattr(event, "seq", -1))

        resumed: dict[int, PendingActivity] = {}
        for seq, pending in self.run.pending.items():
            if seq in settled:
                continue

            state = known.get(seq, PendingActivity(seq=seq))
            if state.retry_at <= _clock.now() and self.row.next_number:
                lost = Attempt(
                    number=len(state.attempts) + 1,
                    outcome="lost",
                    ended=_clock.now(),
                    fence=self.row.fence,
                )
                attempts = (*state.attempts, lost)
                options = pending.unit.options
                state = PendingActivity(
                    seq=seq,
                    attempts=attempts,
                    retry_at=_clock.now() + backoff_of_lost(options, attempts),
                )

            resumed[seq] = state

        return resumed

    def _taken(self) -> Taken:
        return Taken(
            worker=self._identity, fence=self.fence, python=python_version(), time=_clock.now()
        )

    # Activations

    def deliver(self, event: Event) -> None:
        """Hand an event to the run; it enters the next activation."""
        if not self._ended:
            self._events.append((event, None))
            self._wake()

    def _wake(self) -> None:
        if not self._queued and not self._appending and not self._ended:
            self._queued = True
            self._loop.call_soon(self._activate)

    def _activate(
        self, create: tuple[RunRow, bytes] | None = None, items: Mapping[str, bytes] | None = None
    ) -> None:
        self._queued = False
        if self._ended or self._appending:
            return

        taken, self._events = self._events, []
        events = [e for e, _ in taken]
        dues = [self._dues.pop(e.seq, 0.0) for e in events if isinstance(e, TimerFired)]
        time = max(self.run.time, _clock.now(), *dues, 0.0)
        _faults.reach("run.activated.before")
        try:
            activation = self.run.activate(time, events, self.fence)
            append = self._freeze(activation, [i for _, i in taken if i is not None], create, items)
        except Exception as bug:  # noqa: BLE001  # any bug in workflow code stalls the run
            self._stall(bug, taken, create, items)
            return

        _faults.reach("run.activated.after")
        self._appending = True
        future = self._store.append(append)
        future.add_done_callback(lambda done: self._committed(done, activation))

    def _freeze(
        self,
        activation: Activation,
        taken: Sequence[int],
        create: tuple[RunRow, bytes] | None,
        items: Mapping[str, bytes] | None,
    ) -> Append:
        packer = history.Packer(self.row.lineage, {**(items or {}), **self.run.new_items})
        data = packer.pack(activation)
        resolved = [s for e in activation.events if (s := getattr(e, "seq", None)) is not None]
        resolved += [
            c.seq for c in activation.commands if isinstance(c, (CancelActivity, CancelTimer))
        ]
        pending: list[PendingRow] = []
        if self.run.closed is not None:
            resolved += [*self.run.pending, *self.run.timers]
        else:
            pending = [row for c in activation.commands if (row := self._side_row(c)) is not None]

        claim = create is not None
        return Append(
            run_id=self.row.run_id,
            expected_fence=self.row.fence if claim else self.fence,
            fence=self.fence,
            owner=self._worker,
            claim=claim,
            number=activation.number,
            time=activation.time,
            data=data,
            status=self.run.status,
            lineage=self.row.lineage,
            items=packer.items,
            pending=pending,
            resolved=resolved,
            taken=taken,
            start=create,
        )

    def _side_row(self, command: history.Command) -> PendingRow | None:
        if isinstance(command, ScheduleActivity) and command.seq in self.run.pending:
            return PendingRow(seq=command.seq, kind="activity", name=command.name, key=command.key)

        if isinstance(command, StartTimer):
            return PendingRow(seq=command.seq, kind="timer", due=command.due)

        return None

    def _committed(self, done: asyncio.Future[Outcome], activation: Activation) -> None:
        self._appending = False
        if self._ended:
            return

        if done.cancelled():
            self._end(ex.StoreClosedError("the event loop ended"))
            return

        error = done.exception()
        if error is not None:
            self._end(error)
            return

        match done.result():
            case Outcome.ACCEPTED:
                if not self.created.done():
                    self.created.set_result(None)

                self._effects(activation)
            case Outcome.ID_IN_USE:
                self._end(self._id_in_use())
            case Outcome.REFUSED:
                self._end(LostRunError(self.row.run_id))

    def _effects(self, activation: Activation) -> None:
        if self.run.closed is not None:
            self._end(None)
            return

        for command in activation.commands:
            match command:
                case ScheduleActivity():
                    pending = self.run.pending.get(command.seq)
                    if pending is not None:
                        self._start_body(pending, (), 0.0)
                case StartTimer():
                    self._set_alarm(command.seq, command.due)
                case CancelTimer():
                    alarm = self._alarms.pop(command.seq, None)
                    if alarm is not None:
                        alarm.cancel()
                case CancelActivity():
                    self._withdrawn.add(command.seq)
                    task = self._tasks.get(command.seq)
                    if task is not None:
                        task.cancel()
                case _:
                    pass

        if self._events:
            self._wake()

    # Effects

    def _start_body(self, pending: Pending, earlier: tuple[Attempt, ...], retry_at: float) -> None:
        if earlier and earlier[-1].outcome == "lost" and exhausted(pending.unit.options, earlier):
            failure = self._host.failures.record(
                ex.ApplicationError(
                    f"activity {pending.unit.name!r} was running when its worker died, and its "
                    "retry policy allows no further attempt",
                    type="AttemptLost",
                )
            )
            self.deliver(
                ActivityFailed(
                    seq=pending.seq,
                    failure=failure,
                    retry_state=ex.RetryState.MAXIMUM_ATTEMPTS_REACHED,
                    attempts=earlier,
                )
            )
            return

        if pending.future.cancel_sent:
            # Withdrawn before it began, or before its worker died: nothing is left to wait for.
            self.deliver(self._bodies.cancelled(pending, earlier))
            return

        coro = self._run_body(pending, earlier, retry_at)
        self._tasks[pending.seq] = self._loop.create_task(coro, context=pending.context)

    async def _run_body(
        self, pending: Pending, earlier: tuple[Attempt, ...], retry_at: float
    ) -> None:
        unit = pending.unit
        body = unit.body if unit.body is not None else self._host.activity(unit.name).fn

        async def remember(attempts: tuple[Attempt, ...], next_at: float) -> None:
            state = PendingActivity(seq=pending.seq, attempts=attempts, retry_at=next_at)
            await self._store.append(
                Append(
                    run_id=self.row.run_id,
                    expected_fence=self.fence,
                    fence=self.fence,
                    owner=self._worker,
                    pending=[
                        PendingRow(
                            pending.seq,
                            "activity",
                            unit.name,
                            unit.key,
                            None,
                            history.Packer("").pack(state),
                        )
                    ],
                )
            )

        try:
            event = await self._bodies.run(
                self.run.start, pending, body, self.fence, earlier, retry_at, remember
            )
        except asyncio.CancelledError:
            if pending.seq not in self._withdrawn:
                # The worker ends: the attempt is lost, and the next owner records it.
                raise

            event = self._bodies.cancelled(pending, earlier)
        except ex.StoreError as error:
            self._end(error)
            return
        finally:
            self._tasks.pop(pending.seq, None)

        if pending.seq in self.run.pending:
            self.deliver(event)

    def _set_alarm(self, seq: int, due: float) -> None:
        self._dues[seq] = due
        self._alarms[seq] = self._loop.call_later(max(0.0, due - _clock.now()), self._fire, seq)

    def _fire(self, seq: int) -> None:
        self._alarms.pop(seq, None)
        if seq in self.run.timers:
            self.deliver(TimerFired(seq=seq))

    # Ending

    def _stall(
        self,
        bug: BaseException,
        taken: Sequence[tuple[Event, int | None]],
        create: tuple[RunRow, bytes] | None = None,
        items: Mapping[str, bytes] | None = None,
    ) -> None:
        """Keep what the failed activation received, record why it failed, and let the run go."""
        failure = self._host.failures.record(bug)
        _log.error(
            "run %r stalled: %s: %s. Its history is kept; fixed code continues it. See: durable "
            "show %s",
            self.row.workflow_id,
            failure.type,
            failure.message,
            self.row.workflow_id,
            exc_info=bug,
        )
        # The run in memory is dead: what arrives from now on is kept, and starts no activation.
        self._appending = True
        packer = history.Packer(self.row.lineage, dict(items or {}))
        inbox = self._unread([*taken, *self._events], packer)
        self._events = []
        append = Append(
            run_id=self.row.run_id,
            expected_fence=self.fence if create is None else self.row.fence,
            fence=self.fence,
            owner=self._worker,
            claim=create is not None,
            release=True,
            start=create,
            lineage=self.row.lineage,
            items=packer.items,
            inbox=inbox,
            stall=stall_record(failure, self.run.next_number, self._identity),
        )
        future = self._store.append(append)
        future.add_done_callback(lambda done: self._stalled(done, bug, append))

    @staticmethod
    def _unread(
        events: Sequence[tuple[Event, int | None]], packer: history.Packer
    ) -> list[InboxRow]:
        """Return the rows of events that are only in memory.

        A timer fires again by itself, and the change of owner is recorded by the next owner.
        """
        now = _clock.now()
        return [
            InboxRow(request=f"seq:{getattr(e, 'seq', 0)}", arrived=now, data=packer.pack(e))
            for e, row_id in events
            if row_id is None and not isinstance(e, (TimerFired, Taken))
        ]

    def _stalled(self, done: asyncio.Future[Outcome], bug: BaseException, append: Append) -> None:
        if done.cancelled() or done.exception() is not None:
            self._end(
                ex.StoreClosedError("the event loop ended")
                if done.cancelled()
                else done.exception()
            )
        elif done.result() is Outcome.ACCEPTED:
            if not self.created.done():
                self.created.set_result(None)

            self._end_stalled(bug, append)
        elif self.created.done() and append.claim:
            # Somebody else took the run before the latecomers could be added.
            self._end(bug)
        elif done.result() is Outcome.ID_IN_USE:
            self._end(self._id_in_use())
        else:
            self._end(LostRunError(self.row.run_id))

    def _end_stalled(self, bug: BaseException, append: Append) -> None:
        """Add to the inbox what a body brought while the stall was being written, then end."""
        packer = history.Packer(self.row.lineage)
        late = self._unread(self._events, packer)
        self._events = []
        if not late:
            self._end(bug)
            return

        again = Append(
            run_id=self.row.run_id,
            expected_fence=append.fence,
            fence=append.fence + 1,
            owner=self._worker,
            claim=True,
            release=True,
            lineage=self.row.lineage,
            items=packer.items,
            inbox=late,
            stall=append.stall,
        )
        future = self._store.append(again)
        future.add_done_callback(lambda done: self._stalled(done, bug, again))

    def _id_in_use(self) -> ex.WorkflowAlreadyStartedError:
        return ex.WorkflowAlreadyStartedError(
            f"a run with the workflow id {self.row.workflow_id!r} is open: use its handle, or "
            "another id",
            workflow_id=self.row.workflow_id,
        )

    def drop(self) -> None:
        """Let the run go without recording anything: the worker ends."""
        self._end(ex.StoreClosedError("the worker was shut down"))

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The bodies that are running."""
        return list(self._tasks.values())

    def _end(self, error: BaseException | None) -> None:
        if self._ended:
            return

        self._ended = True
        for alarm in self._alarms.values():
            alarm.cancel()

        for task in self._tasks.values():
            task.cancel()

        self._forget(self)
        self.run.close()
        if error is None:
            self.done.set_result(self.run)
            return

        self.done.set_exception(error)
        if not self.created.done():
            self.created.set_exception(error)


def stall_record(failure: Failure, activation: int, worker: str) -> str:
    """Return the JSON that says why a run stalled."""
    return json.dumps(
        {
            "cause": f"{failure.type}: {failure.message}",
            "stack": failure.stack,
            "time": _clock.now(),
            "worker": worker,
            "activation": activation,
        }
    )


def _retrieved(done: asyncio.Future[Any]) -> None:
    """Mark the exception as seen: a run without a waiter has said so in the log and in its row."""
    if not done.cancelled():
        done.exception()
