"""Child workflows as workflow code starts them, and talks to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from durable_core._arguments import UNSET, arguments
from durable_core.common import WorkflowIDReusePolicy

from . import _defn
from ._calls import runtime
from ._external import ExternalWorkflowHandle

__all__ = [
    "REUSE",
    "Asked",
    "Cancellation",
    "ChildWorkflowCancellationType",
    "ChildWorkflowHandle",
    "ParentClosePolicy",
    "execute_child_workflow",
    "start_child_workflow",
]

R = TypeVar("R")
W = TypeVar("W")


class ChildWorkflowCancellationType(IntEnum):
    """What cancelling a child, or the task that awaits it, does."""

    ABANDON = 0
    """Go on at once and leave the child alone."""
    TRY_CANCEL = 1
    """Ask the child to end, and go on at once."""
    WAIT_CANCELLATION_COMPLETED = 2
    """Ask the child to end, and wait until it has, perhaps with a result."""
    WAIT_CANCELLATION_REQUESTED = 3
    """Ask the child to end, and go on when it has the request."""


class ParentClosePolicy(IntEnum):
    """What the end of a run does to its children that are open."""

    UNSPECIFIED = 0
    """`TERMINATE`."""
    TERMINATE = 1
    """End them without their code, in the commit that ends their parent."""
    ABANDON = 2
    """Leave them alone."""
    REQUEST_CANCEL = 3
    """Ask them to end."""


Cancellation = Literal["abandon", "try_cancel", "wait_completed", "wait_requested"]
"""As `ChildWorkflowCancellationType`."""

_Policy = Literal["terminate", "abandon", "request_cancel"]
_Reuse = Literal["always", "failed", "never"]

_CANCELLATIONS: dict[ChildWorkflowCancellationType, Cancellation] = {
    ChildWorkflowCancellationType.ABANDON: "abandon",
    ChildWorkflowCancellationType.TRY_CANCEL: "try_cancel",
    ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED: "wait_completed",
    ChildWorkflowCancellationType.WAIT_CANCELLATION_REQUESTED: "wait_requested",
}
_POLICIES: dict[ParentClosePolicy, _Policy] = {
    ParentClosePolicy.UNSPECIFIED: "terminate",
    ParentClosePolicy.TERMINATE: "terminate",
    ParentClosePolicy.ABANDON: "abandon",
    ParentClosePolicy.REQUEST_CANCEL: "request_cancel",
}
REUSE: dict[WorkflowIDReusePolicy, _Reuse] = {
    WorkflowIDReusePolicy.ALLOW_DUPLICATE: "always",
    WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY: "failed",
    WorkflowIDReusePolicy.REJECT_DUPLICATE: "never",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a child is to be started.

    Attributes:
        id: Id of the child; None for one that is made up.
        task_queue: Queue whose workers execute it; None for that of the parent.
        result_type: What its result is decoded to; None for what its code says.
        cancellation: What cancelling it does.
        policy: What the end of its parent does to it.
        reuse: Whether its id may be one that was used before.
    """

    id: str | None
    task_queue: str | None
    result_type: Any
    cancellation: Cancellation
    policy: _Policy
    reuse: _Reuse


if TYPE_CHECKING:
    _Future = asyncio.Future
else:

    class _Future(asyncio.Future, Generic[R]):
        """A future that is generic at runtime, too."""


class ChildWorkflowHandle(_Future[R], Generic[W, R]):
    """A child: await it for its result, ``cancel()`` it to ask for its end.

    A future like any other, so `asyncio.gather`, `workflow.wait` and the like take it.
    """

    begun: asyncio.Future[None]
    """Ends when the child exists, which is before `start_child_workflow` returns it."""

    @property
    def id(self) -> str:
        """Id of the child."""
        raise NotImplementedError

    @property
    def first_execution_run_id(self) -> str | None:
        """Unique id of the child's first run."""
        raise NotImplementedError

    @overload
    async def signal(self, signal: str, arg: Any = ..., *, args: Sequence[Any] = ...) -> None: ...

    @overload
    async def signal(
        self, signal: Callable[..., Any], arg: Any = ..., *, args: Sequence[Any] = ...
    ) -> None: ...

    async def signal(
        self,
        signal: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = (),
    ) -> None:
        """Send a signal to the child, as `ExternalWorkflowHandle.signal`.

        Args:
            signal: A method with `workflow.signal`, or the name of a signal.
            arg: Its only argument.
            args: Its arguments, if there is more than one.

        Raises:
            ApplicationError: The child has ended; of the type ``WorkflowNotFoundError``.
            ArgumentError: The signal does not take so many arguments.
            EncodeError: An argument cannot be recorded.
            ValueError: The name is empty.
        """
        child = ExternalWorkflowHandle[W](self.id, self.first_execution_run_id)
        await child.signal(signal, arg, args=args)


@overload
async def start_child_workflow(
    workflow: Callable[..., Awaitable[R]],
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    id: str | None = ...,
    task_queue: str | None = ...,
    result_type: Any = ...,
    cancellation_type: ChildWorkflowCancellationType = ...,
    parent_close_policy: ParentClosePolicy = ...,
    id_reuse_policy: WorkflowIDReusePolicy = ...,
) -> ChildWorkflowHandle[Any, R]: ...


@overload
async def start_child_workflow(
    workflow: str | type,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    id: str | None = ...,
    task_queue: str | None = ...,
    result_type: Any = ...,
    cancellation_type: ChildWorkflowCancellationType = ...,
    parent_close_policy: ParentClosePolicy = ...,
    id_reuse_policy: WorkflowIDReusePolicy = ...,
) -> ChildWorkflowHandle[Any, Any]: ...


async def start_child_workflow(
    workflow: Callable[..., Awaitable[Any]] | str | type,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = (),
    id: str | None = None,
    task_queue: str | None = None,
    result_type: Any = None,
    cancellation_type: ChildWorkflowCancellationType = (
        ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED
    ),
    parent_close_policy: ParentClosePolicy = ParentClosePolicy.TERMINATE,
    id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
) -> ChildWorkflowHandle[Any, Any]:
    """Start another run and return a handle on it once it exists.

    The child is created in the commit of the step that asks for it, and its parent hears of its end
    in the commit that ends it: neither can be lost, nor happen twice. A parent that failed and goes
    on takes up its failed children, too.

    Args:
        workflow: The run method, the class, or the recorded name of a workflow.
        arg: Its only argument.
        args: Its arguments, if there is more than one.
        id: Tells the child from every other run that is open; a UUID by default.
        task_queue: Queue whose workers execute it; that of this run by default.
        result_type: What the result is decoded to, if a name is given or to override the
            annotation.
        cancellation_type: What cancelling the handle, or the task that awaits it, does.
        parent_close_policy: What the end of this run does to the child, if it is open then.
        id_reuse_policy: What to do if a run with this id has ended.

    Raises:
        WorkflowAlreadyStartedError: The id is in use; not caught, it fails this run.
        ApplicationError: Children have started children too many times over.
        ArgumentError: The workflow does not take so many arguments.
        EncodeError: An argument cannot be recorded.
        ValueError: The id is empty or too long.
        NotInWorkflowError: Called outside workflow code.
    """
    engine = runtime()
    asked = Asked(
        id=id,
        task_queue=task_queue,
        result_type=result_type,
        cancellation=_CANCELLATIONS[ChildWorkflowCancellationType(cancellation_type)],
        policy=_POLICIES[ParentClosePolicy(parent_close_policy)],
        reuse=REUSE[WorkflowIDReusePolicy(id_reuse_policy)],
    )
    named = workflow if isinstance(workflow, str) else _defn.definition_of(workflow)
    # Drawn in any case: whether there is an id must not move the numbers of later ones.
    made_up = str(engine.uuid4())
    child = engine.children.start(named, arguments(arg, args), asked, made_up)
    try:
        await child.begun
    except asyncio.CancelledError:
        child.cancel()
        raise

    return child


@overload
async def execute_child_workflow(
    workflow: Callable[..., Awaitable[R]],
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    id: str | None = ...,
    task_queue: str | None = ...,
    result_type: Any = ...,
    cancellation_type: ChildWorkflowCancellationType = ...,
    parent_close_policy: ParentClosePolicy = ...,
    id_reuse_policy: WorkflowIDReusePolicy = ...,
) -> R: ...


@overload
async def execute_child_workflow(
    workflow: str | type,
    arg: Any = ...,
    *,
    args: Sequence[Any] = ...,
    id: str | None = ...,
    task_queue: str | None = ...,
    result_type: Any = ...,
    cancellation_type: ChildWorkflowCancellationType = ...,
    parent_close_policy: ParentClosePolicy = ...,
    id_reuse_policy: WorkflowIDReusePolicy = ...,
) -> Any: ...


async def execute_child_workflow(
    workflow: Callable[..., Awaitable[Any]] | str | type,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = (),
    id: str | None = None,
    task_queue: str | None = None,
    result_type: Any = None,
    cancellation_type: ChildWorkflowCancellationType = (
        ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED
    ),
    parent_close_policy: ParentClosePolicy = ParentClosePolicy.TERMINATE,
    id_reuse_policy: WorkflowIDReusePolicy = WorkflowIDReusePolicy.ALLOW_DUPLICATE,
) -> Any:
    """Start another run and wait for its result; see `start_child_workflow`.

    Raises:
        ChildWorkflowError: It ended without a result; the cause says why.
        asyncio.CancelledError: The task that waits was cancelled.
    """
    child: ChildWorkflowHandle[Any, Any] = await start_child_workflow(
        workflow,
        arg,
        args=args,
        id=id,
        task_queue=task_queue,
        result_type=result_type,
        cancellation_type=cancellation_type,
        parent_close_policy=parent_close_policy,
        id_reuse_policy=id_reuse_policy,
    )
    return await child
