"""The client: starts runs, finds them, and waits for them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from durable_core import _defaults, _forks, _ids
from durable_core._arguments import UNSET, arguments
from durable_core._clock import Clock
from durable_core.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from durable_core.exceptions import WorkflowAlreadyStartedError, WorkflowNotFoundError
from durable_core.history import Packer
from durable_core.payloads._failures import Registry
from durable_core.stores import Outcome
from durable_core.worker._owned import LostRunError
from durable_core.worker._start import new_start, row_of
from durable_core.workflow import _defn as workflow_defn

from ._changes import Changes
from ._handle import WorkflowExecution, WorkflowExecutionStatus, WorkflowHandle, execution_of
from ._stores import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from types import TracebackType

    from durable_core.history import Start
    from durable_core.stores import Reuse, Store
    from durable_core.worker import Worker
    from durable_core.worker._owned import OwnedRun

__all__ = ["Client"]

R = TypeVar("R")

_REUSE: dict[WorkflowIDReusePolicy, Reuse] = {
    WorkflowIDReusePolicy.ALLOW_DUPLICATE: "always",
    WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY: "failed",
    WorkflowIDReusePolicy.REJECT_DUPLICATE: "never",
}


class Client:
    """A connection to an engine. Belongs to the event loop that connected it; close it there.

    Make one by `connect`, as a context manager or with `close` at the end::

        async with await Client.connect("sqlite:///orders.db") as client:
            result = await client.execute_workflow(Order.run, order, id="42", task_queue="orders")
    """

    def __init__(
        self, store: Store, *, namespace: str, identity: str, clock: Clock | None = None
    ) -> None:
        self._store = store
        self._pid = os.getpid()
        self.clock = clock or Clock()
        self.namespace = namespace
        self.identity = identity
        self.changes = Changes(store)
        self._workers: list[Worker] = []
        self._failures = Registry()

    @classmethod
    async def connect(
        cls,
        url: str | None = None,
        *,
        namespace: str = _defaults.NAMESPACE,
        identity: str | None = None,
    ) -> Self:
        """Connect to the engine that a URL names.

        Args:
            url: ``sqlite:///relative/path`` or ``sqlite:////absolute/path``; ``memory://`` or
                ``memory://name`` for runs that end with the process. Without one,
                ``$DURABLE_URL``; without that, ``./.durable/durable.db``.
            namespace: Runs of other namespaces are not seen.
            identity: Name in histories; ``pid@host`` by default.

        Raises:
            EngineURLError: The URL is malformed or its scheme is unknown.
            StoreError: The store cannot be used; the subclass says why.
        """
        store = await open_store(url)
        return cls(store, namespace=namespace, identity=identity or _ids.process_identity())

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close the client."""
        await self.close()

    @property
    def store(self) -> Store:
        """Where the runs live.

        Raises:
            NotSupported: The client was connected before a fork, in the parent.
        """
        _forks.check_process(self._pid, "this client")
        return self._store

    async def close(self) -> None:
        """Finish the writes under way and close the store. Workers must have ended before.

        Does nothing in a forked child of the process that connected it.
        """
        if self._pid == os.getpid():
            self.changes.close()
            await self._store.close()

    @overload
    async def start_workflow(
        self,
        workflow: Callable[..., Awaitable[R]],
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str,
        task_queue: str,
        id_reuse_policy: WorkflowIDReusePolicy = ...,
        id_conflict_policy: WorkflowIDConflictPolicy = ...,
    ) -> WorkflowHandle[R]: ...

    @overload
    async def start_workflow(
        self,
        workflow: str | type,
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str,
        task_queue: str,
        id_reuse_policy: WorkflowIDReusePolicy = ...,
        id_conflict_policy: WorkflowIDConflictPolicy = ...,
    ) -> WorkflowHandle[Any]: ...

    async def start_workflow(
        self,
        workflow: Callable[..., Awaitable[Any]] | str | type,
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = (),
        id: str,
        task_queue: str,
        id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.FAIL,
    ) -> WorkflowHandle[Any]:
        """Start a run and return a handle on it once the start is durable.

        Args:
            workflow: The run method, the class, or the recorded name of a workflow.
            arg: Its only argument.
            args: Its arguments, if there is more than one.
            id: Tells the run from every other one that is open.
            task_queue: Queue whose workers execute it.
            id_reuse_policy: What to do if a run with this id has ended.
            id_conflict_policy: What to do if a run with this id is open.

        Raises:
            WorkflowAlreadyStartedError: The id is in use, by what the policies say.
            ArgumentError: The workflow does not take so many arguments.
            EncodeError: An argument cannot be recorded.
            StoreError: The start could not be written.
        """
        if isinstance(workflow, str):
            definition = workflow_defn.Definition(name=workflow, cls=object, run_fn=_nothing)
        else:
            definition = workflow_defn.definition_of(workflow)

        _forks.check_process(self._pid, "this client")
        worker = next((w for w in self._workers if w.serves(task_queue, definition.name)), None)
        known = definition if worker is None else worker.registered.workflow(definition.name)
        start = new_start(
            known,
            arguments(arg, args),
            namespace=self.namespace,
            workflow_id=id,
            task_queue=task_queue,
            client=self.identity,
        )
        typed = None if isinstance(workflow, str) else definition
        while not await self._begin(start, _REUSE[id_reuse_policy]):
            other = WorkflowHandle[Any](self, id, definition=typed)
            found = await other.describe()
            if found.run_id == start.run_id:
                # Written all the same, by a worker that was then taken for dead.
                break

            if found.status is not WorkflowExecutionStatus.RUNNING:
                if id_reuse_policy is WorkflowIDReusePolicy.ALLOW_DUPLICATE:
                    continue

                raise _in_use(found, "was used", "another id_reuse_policy")

            if id_conflict_policy is WorkflowIDConflictPolicy.USE_EXISTING:
                return WorkflowHandle(self, id, run_id=found.run_id, definition=typed)

            if id_conflict_policy is not WorkflowIDConflictPolicy.TERMINATE_EXISTING:
                raise _in_use(found, "is open", "another id_conflict_policy")

            # It may have ended by itself meanwhile.
            with contextlib.suppress(WorkflowNotFoundError):
                await self.get_workflow_handle(id, run_id=found.run_id).terminate(
                    reason="another run was started with its id"
                )

        return WorkflowHandle(self, id, run_id=start.run_id, definition=typed)

    async def _begin(self, start: Start, reuse: Reuse) -> bool:
        """Make a run; return False if its id is in use."""
        serving = (w for w in self._workers if w.serves(start.task_queue, start.workflow_type))
        worker = next(serving, None)
        if worker is None:
            packer = Packer(start.lineage)
            data = packer.pack(start)
            created = self.store.create(row_of(start), data, packer.items, reuse=reuse)
            return await created is Outcome.ACCEPTED

        while True:
            await worker.ready()
            try:
                await worker.begin(start, reuse=reuse).created
            except WorkflowAlreadyStartedError:
                return False
            except LostRunError:
                # The worker was taken for dead; most likely nothing was created.
                continue

            return True

    @overload
    async def execute_workflow(
        self,
        workflow: Callable[..., Awaitable[R]],
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str,
        task_queue: str,
        id_reuse_policy: WorkflowIDReusePolicy = ...,
        id_conflict_policy: WorkflowIDConflictPolicy = ...,
    ) -> R: ...

    @overload
    async def execute_workflow(
        self,
        workflow: str | type,
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str,
        task_queue: str,
        id_reuse_policy: WorkflowIDReusePolicy = ...,
        id_conflict_policy: WorkflowIDConflictPolicy = ...,
    ) -> Any: ...

    async def execute_workflow(
        self,
        workflow: Callable[..., Awaitable[Any]] | str | type,
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = (),
        id: str,
        task_queue: str,
        id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.FAIL,
    ) -> Any:
        """Start a run and wait for its result; see `start_workflow` and `WorkflowHandle.result`."""
        handle: WorkflowHandle[Any] = await self.start_workflow(
            workflow,
            arg,
            args=args,
            id=id,
            task_queue=task_queue,
            id_reuse_policy=id_reuse_policy,
            id_conflict_policy=id_conflict_policy,
        )
        return await handle.result()

    def get_workflow_handle(
        self, workflow_id: str, *, run_id: str | None = None
    ) -> WorkflowHandle[Any]:
        """Return a handle on a run that was started before; it is not looked up yet."""
        return WorkflowHandle(self, workflow_id, run_id=run_id)

    async def list_workflows(
        self,
        *,
        workflow_type: str | None = None,
        status: WorkflowExecutionStatus | None = None,
        limit: int = 100,
    ) -> AsyncIterator[WorkflowExecution]:
        """Yield runs, newest first.

        Args:
            workflow_type: Only runs of this workflow.
            status: Only runs of this status.
            limit: At most so many.
        """
        rows = await self.store.newest(
            self.namespace,
            workflow_type=workflow_type,
            status=None if status is None else status.value,
            limit=limit,
        )
        for row in rows:
            yield execution_of(row)

    # For workers of this process

    @property
    def failures(self) -> Registry:
        """How recorded exceptions are rebuilt: as a worker of this process does, if any."""
        return self._workers[0].registered.failures if self._workers else self._failures

    @property
    def workers(self) -> Sequence[Worker]:
        """Workers of this process on this client."""
        return self._workers

    def owned(self, workflow_id: str, run_id: str | None) -> OwnedRun | None:
        """Return a run that a worker of this process has loaded, if one has."""
        _forks.check_process(self._pid, "this client")
        for worker in self._workers:
            found = worker.owned_as(self.namespace, workflow_id)
            if found is not None and run_id in (None, found.row.run_id):
                return found

        return None

    def attach(self, worker: Worker) -> None:
        """Let runs start in a worker of this process without going through the store first."""
        self._workers.append(worker)

    def detach(self, worker: Worker) -> None:
        """Undo `attach`."""
        if worker in self._workers:
            self._workers.remove(worker)


def _in_use(found: WorkflowExecution, how: str, what: str) -> WorkflowAlreadyStartedError:
    return WorkflowAlreadyStartedError(
        f"a run with the workflow id {found.id!r} {how} ({found.status.value}): use its handle, "
        f"another id, or {what}. See: durable show {found.id}",
        workflow_id=found.id,
        run_id=found.run_id,
    )


async def _nothing() -> None: ...
