"""A run that this worker owns: its activations, their commits, and their effects.

The cycle is: events arrive, the code runs (`Run.activate`), the activation is frozen and committed,
and only then its effects happen: bodies start, timers are set, whoever waits is told. One
activation of a run is under way at a time; what arrives meanwhile goes into the next one.

Invariant: nothing leaves the process before the commit that records why it does.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable_core import _faults
from durable_core import exceptions as ex
from durable_core._planted import planted
from durable_core.engine import python_version
from durable_core.history import Activation, CancelActivity, Event, RetryAsked, Taken, TimerFired
from durable_core.stores import Append, Outcome, Reuse, RunRow, _stalls

from . import _takeover
from ._appends import Appends, Creation, creation_of, failure_of, is_of_code, log_stall
from ._arrived import (
    Arrived,
    Inbox,
    LostRunError,
    ReleasedRunError,
    Waiters,
    accept,
    refuse,
    retrieved,
)
from ._children import claimed, revived
from ._replies import Replies
from ._work import Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from durable_core.engine import Run
    from durable_core.stores import Loaded

    from ._rewind import Rewind
    from ._worker import Worker

__all__ = ["LostRunError", "OwnedRun", "ReleasedRunError"]


class OwnedRun:
    """One run, from claim to close. Belongs to the worker's event loop.

    Attributes:
        run: The run in memory.
        row: Its row as it was before this worker owned it.
        inbox: How far its inbox was read.
        created: Ends when a run that began here is durable, or with the exception why it is not.
        record: Its activations in force, if every activation is to replay them.
        replies: Who waits for the answers of updates.
        work: Its bodies and alarms.
        alone: Whether no caller waits for it, although it is bound.
        done: Ends when the run is closed (with the engine's `Run`), or with the exception that
            keeps it from going on here: a bug in its code, a `StoreError`, or `LostRunError`.
    """

    def __init__(self, run: Run, row: RunRow, *, worker: Worker) -> None:
        self.run = run
        self.row = row
        self.fence = row.fence + 1
        self.record: list[Activation] | None = [] if worker.replays_always else None
        self.alone = False
        self.done: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(retrieved)
        self.created: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.created.add_done_callback(retrieved)
        self._worker = worker
        self._store = worker.store
        self._clock = worker.clock
        self._loop = asyncio.get_running_loop()
        # Told of each commit, of what bodies brought, and of the end.
        self._settled = Waiters()
        self.work = Work(
            start=run.start,
            fence=self.fence,
            bodies=worker.bodies,
            host=worker.registered,
            clock=worker.clock,
            deliver=self._brought,
            fire=self._fire,
            remember=lambda *known: self._store.append(self._appends.remember(*known)),
            wanted=lambda seq: seq in self.run.pending,
            broken=self._end,
            interrupted=self._let_go,
            resting=self._settled.wake,
            flush=lambda: self._store.append(self._appends.chunks()),
        )
        member = worker.membership.number
        self._appends = Appends(row, self.fence, member, run.start, self.work.outbox)
        self._events, self.inbox = list[Arrived](), Inbox()
        self._claimed = self._appending = self._queued = False
        self._ended = self._leaving = self._paused = False
        self._claiming: asyncio.Future[Outcome] | None = None
        self._leaver: asyncio.Task[None] | None = None
        self.replies = Replies()
        run.wake = self._wake_from_any_thread

    # Becoming the owner

    def begin(
        self, start: bytes, items: Mapping[str, bytes], *, reuse: Reuse, events: Sequence[Event]
    ) -> None:
        """Create the run and commit it together with its first activation, and events for it."""
        self.inbox.seen = self.inbox.sent
        self._events += [Arrived(event) for event in events]
        self.activate(create=Creation((self.row, start), items, reuse))

    async def take_over(self, loaded: Loaded, rewind: Rewind | None) -> None:
        """Claim a run that was rebuilt from its record, and go on with it.

        Args:
            loaded: The record.
            rewind: How far it went back, if it had ended.

        Raises:
            LostRunError: Somebody else was faster.
        """
        _faults.reach("run.claim.before")
        for number, event in _takeover.inbox_of(loaded):
            self.receive_row(number, event)

        run, now = self.run, self._clock.now()
        # A run that was let go had nothing under way that its row does not tell.
        lost = rewind is None and self.row.owner is not None
        if rewind is not None:
            run.next_number = self.row.next_number
            identity = self._worker.identity
            first, kept = _takeover.rewound(run, loaded, rewind, client=identity, time=now)
            again = [Arrived(e, recorded=True) for e in kept]
            self._events[:0] = [Arrived(first), Arrived(self._taken()), *again]

        settled = {getattr(a.event, "seq", -1) for a in self._events}
        resumed = _takeover.resumed(run, loaded, settled, now, lost=lost)
        self.work.outbox.resume(loaded, resumed, run, rewind)
        rows = _takeover.rows_of(run, resumed, None if rewind is None else settled)
        revives = [] if rewind is None else revived(run, self._events)
        claim = self._appends.claim(rows, reopen=rewind is not None, revives=revives)
        # Nothing is activated before it goes on below.
        self._appending = True
        self._claiming = claimed(self._store, claim, run, self._events)
        try:
            outcome = await asyncio.shield(self._claiming)
        except Exception as error:
            # Else it would pass for one that is loaded here, and nobody would take it any more.
            self._end(error)
            raise

        if outcome is not Outcome.ACCEPTED or self._ended or self._leaving:
            if not self._leaving:
                self.lose()

            raise LostRunError(self.row.run_id)

        self._appending = False
        _faults.reach("run.claim.after")
        self._claimed = True
        if rewind is None and (self.row.next_number or loaded.pending):
            self._events.insert(0, Arrived(self._taken()))

        _takeover.warn_of_waits(self.row.workflow_id, run, resumed, now)
        for seq, state in resumed.items():
            self.work.start_body(run.pending[seq], state)

        for seq, handle in () if planted("timer.forgotten") else run.timers.items():
            self.work.set_alarm(seq, handle.when())

        # A run that never ran begins now. `Taken` alone waits for company, if any is to come.
        waits = run.pending or run.timers
        if rewind or not self.row.next_number or len(self._events) > 1 or not waits:
            self._wake()

        self._settled.wake()

    def _taken(self) -> Taken:
        who, now = self._worker.identity, self._clock.now()
        return Taken(worker=who, fence=self.fence, python=python_version(), time=now)

    # What arrives

    def receive(self, event: Event) -> asyncio.Future[None]:
        """Hand in an event from outside; the future ends when it is durable.

        Raises (through the future):
            LostRunError: It is not: the run has ended, or is owned by somebody else.
        """
        accepted: asyncio.Future[None] = self._loop.create_future()
        if self._ended:
            accepted.set_exception(LostRunError(self.row.run_id))
        else:
            self._events.append(Arrived(event, accepted=accepted))
            self._wake()

        return accepted

    async def caught_up(self) -> None:
        """Wait until the inbox holds nothing that this process sent and that is not received.

        Raises:
            LostRunError: The run has ended, or is owned by somebody else.
        """
        while self.inbox.seen < self.inbox.sent:
            if self._ended:
                raise LostRunError(self.row.run_id)

            self._worker.look_again()
            await self._settled.wait()

    @property
    def behind(self) -> bool:
        """Whether it is owned, and its inbox is to be looked at before more comes from here."""
        return self._claimed and self.inbox.seen < self.inbox.sent

    def looked(self, sent: int) -> None:
        """Note that its inbox was looked at, which held what had been sent when that began."""
        self.inbox.seen = sent
        self._settled.wake()

    def receive_row(self, number: int, event: Event) -> None:
        """Hand in an event that is in the inbox; one that was handed in before is ignored."""
        if number not in self.inbox.rows and not self._ended:
            self.inbox.rows.add(number)
            self._events.append(Arrived(event, row=number))
            if self._claimed:
                self._wake()

    def _brought(self, event: Event) -> None:
        """Take the outcome of an activity."""
        self._settled.wake()
        if not self._ended and getattr(event, "seq", None) in self.run.pending:
            self._events.append(Arrived(event))
            self._wake()

    def _fire(self, seq: int) -> None:
        if not self._ended and seq in self.run.timers:
            self._events.append(Arrived(TimerFired(seq=seq)))
            self._wake()

    def _wake(self) -> None:
        if not (self._queued or self._appending or self._leaving or self._ended):
            self._queued = True
            self._worker.activations.soon(self.activate)

    def _wake_from_any_thread(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._wake)

    # Activations

    def activate(self, create: Creation | None = None) -> None:
        """Run its code on what has arrived, and commit what comes of it."""
        self._queued = False
        if self._ended or self._appending or self._leaving:
            return

        # What nobody owns yet is not acted for before its first commit, which needs no lease.
        if self._claimed and not self._worker.membership.holds():
            self._queued = True
            asking = self._loop.create_task(self._worker.membership.confirm())
            asking.add_done_callback(self._told)
            return

        taken, self._events = self._events, []
        events = [a.event for a in taken]
        dues = [self.work.due(e.seq) for e in events if isinstance(e, TimerFired)]
        time = max(self.run.time, self._clock.now(), *dues, 0.0)
        _faults.reach("run.activated.before")
        try:
            with self._worker.watchdog.watching(self.row.workflow_id):
                self._worker.refresh(self)
                activation = self.run.activate(time, events, self.fence)

            sooner = self.work.sooner(events, self._clock.now())
            append = self._appends.activation(self.run, activation, taken, create, sooner)
        except Exception as bug:  # noqa: BLE001  # any bug in workflow code stalls the run
            self._stall(bug, taken, create)
            return

        _faults.reach("run.activated.after")
        self._appending = True
        future = self._store.append(append)
        if planted("ack.early"):
            accept(taken)

        if activation is not None and planted("effects.early"):
            self._effects(activation)
            activation = replace(activation, commands=())

        future.add_done_callback(lambda done: self._committed(done, activation, taken, append))

    def _told(self, asking: asyncio.Task[None]) -> None:
        self._queued = False
        error = None if asking.cancelled() else asking.exception()
        if error is not None:
            self._end(error)
        else:
            self._wake()

    def _committed(
        self,
        done: asyncio.Future[Outcome],
        activation: Activation | None,
        taken: Sequence[Arrived],
        append: Append,
    ) -> None:
        self._appending = False
        outcome = failure_of(self.row, done)
        if outcome is None:
            # Also of a run that was dropped meanwhile, and on a lease that is past: what was
            # committed is told by who committed it, for its next owner will not.
            self.run.call_back()
            self.replies.settle(append.replies)

        if self._ended:
            if outcome is None:
                accept(taken)
                self._worker.dropped(self.row)
            else:
                refuse(taken, self.row.run_id)

            return

        self.work.outbox.put_back(append.chunks if outcome is not None else ())
        if isinstance(outcome, ex.SearchAttributeError) and is_of_code(outcome, self.run, append):
            self._stall(outcome, taken, creation_of(append))
            return

        if isinstance(outcome, BaseException):
            # Whether those who wait for it may count on it is not known; they will look again.
            self._events[:0] = taken
            if not (self._claimed and isinstance(outcome, LostRunError)):
                self._end(outcome)
            elif self._leaver is None and not self._leaving:
                # Perhaps something came that is to be read first: keep what bodies brought (R4).
                leaves = self.hand_over(waits=append.status == "running")
                self._leaver = self._loop.create_task(leaves)

            self._settled.wake()
            return

        self._claimed = True
        if not self.created.done():
            self.created.set_result(None)

        accept(taken)
        if append.posts or append.children or append.successor:
            # For what others were told that are loaded here, and for its own answers.
            self._worker.look_again(takes_runs=bool(append.children))

        if activation is not None:
            self._worker.committed(self, activation)
            self._effects(activation)
        elif self._events:
            self._wake()

        self._settled.wake()

    def _effects(self, activation: Activation) -> None:
        for command in activation.commands:
            if isinstance(command, CancelActivity) and command.abandon:
                self.work.abandon(command.seq)

        if self.run.closed is not None:
            self.run.handlers.warn_of_unfinished()
            self._end(None)
            return

        # What a paused run asked for begins with its next owner.
        for command in () if self._paused else activation.commands:
            self.work.begin(command, self.run.pending)

        for event in activation.events:
            if isinstance(event, RetryAsked):
                self.work.retry_now(event.activity)

        if self._events or self.run.broken:
            self._wake()

    # Looking

    @property
    def open(self) -> bool:
        """Whether the store says that this worker owns it, and nothing else is on its way."""
        return self._claimed and not self._appending and not self._ended

    def wants(self, number: int) -> bool:
        """Return whether an event of the inbox is new to it."""
        return self._claimed and not self._ended and number not in self.inbox.rows

    @property
    def idle(self) -> bool:
        """Whether nothing is to do before a timer, a backoff or an event from outside."""
        # `Taken` alone waits for company.
        nothing = all(isinstance(a.event, Taken) for a in self._events)
        return self.open and not self._queued and nothing and not self.work.executing

    async def query(self, name: str, args: bytes) -> bytes:
        """Answer a query on what is committed.

        Raises:
            LostRunError: The run is not here any more.
            WorkflowQueryFailedError: There is none of that name, or it raised.
        """
        while (self._appending or self._queued) and not self._ended:
            await self._settled.wait()

        if self._ended:
            raise LostRunError(self.row.run_id)

        with self._worker.watchdog.watching(self.row.workflow_id):
            return self.run.query(name, args)

    # Ending

    def release(self) -> None:
        """Let an idle run go until its next timer, attempt or event is due; it costs one row then.

        Does nothing unless it is idle.
        """
        if not self.idle:
            return

        self._appending = True
        now = self._clock.now()
        # Attempts that failed may be known here alone, before a short backoff.
        cut = self.work.cut_off(now, "cancelled")
        append = self._appends.release(self.work.next_due(), cut=cut, now=now)
        # What is due before it is written is for the next owner.
        self.work.stop()
        future = self._store.append(append)
        future.add_done_callback(self._released)

    def _released(self, done: asyncio.Future[Outcome]) -> None:
        # What arrived meanwhile was not acknowledged; whoever sent it sends it to the next owner,
        # and a body that returned meanwhile cannot be: none ran.
        self._end(failure_of(self.row, done) or ReleasedRunError(self.row.run_id))

    def _stall(
        self, bug: BaseException, taken: Sequence[Arrived], create: Creation | None = None
    ) -> None:
        """Keep what the failed activation received, record why it failed, and let the run go."""
        failure = self._worker.registered.failures.record(bug)
        # A caller gets it raised; once is enough.
        log_stall(self.row, failure, bug if self.alone or not self.row.bound else None)
        # The run in memory is dead: what arrives from now on is kept, and starts no activation.
        self._appending = True
        arrived = [*taken, *self._events]
        self._events = []
        now = self._clock.now()
        progressed = self.run.next_number > self.row.next_number
        before = None if progressed else self.row.stall
        append = self._appends.stall(
            _stalls.stall_of(failure, self.run.next_number, self._worker.instance, now, before),
            left=arrived,
            cut=self.work.cut_off(now, "lost"),
            now=now,
            create=create,
        )
        future = self._store.append(append)
        future.add_done_callback(lambda done: self._stalled(done, bug, append, arrived))

    def _stalled(
        self,
        done: asyncio.Future[Outcome],
        bug: BaseException,
        append: Append,
        arrived: Sequence[Arrived],
    ) -> None:
        outcome = failure_of(self.row, done)
        if outcome is None:
            if not self.created.done():
                self.created.set_result(None)

            accept(arrived)
            self._end_stalled(bug, append)
        elif isinstance(outcome, LostRunError) and self.created.done() and append.claim:
            # Somebody else took the run before the latecomers could be added.
            self._end(bug)
        else:
            self._end(outcome)

    def _end_stalled(self, bug: BaseException, append: Append) -> None:
        """Add to the inbox what arrived while the stall was being written, then end."""
        late, self._events = self._events, []
        again = self._appends.late(append, late, self._clock.now())
        if again is None:
            self._end(bug)
            return

        future = self._store.append(again)
        future.add_done_callback(lambda done: self._stalled(done, bug, again, late))

    def lose(self, why: BaseException | None = None) -> None:
        """Let the run go: others own it, it was ended from outside, or ``why`` says it."""
        self._end(why or LostRunError(self.row.run_id))

    @property
    def leaving(self) -> bool:
        """Whether it is being handed over."""
        return self._leaving

    def pause(self) -> None:
        """Take no step more, and let the run go as soon as no body of it runs."""
        if self._leaver is None and not self._leaving and not self._ended:
            self._leaving = self._paused = True
            self.work.hold()
            self._leaver = self._loop.create_task(self.hand_over(waits=True))

    async def hand_over(self, why: str | None = None, *, waits: bool = False) -> None:
        """Let the run go to whoever takes it next, perhaps this worker.

        What arrived and was in no activation yet goes to the inbox; the attempts that are cut off
        are no failures.

        Args:
            why: For whoever waits for the run; None lets them look for it again.
            waits: Whether bodies that run come to their end first.
        """
        self._leaving = True
        if self._claiming is not None and not self._claimed:
            # Its taker may be gone, and what it claims must not stay with a worker that ends.
            await asyncio.wait([self._claiming])
            self._appending = False
            written = failure_of(self.row, self._claiming) is None
        else:
            while (self._appending or (waits and self.work.executing)) and not self._ended:
                await self._settled.wait()

            written = self._claimed

        released = written and await self._write_release()
        # One that could not be let go may still be owned here, and is to be taken again.
        gone = ReleasedRunError if released else LostRunError
        self._end(gone(self.row.run_id) if why is None else ex.StoreClosedError(why))

    async def _write_release(self) -> bool:
        if self._appending or self._ended:
            return False

        self._appending = True
        now = self._clock.now()
        left, self._events = self._events, []
        cut = self.work.cut_off(now, "cancelled")
        due = self.work.next_due()
        fired = any(isinstance(a.event, TimerFired) for a in left)
        if fired or self._paused or not self._claimed:
            # Taken and not begun, or a timer that has fired and fires again for the next owner.
            due = now

        # None may bring an outcome that the next owner does not know of.
        self.work.stop()
        append = self._appends.release(due, left=left, cut=cut, now=now)
        # One that is refused, or cannot be written, leaves what a crash would have left.
        (outcome,) = await asyncio.gather(self._store.append(append), return_exceptions=True)
        if outcome is Outcome.ACCEPTED:
            accept(left)
        else:
            refuse(left, self.row.run_id)

        return outcome is Outcome.ACCEPTED

    def _let_go(self) -> None:
        """Release the run: a body of it was ended by what ends programs, and this one goes on."""
        if not self._ended and self._leaver is None:
            id_ = self.row.workflow_id
            why = (
                f"a body of run {id_!r} was ended by SystemExit or Ctrl-C; the run is kept, and "
                f"calling it again continues it. See: durable show {id_}"
            )
            self._leaver = self._loop.create_task(self.hand_over(why))

    def _end(self, error: BaseException | None) -> None:
        if self._ended:
            return

        self._ended = True
        self.work.stop()
        self._worker.forget(self, error)
        self.run.close()
        refuse(self._events, self.row.run_id)
        self._settled.wake()
        self.replies.end()
        if error is None:
            self.done.set_result(self.run)
            return

        self.done.set_exception(error)
        if not self.created.done():
            self.created.set_exception(error)
