"""The worker: owns runs of one task queue and executes their activities.

A worker belongs to the event loop that started it (ENGINE R24): workflow code and async bodies run
there, sync bodies in threads. It ends with its loop at the latest; runs are then released, not
lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Self

from durable_core import _defaults, _forks, _ids, history
from durable_core import exceptions as ex
from durable_core.engine import Run
from durable_core.history import Packer
from durable_core.stores import _stalls

from . import _retention, _takeover
from ._activations import Activations
from ._appends import stall_unloaded
from ._bodies import Bodies
from ._claims import Claims
from ._eviction import evict
from ._host import Registered
from ._membership import Membership, lease_of
from ._options import cached_runs
from ._owned import LostRunError, OwnedRun, ReleasedRunError
from ._questions import answer_questions
from ._replay import Record, rebuild, rebuild_at_once
from ._rewind import rewind_of
from ._start import row_of
from ._watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from durable_core._clock import Clock
    from durable_core.client import Client
    from durable_core.history import Activation, Event, Start
    from durable_core.stores import Loaded, Reuse, RunRow, Store

__all__ = ["Worker"]

_log = logging.getLogger("durable_core.worker")


class Worker:
    """Owns runs of one task queue and executes their activities, from `async with` or `run`.

    Args:
        client: Where the runs live. The worker uses its store; close the client after the worker.
        task_queue: Name of the queue that runs are started on.
        workflows: Workflow classes and functions that it executes.
        activities: Functions with `activity.defn` that it executes.
        identity: Name in histories; ``pid@host`` by default.
        max_concurrent_activities: How many bodies may run at the same time.
        max_cached_workflows: How many runs stay in memory while they wait; 1,000 unless
            ``$DURABLE_MAX_CACHED_WORKFLOWS`` says otherwise. With 0 every activation replays its
            run from the start, which finds code that is not deterministic: for tests.
        build_id: Which code this is. A run that stalled is tried at once by a worker of another
            build, and by one that was started later.
        lease: While it owns runs it says within this time that it lives, 10 seconds by default; it
            does so from a thread of its own, however busy its code is. A worker that is stopped for
            longer loses its runs to others. One whose process ends loses them at once.
        retention: How long runs of its queue are kept after their end, 30 days unless
            ``$DURABLE_RETENTION_DAYS`` says otherwise; None is for ever. Then they are forgotten,
            and their ids are free again. Of several workers of a queue the shortest time counts.

    Raises:
        DefinitionError: A workflow or activity is not decorated, or two have one name.
        ValueError: A number or a time is too small.
    """

    activations: Activations

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        workflows: Sequence[Callable[..., Any]] = (),
        activities: Sequence[Callable[..., Any]] | None = (),
        identity: str | None = None,
        max_concurrent_activities: int = _defaults.BODIES_AT_ONCE,
        max_cached_workflows: int | None = None,
        build_id: str = "",
        lease: timedelta | None = None,
        retention: timedelta | _retention.Default | None = _retention.DEFAULT,
    ) -> None:
        if max_concurrent_activities < 1:
            raise ValueError(
                f"max_concurrent_activities must be 1 or more, got {max_concurrent_activities}"
            )

        self.task_queue = task_queue
        self.identity = identity or _ids.process_identity()
        self.clock: Clock = client.clock
        self._client = client
        self._pid = os.getpid()
        self._registered = Registered(workflows, activities, any_workflow=activities is None)
        self._at_once = max_concurrent_activities
        self._cached = cached_runs(max_cached_workflows)
        self._build_id = build_id
        self._lease = lease_of(lease)
        self._keep = _retention.keep_for(retention)
        # By run id, the one whose last activation is longest ago first.
        self._owned: dict[str, OwnedRun] = {}
        self._active: dict[str, float] = {}
        self._by_workflow_id: dict[tuple[str, str], OwnedRun] = {}
        self._claims = Claims(self, client.namespace)
        self._membership: Membership | None = None
        self._instance: _stalls.Instance | None = None
        self._bodies: Bodies | None = None
        self._watchdog: Watchdog | None = None
        self._poller: asyncio.Task[None] | None = None
        self._purger: asyncio.Task[None] | None = None
        self._answerer: asyncio.Task[None] | None = None
        self._looked_at = -1
        self._stopped: asyncio.Event | None = None
        self._leaving = False

    # Life

    async def __aenter__(self) -> Self:
        """Start to take runs."""
        await self.start(takes_runs=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; see `shutdown`."""
        await self.shutdown()

    async def run(self) -> None:
        """Work until `shutdown` is called or the task is cancelled."""
        async with self:
            if self._stopped is not None:
                await self._stopped.wait()

    async def start(self, *, takes_runs: bool = False) -> None:
        """Register with the store.

        Args:
            takes_runs: Whether the worker takes runs of its queue by itself.

        Raises:
            StoreError: The store cannot be written.
        """
        self._check_process()
        if self._membership is not None:
            raise RuntimeError("this worker is started already")

        self._leaving = False
        self.activations = Activations()
        self._stopped = asyncio.Event()
        membership = Membership(self.store, self.identity, self._lease, self._expelled)
        await membership.join()
        self._membership = membership
        self._instance = _stalls.Instance(
            self.identity, _ids.uuid7(), self.clock.now(), self._build_id
        )
        self._bodies = Bodies(
            self.identity, self._registered.failures, self._at_once, self.clock, membership
        )
        self._watchdog = Watchdog()
        self._client.attach(self)
        self._claims.wanted = takes_runs
        self._poller = asyncio.create_task(self._poll(), name="durable-worker-poll")
        answer = answer_questions(self, self._client)
        self._answerer = asyncio.create_task(answer, name="durable-worker-answer")
        purge = _retention.purge_now_and_then(
            self.store, self._client.namespace, self.task_queue, self._keep
        )
        self._purger = asyncio.create_task(purge, name="durable-worker-purge")

    async def shutdown(self) -> None:
        """Stop the bodies, drop the runs from memory and release them for other workers.

        Raises:
            NotSupported: It was started before a fork, in the parent, which goes on with it.
        """
        self._check_process()
        if self._membership is None:
            return

        self._leaving = True
        self._client.detach(self)
        for background in (self._poller, self._purger, self._answerer):
            if background is not None:
                background.cancel()
                await asyncio.gather(background, return_exceptions=True)

        membership = self._membership
        try:
            tasks = [task for owned in self._owned.values() for task in owned.work.tasks]
            why, owned = "the worker was shut down", list(self._owned.values())
            await asyncio.gather(*(each.hand_over(why) for each in owned))
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._membership = None
            self.close_threads()
            if self._stopped is not None:
                self._stopped.set()

            await membership.leave()

    def close_threads(self) -> None:
        """Let the threads of bodies and the watchdog end."""
        if self._bodies is not None:
            self._bodies.close()

        if self._watchdog is not None:
            self._watchdog.stop()

    # What clients of this process ask

    @property
    def ending(self) -> bool:
        """Whether its event loop is being ended, which cancels every task."""
        poller = self._poller
        return poller is None or poller.done() or poller.cancelling() > 0

    @property
    def at_rest(self) -> bool:
        """Whether nothing happens here before a timer, a backoff or an event from outside."""
        looked = self._looked_at == self._client.changes.count
        return looked and all(owned.idle for owned in self._owned.values())

    def look_again(self, *, takes_runs: bool = False) -> None:
        """Look for what came now, not when the poll is due.

        Args:
            takes_runs: Whether it is to take runs of its queue from now on: a run here has started
                one.
        """
        self._claims.wanted |= takes_runs
        self._client.changes.notify()

    @property
    def registered(self) -> Registered:
        """What the worker knows."""
        return self._registered

    def serves(self, task_queue: str, workflow_type: str) -> bool:
        """Return whether a run of that queue and type could start here."""
        return (
            self._membership is not None
            and task_queue == self.task_queue
            and self._registered.knows_workflow(workflow_type)
        )

    def owned_as(self, namespace: str, workflow_id: str) -> OwnedRun | None:
        """Return the run of a workflow id that is loaded here, if one is."""
        return self._by_workflow_id.get((namespace, workflow_id))

    def loaded(self, run_id: str) -> bool:
        """Return whether a run is in memory here."""
        return run_id in self._owned

    def owns(self, row: RunRow) -> bool:
        """Return whether this worker is the owner that a row names, be the run loaded or not."""
        return self._membership is not None and self._membership.owns(row)

    async def ready(self) -> None:
        """Return when the worker may take runs: after it was taken for dead, as a new one.

        Raises:
            StoreError: The store cannot be written, or the worker is being shut down.
        """
        self._check_stays()
        await self.membership.join()

    def begin(
        self,
        start: Start,
        *,
        context: contextvars.Context | None = None,
        resources: Mapping[str, Any] | None = None,
        reuse: Reuse = "always",
        events: Sequence[Event] = (),
    ) -> OwnedRun:
        """Create a run here: its start and its first activation, with events, become one commit.

        The caller awaits `OwnedRun.created` before it acknowledges anything. If that raises
        `LostRunError`, most likely nothing was created; try again after `ready`.

        Raises:
            StoreClosedError: The worker is being shut down.
        """
        self._check_stays()
        packer = Packer(start.lineage)
        data = packer.pack(start)
        definition = self._registered.workflow(start.workflow_type)
        run = Run(start, definition, self._registered, context=context, resources=resources)
        owned = self._own(run, row_of(start))
        owned.begin(data, packer.items, reuse=reuse, events=events)
        return owned

    async def take(
        self,
        row: RunRow,
        *,
        context: contextvars.Context | None = None,
        resources: Mapping[str, Any] | None = None,
        reopen: bool = False,
        insist: bool = False,
    ) -> OwnedRun:
        """Load a run, replay it, and become its owner.

        Args:
            row: The run.
            context: For its code and async bodies; that of the caller by default.
            resources: Live objects for its code.
            reopen: Whether it may have ended without a result; it is then taken up before the
                failure that ended it.
            insist: Whether somebody waits for it, who may go on however often it was taken over.

        Raises:
            LostRunError: Somebody else became its owner meanwhile.
            Exception: The code met a mismatch or a bug in replay; the run has stalled.
            StoreError: It cannot be read or written, or the worker is being shut down.
        """
        await self.ready()
        loaded = await self.store.load(row)
        fresh = loaded.row
        if fresh.fence != row.fence or (fresh.status != "running" and not reopen):
            raise LostRunError(row.run_id)

        record = Record(loaded)
        rewind = rewind_of(record.activations)
        if rewind is not None:
            record.activations = list(rewind.kept)

        try:
            if fresh.takeovers > _defaults.CRASH_LOOP_TAKEOVERS and not insist:
                _takeover.check_crash_loop(fresh, self.instance)

            run = await self._rebuild(record, context, resources)
            run.updates.rejections.update(loaded.rejected)
        except Exception as error:
            if fresh.status == "running":
                await self._stall(fresh, error)

            raise

        if self._leaving:
            run.close()
            self._check_stays()

        self._claims.taken(row.run_id)
        self._claims.wanted |= bool(run.open_children)
        owned = self._own(run, fresh)
        if owned.record is not None:
            owned.record = record.activations

        await owned.take_over(loaded, rewind)
        return owned

    async def replay(
        self,
        loaded: Loaded,
        *,
        context: contextvars.Context | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> Run:
        """Rebuild a run from its record, without becoming its owner.

        Raises:
            WorkflowBugError: The code asks for other commands than were recorded.
            Exception: What a bug in the code raised.
        """
        return await self._rebuild(Record(loaded), context, resources)

    async def _rebuild(
        self,
        record: Record,
        context: contextvars.Context | None,
        resources: Mapping[str, Any] | None,
    ) -> Run:
        definition = self._registered.workflow(record.start.workflow_type)
        return await rebuild(
            record.start,
            record.activations,
            definition,
            self._registered,
            context=context,
            resources=resources,
            watchdog=self._watchdog,
        )

    # What its runs ask

    @property
    def store(self) -> Store:
        """Where the runs live."""
        return self._client.store

    @property
    def membership(self) -> Membership:
        """Its place in the store.

        Raises:
            StoreClosedError: It is not running.
        """
        if self._membership is None:
            raise ex.StoreClosedError("this worker is not running")

        return self._membership

    @property
    def bodies(self) -> Bodies:
        """Runs the bodies of activities."""
        assert self._bodies is not None
        return self._bodies

    @property
    def watchdog(self) -> Watchdog:
        """Reports code that holds up the event loop."""
        assert self._watchdog is not None
        return self._watchdog

    @property
    def instance(self) -> _stalls.Instance:
        """The worker, as far as its code is concerned."""
        assert self._instance is not None
        return self._instance

    @property
    def replays_always(self) -> bool:
        """Whether every activation replays its run from the start."""
        return self._cached == 0

    def refresh(self, owned: OwnedRun) -> None:
        """Rebuild a run before its next activation, if nothing is to stay in memory."""
        if owned.record:
            # First, so that no code ever sees two executions of one run beside each other.
            owned.run.close()
            owned.run = rebuild_at_once(owned.run, owned.record)

    def committed(self, owned: OwnedRun, activation: Activation) -> None:
        """Note that a run moved on."""
        if owned.record is not None:
            owned.record.append(activation)

        self._active[owned.row.run_id] = self.clock.now()

    def dropped(self, row: RunRow) -> None:
        """Note that a write of a run succeeded that is not loaded any more; it may be owned here.

        Before the write it may have been looked for in vain: it began with it.
        """
        if not row.bound and self._membership is not None:
            self._claims.dropped(row)
            self.look_again()

    def forget(self, owned: OwnedRun, error: BaseException | None) -> None:
        """Note that a run is not loaded any more.

        Args:
            owned: The run.
            error: What keeps it from going on here; the store may still say that it does.
        """
        # Bound runs are taken again by their callers.
        given_up = owned.row.bound or isinstance(error, ReleasedRunError)
        if isinstance(error, (ex.StoreError, LostRunError)) and not given_up:
            self._claims.dropped(owned.row)

        if self._owned.get(owned.row.run_id) is owned:
            del self._owned[owned.row.run_id]
            self._active.pop(owned.row.run_id, None)

        key = (owned.row.namespace, owned.row.workflow_id)
        if self._by_workflow_id.get(key) is owned:
            del self._by_workflow_id[key]

        if self._membership is not None:
            self._membership.need(owns=bool(self._owned))

    def _expelled(self) -> int:
        """Drop every run: others took this worker for dead."""
        owned = list(self._owned.values())
        for each in owned:
            each.lose()

        self.look_again()
        return len(owned)

    # Taking runs of the queue

    async def _poll(self) -> None:
        while True:
            seen = self._client.changes.count
            due = None
            began = time.monotonic()
            try:
                await self.ready()
                await self._look()
                if self._claims.wanted:
                    due = await self._claims.make()
            except ex.StoreError as error:
                _log.error(
                    "worker %s cannot read %s: %s", self.identity, self.store.location, error
                )
                await asyncio.sleep(1.0)

            evict(self._owned, self._active, self._cached, self.clock.now())
            self._looked_at = seen
            # Changes of this and other processes; what only waits for its time makes none.
            timeout = 1.0 if due is None else min(max(due - self.clock.now(), 0.0), 1.0)
            # Where many work on one file every look takes long, and most find nothing.
            took = time.monotonic() - began if self._owned else _defaults.POLL_IDLE
            interval = min(
                max(_defaults.POLL_WAITING, took / _defaults.POLL_LATE), _defaults.POLL_IDLE
            )
            await self._client.changes.wait(timeout=timeout, interval=interval, since=seen)

    async def _look(self) -> None:
        """Hand to the runs what came for them, and let go of those that are not ours any more."""
        if self._owned and not self.membership.holds():
            # If others took this worker for dead, that is to be known before its runs are missed.
            with contextlib.suppress(LostRunError):
                await self.membership.confirm()

        if not self._owned:
            return

        before = [owned for owned in self._owned.values() if owned.open]
        behind = [(owned, owned.inbox.sent) for owned in self._owned.values() if owned.behind]

        arrivals = await self.store.arrivals(self.membership.number)
        for owned in before:
            if owned.open and owned.row.run_id not in arrivals.owned:
                owned.lose()

        # Also one that is just writing: a busy run would be missed again and again.
        for run_id in arrivals.paused:
            if (found := self._owned.get(run_id)) is not None:
                found.pause()

        for run_id, number, data in arrivals.inbox:
            found = self._owned.get(run_id)
            if found is not None and found.wants(number):
                try:
                    found.receive_row(number, await self._arrived(found.row.lineage, data))
                except ex.StoreCorruptError as error:
                    # It cannot end without this event, and other runs can.
                    found.lose(error)

        for owned, sent in behind:
            owned.looked(sent)

    async def _arrived(self, lineage: str, data: bytes) -> Event:
        event = history.event_from(data)
        items = await self.store.read_items(lineage, history.references(event))
        return history.resolve(event, history.intact(items.items(), lineage))

    async def _stall(self, row: RunRow, error: BaseException) -> None:
        """Record why a run cannot be rebuilt here, and leave it to whoever can."""
        if isinstance(error, ex.StoreError):
            return

        failure = self._registered.failures.record(error)
        now = self.clock.now()
        stall = _stalls.stall_of(failure, row.next_number, self.instance, now, row.stall)
        await self.store.append(stall_unloaded(row, self.membership.number, stall))

    def _check_process(self) -> None:
        _forks.check_process(self._pid, f"worker {self.identity}")

    def _check_stays(self) -> None:
        self._check_process()
        if self._leaving:
            raise ex.StoreClosedError("the worker was shut down")

    def _own(self, run: Run, row: RunRow) -> OwnedRun:
        owned = OwnedRun(run, row, worker=self)
        self.membership.need(owns=True)
        self._owned[row.run_id] = owned
        # One that only waits makes no step, and must not stay for that.
        self._active[row.run_id] = self.clock.now()
        self._by_workflow_id.setdefault((row.namespace, row.workflow_id), owned)
        return owned
