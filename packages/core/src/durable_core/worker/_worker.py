"""The worker: owns runs of one task queue and executes their activities.

A worker belongs to the event loop that started it (ENGINE R24): workflow code and async bodies run
there, sync bodies in threads. It ends with its loop at the latest; runs are then released, not
lost.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from durable_core import _clock, _defaults, _ids, history
from durable_core import exceptions as ex
from durable_core.engine import Run
from durable_core.history import Packer
from durable_core.stores import Append

from ._bodies import Bodies
from ._host import Registered
from ._owned import LostRunError, OwnedRun, stall_record
from ._start import row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from durable_core.client import Client
    from durable_core.history import Start
    from durable_core.stores import Loaded, RunRow, Store

__all__ = ["Worker"]

_log = logging.getLogger("durable_core.worker")
_CLAIMS_AT_ONCE = 200


class Worker:
    """Owns runs of one task queue and executes their activities, from `async with` or `run`.

    Args:
        client: Where the runs live. The worker uses its store; close the client after the worker.
        task_queue: Name of the queue that runs are started on.
        workflows: Workflow classes that it executes.
        activities: Functions with `activity.defn` that it executes.
        identity: Name in histories; ``pid@host`` by default.
        max_concurrent_activities: How many bodies may run at the same time.

    Raises:
        DefinitionError: A workflow or activity is not decorated, or two have one name.
    """

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        workflows: Sequence[type] = (),
        activities: Sequence[Callable[..., Any]] | None = (),
        identity: str | None = None,
        max_concurrent_activities: int = _defaults.BODIES_AT_ONCE,
    ) -> None:
        if max_concurrent_activities < 1:
            raise ValueError(
                f"max_concurrent_activities must be 1 or more, got {max_concurrent_activities}"
            )

        self.task_queue = task_queue
        self.identity = identity or _ids.process_identity()
        self._client = client
        self._registered = Registered(workflows, activities)
        self._at_once = max_concurrent_activities
        self._owned: dict[str, OwnedRun] = {}
        self._by_workflow_id: dict[tuple[str, str], OwnedRun] = {}
        self._resting: dict[str, tuple[float, float]] = {}
        self._id: int | None = None
        self._bodies: Bodies | None = None
        self._poller: asyncio.Task[None] | None = None
        self._stopped: asyncio.Event | None = None

    # Life

    async def __aenter__(self) -> Self:
        """Start to take runs."""
        await self.start()
        self._poller = asyncio.create_task(self._poll(), name="durable-worker-poll")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; see `shutdown`."""
        await self.shutdown()

    async def run(self) -> None:
        """Work until `shutdown` is called or the task is cancelled."""
        async with self:
            if self._stopped is not None:
                await self._stopped.wait()

    async def start(self) -> None:
        """Register with the store, without taking runs by itself.

        Raises:
            StoreError: The store cannot be written.
        """
        if self._id is not None:
            raise RuntimeError("this worker is started already")

        self._stopped = asyncio.Event()
        self._id = await self._store.register_worker(self.identity)
        self._bodies = Bodies(self.identity, self._registered.failures, self._at_once)
        self._client.attach(self)

    async def shutdown(self) -> None:
        """Stop the bodies, drop the runs from memory and release them for other workers."""
        if self._id is None:
            return

        self._client.detach(self)
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

        tasks = [task for owned in self._owned.values() for task in owned.tasks]
        for owned in list(self._owned.values()):
            owned.drop()

        await asyncio.gather(*tasks, return_exceptions=True)
        worker, self._id = self._id, None
        await self._store.release_worker(worker)
        if self._bodies is not None:
            self._bodies.close()

        if self._stopped is not None:
            self._stopped.set()

    # What clients of this process ask

    @property
    def registered(self) -> Registered:
        """What the worker knows."""
        return self._registered

    def serves(self, task_queue: str, workflow_type: str) -> bool:
        """Return whether a run of that queue and type could start here."""
        return (
            self._id is not None
            and task_queue == self.task_queue
            and self._registered.knows_workflow(workflow_type)
        )

    def owned_as(self, namespace: str, workflow_id: str) -> OwnedRun | None:
        """Return the run of a workflow id that is loaded here, if one is."""
        return self._by_workflow_id.get((namespace, workflow_id))

    def owns(self, row: RunRow) -> bool:
        """Return whether this worker is the owner that a row names, be the run loaded or not."""
        return row.owner is not None and row.owner == self._id

    def begin(
        self,
        start: Start,
        *,
        context: contextvars.Context | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> OwnedRun:
        """Create a run here: its start and its first activation become one commit.

        The caller awaits `OwnedRun.created` before it acknowledges anything.
        """
        packer = Packer(start.lineage)
        data = packer.pack(start)
        owned = self._own(self._engine_run(start, context, resources), row_of(start))
        owned.begin(data, packer.items)
        return owned

    async def take(
        self,
        row: RunRow,
        *,
        context: contextvars.Context | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> OwnedRun:
        """Load a run, replay it, and become its owner.

        Raises:
            LostRunError: Somebody else became its owner meanwhile.
            Exception: The code met a mismatch or a bug in replay; the run has stalled.
            StoreError: It cannot be read or written.
        """
        loaded = await self._store.load(row)
        if loaded.row.fence != row.fence or loaded.row.status != "running":
            raise LostRunError(row.run_id)

        try:
            if loaded.row.takeovers > _defaults.CRASH_LOOP_TAKEOVERS:
                raise _crash_loop(loaded.row)

            run = await self.replay(loaded, context=context, resources=resources)
        except Exception as error:
            await self._stall(loaded.row, error)
            raise

        owned = self._own(run, loaded.row)
        await owned.take_over(loaded)
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
        items = dict(loaded.items)
        start = history.resolve(history.start_from(loaded.start), items)
        run = self._engine_run(start, context, resources)
        try:
            for number, data in enumerate(loaded.activations):
                run.replay(history.resolve(history.activation_from(data), items))
                if number % 100 == 99:
                    await asyncio.sleep(0)
        except BaseException:
            run.close()
            raise

        return run

    # Taking runs of the queue

    async def _poll(self) -> None:
        while True:
            seen = self._client.changes.count
            try:
                await self._claim()
            except ex.StoreError as error:
                _log.error(
                    "worker %s cannot read %s: %s", self.identity, self._store.location, error
                )
                await asyncio.sleep(1.0)

            # Changes of this and other processes; a stalled run is tried again without one.
            await self._client.changes.wait(timeout=1.0, interval=_defaults.POLL_IDLE, since=seen)

    async def _claim(self) -> None:
        rows = await self._store.claimable(
            self._client.namespace, self.task_queue, worker=self._id or 0, limit=_CLAIMS_AT_ONCE
        )
        now = _clock.now()
        wanted = [
            r
            for r in rows
            if r.run_id not in self._owned
            and self._registered.knows_workflow(r.workflow_type)
            and self._resting.get(r.run_id, (0.0, 0.0))[0] <= now
        ]
        results = await asyncio.gather(*(self.take(row) for row in wanted), return_exceptions=True)
        for row, result in zip(wanted, results, strict=True):
            if isinstance(result, LostRunError):
                continue

            if isinstance(result, OwnedRun):
                result.done.add_done_callback(partial(self._rested, row.run_id))
            elif isinstance(result, Exception):
                self._rest(row.run_id, result)
                _log.error(
                    "run %r cannot go on: %s. See: durable show %s",
                    row.workflow_id,
                    result,
                    row.workflow_id,
                )
            else:
                raise result

    async def _stall(self, row: RunRow, error: BaseException) -> None:
        """Record why a run cannot be rebuilt here, and leave it to whoever can."""
        if isinstance(error, ex.StoreError):
            return

        failure = self._registered.failures.record(error)
        await self._store.append(
            Append(
                run_id=row.run_id,
                expected_fence=row.fence,
                fence=row.fence + 1,
                owner=self._id or 0,
                claim=True,
                release=True,
                stall=stall_record(failure, row.next_number, self.identity),
            )
        )

    def _rested(self, run_id: str, done: asyncio.Future[Run]) -> None:
        self._rest(run_id, None if done.cancelled() else done.exception())

    def _rest(self, run_id: str, error: BaseException | None) -> None:
        """Leave a run that cannot go on alone for a while, longer each time."""
        if error is None or isinstance(error, (LostRunError, ex.StoreClosedError)):
            self._resting.pop(run_id, None)
            return

        _, pause = self._resting.get(run_id, (0.0, _defaults.STALL_RETRY_FIRST / 2))
        pause = min(pause * 2, _defaults.STALL_RETRY_MAX)
        self._resting[run_id] = (_clock.now() + pause, pause)

    # Parts

    @property
    def _store(self) -> Store:
        return self._client.store

    def _engine_run(
        self, start: Start, context: contextvars.Context | None, resources: Mapping[str, Any] | None
    ) -> Run:
        definition = self._registered.workflow(start.workflow_type)
        return Run(start, definition, self._registered, context=context, resources=resources)

    def _own(self, run: Run, row: RunRow) -> OwnedRun:
        if self._id is None or self._bodies is None:
            raise ex.StoreClosedError("this worker is not running")

        owned = OwnedRun(
            run,
            row,
            worker=self._id,
            identity=self.identity,
            store=self._store,
            host=self._registered,
            bodies=self._bodies,
            forget=self._forget,
        )
        self._owned[row.run_id] = owned
        self._by_workflow_id.setdefault((row.namespace, row.workflow_id), owned)
        return owned

    def _forget(self, owned: OwnedRun) -> None:
        self._owned.pop(owned.row.run_id, None)
        key = (owned.row.namespace, owned.row.workflow_id)
        if self._by_workflow_id.get(key) is owned:
            del self._by_workflow_id[key]


def _crash_loop(row: RunRow) -> ex.WorkflowStalledError:
    return ex.WorkflowStalledError(
        f"run {row.workflow_id!r} was taken over {row.takeovers} times without getting anywhere: "
        "what it runs next seems to kill its worker. Calling it again tries again. "
        f"See: durable show {row.workflow_id}",
        workflow_id=row.workflow_id,
        run_id=row.run_id,
    )
