"""The client: starts runs, finds them, and waits for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from durable_core import _defaults, _forks, _ids
from durable_core._arguments import UNSET, arguments
from durable_core._clock import Clock
from durable_core.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from durable_core.exceptions import WorkflowNotFoundError
from durable_core.history import Payload, SignalReceived
from durable_core.payloads._failures import Registry
from durable_core.payloads._sent import encoded
from durable_core.stores import RequestFilter
from durable_core.streams._news import News

from . import _requests
from ._changes import Changes
from ._handle import WorkflowHandle
from ._listing import WorkflowExecutionAsyncIterator, WorkflowExecutionCount, counted
from ._stores import open_store
from ._updates import Update, WorkflowUpdateHandle, WorkflowUpdateStage
from ._with_start import Starting, WithStartWorkflowOperation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from types import TracebackType

    from durable_core.common import TypedSearchAttributes
    from durable_core.stores import RunRow, Store
    from durable_core.worker import Worker
    from durable_core.worker._owned import OwnedRun
    from durable_core.workflow._defn import Definition

    from ._requests import HumanRequest

__all__ = ["Client"]

R = TypeVar("R")


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
        self.streams = News(store, self.changes)
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
            await self.streams.close()
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
        start_signal: str | None = ...,
        start_signal_args: Sequence[Any] = ...,
        memo: Mapping[str, Any] | None = ...,
        search_attributes: TypedSearchAttributes | None = ...,
        static_summary: str | None = ...,
        static_details: str | None = ...,
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
        start_signal: str | None = ...,
        start_signal_args: Sequence[Any] = ...,
        memo: Mapping[str, Any] | None = ...,
        search_attributes: TypedSearchAttributes | None = ...,
        static_summary: str | None = ...,
        static_details: str | None = ...,
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
        id_conflict_policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.UNSPECIFIED,
        start_signal: str | None = None,
        start_signal_args: Sequence[Any] = (),
        memo: Mapping[str, Any] | None = None,
        search_attributes: TypedSearchAttributes | None = None,
        static_summary: str | None = None,
        static_details: str | None = None,
    ) -> WorkflowHandle[Any]:
        """Start a run and return a handle on it once the start is durable.

        Args:
            workflow: The run method, the class, or the recorded name of a workflow.
            arg: Its only argument.
            args: Its arguments, if there is more than one.
            id: Tells the run from every other one that is open.
            task_queue: Queue whose workers execute it.
            id_reuse_policy: What to do if a run with this id has ended.
            id_conflict_policy: What to do if a run with this id is open; to refuse by default, or,
                with ``start_signal``, to use it.
            start_signal: Name of a signal that the run is started with, or that is sent to the run
                that is open: one commit, so there is no run without it.
            start_signal_args: Arguments of that signal.
            memo: Values by name that the run is shown with, and that its code may read.
            search_attributes: Typed values by which the run is found, see `list_workflows`.
            static_summary: What the run is about, for people, on one line.
            static_details: More of that, on several lines.

        Raises:
            WorkflowAlreadyStartedError: The id is in use, by what the policies say.
            ArgumentError: The workflow does not take so many arguments.
            CallError: Summary or details are too long.
            EncodeError: An argument, or the memo, cannot be recorded.
            SearchAttributeError: A search attribute cannot be kept, or has another type elsewhere;
                there is no run then.
            StoreError: The start could not be written.
        """
        starting = Starting(
            workflow=workflow,
            args=arguments(arg, args),
            id=id,
            task_queue=task_queue,
            id_reuse_policy=id_reuse_policy,
            id_conflict_policy=_conflict(id_conflict_policy, signals=start_signal is not None),
            memo=memo,
            search_attributes=search_attributes,
            static_summary=static_summary,
            static_details=static_details,
        )
        if start_signal is None:
            return await starting.run(self)

        given = arguments(UNSET, start_signal_args)
        event = SignalReceived(
            name=start_signal,
            args=Payload(data=encoded(start_signal, given, f"signal {start_signal!r}")),
            request=_ids.uuid7(),
            client=self.identity,
            time=self.clock.now(),
        )
        handle, _, _ = await starting.run_with(self, event, "its first signal was not sent")
        return handle

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
        start_signal: str | None = ...,
        start_signal_args: Sequence[Any] = ...,
        memo: Mapping[str, Any] | None = ...,
        search_attributes: TypedSearchAttributes | None = ...,
        static_summary: str | None = ...,
        static_details: str | None = ...,
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
        start_signal: str | None = ...,
        start_signal_args: Sequence[Any] = ...,
        memo: Mapping[str, Any] | None = ...,
        search_attributes: TypedSearchAttributes | None = ...,
        static_summary: str | None = ...,
        static_details: str | None = ...,
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
        id_conflict_policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.UNSPECIFIED,
        start_signal: str | None = None,
        start_signal_args: Sequence[Any] = (),
        memo: Mapping[str, Any] | None = None,
        search_attributes: TypedSearchAttributes | None = None,
        static_summary: str | None = None,
        static_details: str | None = None,
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
            start_signal=start_signal,
            start_signal_args=start_signal_args,
            memo=memo,
            search_attributes=search_attributes,
            static_summary=static_summary,
            static_details=static_details,
        )
        return await handle.result()

    async def start_update_with_start_workflow(
        self,
        update: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        start_workflow_operation: WithStartWorkflowOperation[Any],
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = (),
        id: str | None = None,
        result_type: Any = None,
    ) -> WorkflowUpdateHandle[Any]:
        """Start a run with an update, or send it to the run that is open.

        A run that is started so takes the update before its code begins. A rejected update leaves
        the run started.

        Args:
            update: A method with `workflow.update`, or the name of an update.
            arg: Its only argument.
            start_workflow_operation: How to start the run.
            wait_for_stage: How far the update is to come before this returns.
            args: Its arguments, if there is more than one.
            id: See `WorkflowHandle.start_update`.
            result_type: What the answer is decoded to, if a name is given.

        Raises:
            WorkflowAlreadyStartedError: The id is in use, by what the policies say.
            WorkflowUpdateFailedError: The run ended before the update came so far.
            ArgumentError: The workflow, or the update, does not take so many arguments.
            EncodeError: An argument cannot be recorded.
            StoreError: The start could not be written.
        """
        made = Update.of(self, update, arg, args, id, result_type)
        handle, run_id, watch = await start_workflow_operation.perform(
            self, made.event, f"the update {made.event.name!r} was not sent"
        )
        sent = made.handle(self, handle.id, run_id, watch)
        if wait_for_stage > WorkflowUpdateStage.ADMITTED:
            await sent.reached(wait_for_stage)

        return sent

    async def execute_update_with_start_workflow(
        self,
        update: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        start_workflow_operation: WithStartWorkflowOperation[Any],
        args: Sequence[Any] = (),
        id: str | None = None,
        result_type: Any = None,
    ) -> Any:
        """Start a run with an update and wait for its answer.

        See `start_update_with_start_workflow` and `WorkflowUpdateHandle.result`.
        """
        sent = await self.start_update_with_start_workflow(
            update,
            arg,
            start_workflow_operation=start_workflow_operation,
            wait_for_stage=WorkflowUpdateStage.ADMITTED,
            args=args,
            id=id,
            result_type=result_type,
        )
        return await sent.result()

    def get_workflow_handle(
        self, workflow_id: str, *, run_id: str | None = None
    ) -> WorkflowHandle[Any]:
        """Return a handle on a run that was started before; it is not looked up yet."""
        return WorkflowHandle(self, workflow_id, run_id=run_id)

    def list_workflows(
        self,
        query: str | None = None,
        *,
        limit: int | None = None,
        page_size: int = _defaults.PAGE,
        next_page_token: bytes | None = None,
    ) -> WorkflowExecutionAsyncIterator:
        """Return an iterator over runs; nothing is read before it is asked for the first one.

        Runs that are there throughout, and neither begin nor cease to fit meanwhile, come once,
        whatever else is started while the pages are read.

        Args:
            query: Which runs, and in what order, as docs/visibility.md has it, such as
                ``Customer = 'ann' AND ExecutionStatus = 'Running'``; all by default, newest first.
            limit: At most so many; None for all.
            page_size: How many are read at a time.
            next_page_token: Where an earlier iterator of the same query had come to.

        Raises:
            ValueError: A number is too small.
            WorkflowFilterError: The query cannot be read; raised by the iterator.
            CallError: The token is not of this query; raised by the iterator.
        """
        return WorkflowExecutionAsyncIterator(
            self, query, limit=limit, page_size=page_size, next_page_token=next_page_token
        )

    async def count_workflows(self, query: str | None = None) -> WorkflowExecutionCount:
        """Return how many runs there are.

        Args:
            query: Which, as in `list_workflows`; ``GROUP BY ExecutionStatus`` at its end counts
                those of each status.

        Raises:
            WorkflowFilterError: The query cannot be read.
        """
        return await counted(self, query)

    async def list_requests(
        self,
        *,
        kind: str | None = None,
        workflow_type: str | None = None,
        workflow_id: str | None = None,
        limit: int | None = None,
        after: HumanRequest | None = None,
    ) -> AsyncIterator[HumanRequest]:
        """Yield requests of open runs that nobody has answered, those that wait longest first.

        Args:
            kind: Only requests of this kind.
            workflow_type: Only those of runs of this workflow.
            workflow_id: Only those of the run with this id.
            limit: At most so many; None for all.
            after: The last of those that were listed before; only later ones follow.
        """
        which = RequestFilter(kind, workflow_type, workflow_id)
        async for found in _requests.listed(self, which, limit=limit, after=after):
            yield found

    async def answer(
        self, request: HumanRequest, value: Any, *, by: str | None = None, note: str = ""
    ) -> None:
        """Answer a request; return when that is durable. Its run then gets it, whatever happens.

        Of several answers to one request, from any process, one is taken.

        Args:
            request: From `list_requests` or `WorkflowHandle.requests`.
            value: The answer: JSON's own types, or anything that can be recorded.
            by: Who gives it; the client's identity by default.
            note: For the run, and for its history.

        Raises:
            AnswerError: The value does not fit what the request asks for.
            RequestClosedError: It was answered before, or withdrawn, or its run has ended.
            EncodeError: The value cannot be recorded.
            TypeError: ``by`` or ``note`` is no text.
            StoreError: The answer could not be written.
        """
        await _requests.answer(self, request, value, by=by, note=note)

    async def run_row(self, workflow_id: str, run_id: str | None) -> RunRow:
        """Return the row of a run.

        Raises:
            WorkflowNotFoundError: There is no such run.
        """
        row = await self.store.find(self.namespace, workflow_id, run_id)
        if row is None:
            which = f" and run id {run_id!r}" if run_id else ""
            raise WorkflowNotFoundError(
                f"there is no run with the workflow id {workflow_id!r}{which} in "
                f"{self.store.location} (namespace {self.namespace!r}). See: durable list"
            )

        return row

    async def current_row(self, workflow_id: str, run_id: str | None) -> RunRow:
        """Return the row of a run, or of the newest that takes its place.

        Raises:
            WorkflowNotFoundError: There is no such run.
        """
        if run_id is not None:
            row = await self.store.find(self.namespace, workflow_id, run_id)
            first = run_id if row is None else row.first
            if row is None or row.successor is not None:
                last = await self.store.find_last(self.namespace, first)
                if last is not None and workflow_id in {"", last.workflow_id}:
                    return last

        return await self.run_row(workflow_id, run_id)

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

    def serving(self, task_queue: str, workflow_type: str) -> Worker | None:
        """Return a worker of this process that a run of that queue and type can start in."""
        _forks.check_process(self._pid, "this client")
        return next((w for w in self._workers if w.serves(task_queue, workflow_type)), None)

    def known(self, task_queue: str, definition: Definition) -> Definition:
        """Return what a worker of this process knows by a definition's name, else itself."""
        worker = self.serving(task_queue, definition.name)
        return definition if worker is None else worker.registered.workflow(definition.name)

    def attach(self, worker: Worker) -> None:
        """Let runs start in a worker of this process without going through the store first."""
        self._workers.append(worker)

    def detach(self, worker: Worker) -> None:
        """Undo `attach`."""
        if worker in self._workers:
            self._workers.remove(worker)


def _conflict(policy: WorkflowIDConflictPolicy, *, signals: bool) -> WorkflowIDConflictPolicy:
    if policy is not WorkflowIDConflictPolicy.UNSPECIFIED:
        return policy

    return WorkflowIDConflictPolicy.USE_EXISTING if signals else WorkflowIDConflictPolicy.FAIL
