"""The client: starts runs, finds them, and waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from durable_core import _defaults, _ids
from durable_core._arguments import UNSET, arguments
from durable_core.exceptions import WorkflowAlreadyStartedError
from durable_core.history import Packer
from durable_core.payloads._failures import Registry
from durable_core.stores import Outcome
from durable_core.stores.sqlite import SqliteStore
from durable_core.worker._start import new_start, row_of
from durable_core.workflow import _defn as workflow_defn

from . import _url
from ._changes import Changes
from ._handle import WorkflowExecution, WorkflowExecutionStatus, WorkflowHandle, execution_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from types import TracebackType

    from durable_core.stores import Store
    from durable_core.worker import Worker

__all__ = ["Client"]

R = TypeVar("R")


class Client:
    """A connection to an engine. Belongs to the event loop that connected it; close it there.

    Make one by `connect`, as a context manager or with `close` at the end::

        async with await Client.connect("sqlite:///orders.db") as client:
            result = await client.execute_workflow(Order.run, order, id="42", task_queue="orders")
    """

    def __init__(self, store: Store, *, namespace: str, identity: str) -> None:
        self.store = store
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
            url: ``sqlite:///relative/path`` or ``sqlite:////absolute/path``. Without one,
                ``$DURABLE_URL``; without that, ``./.durable/durable.db``.
            namespace: Runs of other namespaces are not seen.
            identity: Name in histories; ``pid@host`` by default.

        Raises:
            EngineURLError: The URL is malformed or its scheme is unknown.
            StoreError: The store cannot be used; the subclass says why.
        """
        store = await SqliteStore.open(_url.resolve(url))
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

    async def close(self) -> None:
        """Finish the writes under way and close the store. Workers must have ended before."""
        self.changes.close()
        await self.store.close()

    @overload
    async def start_workflow(
        self,
        workflow: Callable[..., Awaitable[R]],
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str,
        task_queue: str,
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
    ) -> WorkflowHandle[Any]: ...

    async def start_workflow(
        self,
        workflow: Callable[..., Awaitable[Any]] | str | type,
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = (),
        id: str,
        task_queue: str,
    ) -> WorkflowHandle[Any]:
        """Start a run and return a handle on it once the start is durable.

        Args:
            workflow: The run method, the class, or the recorded name of a workflow.
            arg: Its only argument.
            args: Its arguments, if there is more than one.
            id: Tells the run from every other one that is open.
            task_queue: Queue whose workers execute it.

        Raises:
            WorkflowAlreadyStartedError: A run with this id is open.
            EncodeError: An argument cannot be recorded.
            StoreError: The start could not be written.
        """
        if isinstance(workflow, str):
            definition = workflow_defn.Definition(name=workflow, cls=object, run_fn=_nothing)
        else:
            definition = workflow_defn.definition_of(workflow)

        start = new_start(
            definition,
            arguments(arg, args),
            namespace=self.namespace,
            workflow_id=id,
            task_queue=task_queue,
            client=self.identity,
        )
        worker = next((w for w in self._workers if w.serves(task_queue, definition.name)), None)
        if worker is not None:
            await worker.begin(start).created
        else:
            packer = Packer(start.lineage)
            data = packer.pack(start)
            if await self.store.create(row_of(start), data, packer.items) is not Outcome.ACCEPTED:
                raise WorkflowAlreadyStartedError(
                    f"a run with the workflow id {id!r} is open: use its handle, or another id",
                    workflow_id=id,
                )

        known = None if isinstance(workflow, str) else definition
        return WorkflowHandle(self, id, run_id=start.run_id, definition=known)

    @overload
    async def execute_workflow(
        self,
        workflow: Callable[..., Awaitable[R]],
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str,
        task_queue: str,
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
    ) -> Any: ...

    async def execute_workflow(
        self,
        workflow: Callable[..., Awaitable[Any]] | str | type,
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = (),
        id: str,
        task_queue: str,
    ) -> Any:
        """Start a run and wait for its result; see `start_workflow` and `WorkflowHandle.result`."""
        handle: WorkflowHandle[Any] = await self.start_workflow(
            workflow,
            arg,
            args=args,
            id=id,
            task_queue=task_queue,
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

    def attach(self, worker: Worker) -> None:
        """Let runs start in a worker of this process without going through the store first."""
        self._workers.append(worker)

    def detach(self, worker: Worker) -> None:
        """Undo `attach`."""
        if worker in self._workers:
            self._workers.remove(worker)


async def _nothing() -> None: ...
