"""Starting a run, alone or together with the first thing that it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from durable_core._arguments import UNSET, arguments
from durable_core.common import (
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from durable_core.exceptions import WorkflowAlreadyStartedError, WorkflowNotFoundError
from durable_core.history import Packer, UpdateReceived
from durable_core.stores import InboxRow, Outcome, profile_of_start
from durable_core.worker._owned import LostRunError
from durable_core.worker._start import new_start, row_of
from durable_core.workflow import _defn as workflow_defn
from durable_core.workflow._children import REUSE

from ._execution import WorkflowExecutionStatus
from ._handle import WorkflowHandle

if TYPE_CHECKING:
    from durable_core.history import Start
    from durable_core.stores import Reuse
    from durable_core.worker._replies import Watch

    from ._client import Client
    from ._execution import WorkflowExecution
    from ._reference import Sent

__all__ = ["Starting", "WithStartWorkflowOperation"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """What a run is started from."""

    workflow: Callable[..., Awaitable[Any]] | str | type
    args: tuple[Any, ...]
    id: str
    task_queue: str
    id_reuse_policy: WorkflowIDReusePolicy
    id_conflict_policy: WorkflowIDConflictPolicy
    memo: Mapping[str, Any] | None = None
    search_attributes: TypedSearchAttributes | None = None
    static_summary: str | None = None
    static_details: str | None = None

    async def run(self, client: Client) -> WorkflowHandle[Any]:
        """Start the run; see `Client.start_workflow`."""
        handle, _, _ = await self._begun(client, None)
        return handle

    async def run_with(
        self, client: Client, event: Sent, what: str
    ) -> tuple[WorkflowHandle[Any], str, Watch | None]:
        """Start the run with an event, or send the event to the run that is open.

        Returns:
            The run, its unique id, and what tells of an update if the run is loaded here.
        """
        while True:
            handle, run_id, watch = await self._begun(client, event)
            if run_id is not None:
                return handle, run_id, watch

            # It was open; if it has ended meanwhile, another one may be started.
            with contextlib.suppress(WorkflowNotFoundError):
                return handle, *(await handle.send(event, what))

    async def _begun(
        self, client: Client, event: Sent | None
    ) -> tuple[WorkflowHandle[Any], str | None, Watch | None]:
        """Return the run, and its unique id if it took the event with its start."""
        workflow = self.workflow
        if isinstance(workflow, str):
            definition = workflow_defn.Definition(name=workflow, cls=object, run_fn=_nothing)
        else:
            definition = workflow_defn.definition_of(workflow)

        typed = None if isinstance(workflow, str) else definition

        def handle(run_id: str) -> WorkflowHandle[Any]:
            return WorkflowHandle(client, self.id, run_id=run_id, definition=typed)

        start = new_start(
            client.known(self.task_queue, definition),
            self.args,
            namespace=client.namespace,
            workflow_id=self.id,
            task_queue=self.task_queue,
            client=client.identity,
            memo=self.memo,
            search_attributes=self.search_attributes,
            summary=self.static_summary,
            details=self.static_details,
        )
        while True:
            created, watch = await _create(client, start, REUSE[self.id_reuse_policy], event)
            if created:
                return handle(start.run_id), start.run_id, watch

            found = await WorkflowHandle[Any](client, self.id).describe()
            if found.run_id == start.run_id:
                # Written all the same, by a worker that was then taken for dead.
                return handle(start.run_id), start.run_id, None

            if found.status is not WorkflowExecutionStatus.RUNNING:
                if self.id_reuse_policy is WorkflowIDReusePolicy.ALLOW_DUPLICATE:
                    continue

                raise _in_use(found, "was used", "another id_reuse_policy")

            if self.id_conflict_policy is WorkflowIDConflictPolicy.USE_EXISTING:
                return handle(found.run_id), None, None

            if self.id_conflict_policy is not WorkflowIDConflictPolicy.TERMINATE_EXISTING:
                raise _in_use(found, "is open", "another id_conflict_policy")

            # It may have ended by itself meanwhile.
            with contextlib.suppress(WorkflowNotFoundError):
                await client.get_workflow_handle(self.id, run_id=found.run_id).terminate(
                    reason="another run was started with its id"
                )


async def _create(
    client: Client, start: Start, reuse: Reuse, event: Sent | None
) -> tuple[bool, Watch | None]:
    """Make a run, and give it an event; return False if its id is in use."""
    worker = client.serving(start.task_queue, start.workflow_type)
    events = () if event is None else (event,)
    if worker is None:
        packer = Packer(start.lineage)
        data = packer.pack(start)
        now = client.clock.now()
        inbox = [InboxRow(request=e.request, arrived=now, data=packer.pack(e)) for e in events]
        created = client.store.create(
            row_of(start),
            data,
            packer.items,
            reuse=reuse,
            inbox=inbox,
            profile=profile_of_start(start),
        )
        return await created is Outcome.ACCEPTED, None

    while True:
        await worker.ready()
        try:
            owned = worker.begin(start, reuse=reuse, events=events)
            watch = None
            if isinstance(event, UpdateReceived):
                watch = owned.replies.watch(event.request)

            await owned.created
        except WorkflowAlreadyStartedError:
            return False, None
        except LostRunError:
            # The worker was taken for dead; most likely nothing was created.
            continue

        return True, watch


class WithStartWorkflowOperation(Generic[R]):
    """A run that is started together with an update, unless it is open already.

    For `Client.start_update_with_start_workflow` and `Client.execute_update_with_start_workflow`;
    used once.

    Args:
        workflow: The run method, the class, or the recorded name of a workflow.
        arg: Its only argument.
        args: Its arguments, if there is more than one.
        id: Tells the run from every other one that is open.
        task_queue: Queue whose workers execute it.
        id_conflict_policy: What to do if a run with this id is open.
        id_reuse_policy: What to do if a run with this id has ended.
        memo, search_attributes, static_summary, static_details: As in `Client.start_workflow`.

    Raises:
        ArgumentError: ``args`` is one value instead of a list of them.
    """

    @overload
    def __init__(
        self,
        workflow: Callable[..., Awaitable[R]],
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str,
        task_queue: str,
        id_conflict_policy: WorkflowIDConflictPolicy,
        id_reuse_policy: WorkflowIDReusePolicy = ...,
        memo: Mapping[str, Any] | None = ...,
        search_attributes: TypedSearchAttributes | None = ...,
        static_summary: str | None = ...,
        static_details: str | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: WithStartWorkflowOperation[Any],
        workflow: str | type,
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str,
        task_queue: str,
        id_conflict_policy: WorkflowIDConflictPolicy,
        id_reuse_policy: WorkflowIDReusePolicy = ...,
        memo: Mapping[str, Any] | None = ...,
        search_attributes: TypedSearchAttributes | None = ...,
        static_summary: str | None = ...,
        static_details: str | None = ...,
    ) -> None: ...

    def __init__(
        self,
        workflow: Callable[..., Awaitable[Any]] | str | type,
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = (),
        id: str,
        task_queue: str,
        id_conflict_policy: WorkflowIDConflictPolicy,
        id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        memo: Mapping[str, Any] | None = None,
        search_attributes: TypedSearchAttributes | None = None,
        static_summary: str | None = None,
        static_details: str | None = None,
    ) -> None:
        self._starting = Starting(
            workflow=workflow,
            args=arguments(arg, args),
            id=id,
            task_queue=task_queue,
            id_reuse_policy=id_reuse_policy,
            id_conflict_policy=id_conflict_policy,
            memo=memo,
            search_attributes=search_attributes,
            static_summary=static_summary,
            static_details=static_details,
        )
        self._handle: asyncio.Future[WorkflowHandle[R]] | None = None

    async def workflow_handle(self) -> WorkflowHandle[R]:
        """Wait for the run to be started, or found open, and return a handle on it."""
        return await asyncio.shield(self._future())

    async def perform(
        self, client: Client, event: Sent, what: str
    ) -> tuple[WorkflowHandle[R], str, Watch | None]:
        """Start the run with an event, or send it to the run that is open; once.

        Raises:
            RuntimeError: It was done before.
        """
        if self._future().done():
            raise RuntimeError("this operation was used before: make another for another update")

        try:
            handle, run_id, watch = await self._starting.run_with(client, event, what)
        except BaseException as error:
            self._future().set_exception(error)
            # Whoever does not ask for the handle has seen it raised.
            self._future().exception()
            raise

        self._future().set_result(handle)
        return handle, run_id, watch

    def _future(self) -> asyncio.Future[WorkflowHandle[R]]:
        if self._handle is None:
            self._handle = asyncio.get_running_loop().create_future()

        return self._handle


def _in_use(found: WorkflowExecution, how: str, what: str) -> WorkflowAlreadyStartedError:
    return WorkflowAlreadyStartedError(
        f"a run with the workflow id {found.id!r} {how} ({found.status.value}): use its handle, "
        f"another id, or {what}. See: durable show {found.id}",
        workflow_id=found.id,
        run_id=found.run_id,
    )


async def _nothing() -> None: ...
