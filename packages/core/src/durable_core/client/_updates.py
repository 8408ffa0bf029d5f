"""Updates: sent to a run, accepted or rejected by it, and answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from durable_core import _defaults, _ids, history
from durable_core import exceptions as ex
from durable_core._arguments import arguments
from durable_core._signatures import short, signature
from durable_core.payloads import _json
from durable_core.payloads._sent import encoded
from durable_core.workflow import _handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_core.stores import ReplyRow
    from durable_core.worker._replies import Watch

    from ._client import Client

__all__ = ["Update", "WorkflowUpdateHandle", "WorkflowUpdateStage"]

R = TypeVar("R")

_LONGEST = _defaults.ID_LENGTH


class WorkflowUpdateStage(IntEnum):
    """How far an update came."""

    ADMITTED = 1
    """It is durable that it was sent."""
    ACCEPTED = 2
    """The run took it: no validator rejected it."""
    COMPLETED = 3
    """Its handler has ended."""


@dataclass(frozen=True, slots=True)
class Update:
    """An update to be sent.

    Attributes:
        event: What the run receives.
        result_type: What its result is decoded to; None if that is unknown.
        modules: Those whose exception classes its failure may come back as.
    """

    event: history.UpdateReceived
    result_type: Any
    modules: tuple[str, ...]

    @classmethod
    def of(
        cls,
        client: Client,
        update: str | Callable[..., Any],
        arg: Any,
        args: Sequence[Any],
        id: str | None,
        result_type: Any,
    ) -> Update:
        """Return one, its arguments encoded.

        Raises:
            ArgumentError: The update does not take so many arguments, or its id is no such text.
            EncodeError: An argument cannot be recorded.
            DefinitionError: It is no update.
        """
        given = cast("object", id)
        if given is not None and not (isinstance(given, str) and 0 < len(given) <= _LONGEST):
            raise ex.ArgumentError(
                f"the id of an update is a text of 1 to {_LONGEST} characters, got {short(given)}"
            )

        name = _handlers.name_of(update, "update")
        data = encoded(update, arguments(arg, args), f"update {name!r}")
        modules: tuple[str, ...] = ()
        if not isinstance(update, str):
            result_type = signature(update).result.type
            modules = (update.__module__,)

        event = history.UpdateReceived(
            name=name,
            args=history.Payload(data=data),
            request=id or _ids.uuid7(),
            client=client.identity,
            time=client.clock.now(),
        )
        return cls(event, result_type, modules)

    def handle(
        self, client: Client, workflow_id: str, run_id: str, watch: Watch | None
    ) -> WorkflowUpdateHandle[Any]:
        """Return a handle on it, once it was sent."""
        return WorkflowUpdateHandle(
            client,
            self.event.request,
            workflow_id,
            workflow_run_id=run_id,
            result_type=self.result_type,
            modules=self.modules,
            watch=watch,
        )


class WorkflowUpdateHandle(Generic[R]):
    """One update that was sent to a run. Get one from `WorkflowHandle.start_update`."""

    def __init__(
        self,
        client: Client,
        id: str,
        workflow_id: str,
        *,
        workflow_run_id: str | None = None,
        result_type: Any = None,
        modules: tuple[str, ...] = (),
        watch: Watch | None = None,
    ) -> None:
        self._client = client
        self._id = id
        self._workflow_id = workflow_id
        self._workflow_run_id = workflow_run_id
        self._result_type = result_type
        self._modules = modules
        self._watch = watch

    def __repr__(self) -> str:
        return f"WorkflowUpdateHandle(id={self._id!r}, workflow_id={self._workflow_id!r})"

    @property
    def id(self) -> str:
        """Id of the update, unique in its run."""
        return self._id

    @property
    def workflow_id(self) -> str:
        """Id of the run that it was sent to."""
        return self._workflow_id

    @property
    def workflow_run_id(self) -> str | None:
        """Unique id of that run."""
        return self._workflow_run_id

    async def result(self) -> R:
        """Wait for the answer and return it. May be asked again, also in another process.

        Raises:
            WorkflowUpdateFailedError: The run rejected the update, its handler failed, or the run
                ended before it answered; the cause says why.
            WorkflowNotFoundError: There is no such run, or it has no such update.
        """
        row = await self.reached(WorkflowUpdateStage.COMPLETED)
        answer = history.answer_from(row.data)
        wanted = history.references(answer)
        if wanted:
            run = await self._client.run_row(self._workflow_id, self._workflow_run_id)
            items = await self._client.store.read_items(run.lineage, wanted)
            answer = history.resolve(answer, history.intact(items.items(), run.lineage))

        if answer.failure is not None:
            cause = self._client.failures.rebuild(answer.failure, modules=self._modules)
            how = "was rejected" if row.stage == "rejected" else "failed"
            raise self._failed(how, cause)

        what = f"the result of update {self._id!r}"
        data = b"null" if answer.result is None else answer.result.data
        if self._result_type is None:
            return cast("R", _json.decode_untyped(data, what=what))

        return cast("R", _json.decode(data, self._result_type, what=what))

    async def reached(self, stage: WorkflowUpdateStage) -> ReplyRow:
        """Wait until the update came so far, or was rejected; return what is known of it.

        Raises:
            WorkflowUpdateFailedError: The run ended before.
            WorkflowNotFoundError: There is no such run, or it has ended without the update.
        """
        client = self._client
        begun = asyncio.get_running_loop().time()
        with client.clock.waiting():
            while True:
                watch = self._watch
                if watch is not None and watch.row and _is_at(watch.row, stage):
                    return watch.row

                owned = client.owned(self._workflow_id, self._workflow_run_id)
                if owned is not None and (watch is None or watch.ended):
                    # Before the look, which finds what was told before.
                    watch = self._watch = owned.replies.watch(self._id)

                seen = client.changes.count
                # Before the reply, which comes with the end of the run at the latest.
                run = await client.run_row(self._workflow_id, self._workflow_run_id)
                self._workflow_run_id = run.run_id
                row = await client.store.read_reply(run.run_id, self._id)
                if row is not None and _is_at(row, stage):
                    return row

                if run.successor is not None and row is None:
                    # It was handed to the run that took its place, if it was not read.
                    self._workflow_run_id = run.successor
                    continue

                if run.status != "running":
                    raise self._left_behind(run.status, row)

                if watch is not None and not watch.ended:
                    await watch.change()
                else:
                    await client.changes.wait(timeout=1.0, begun=begun, since=seen)

    def _left_behind(self, status: str, row: ReplyRow | None) -> ex.DurableError:
        see = f"See: durable show {self._workflow_id}"
        if row is None:
            return ex.WorkflowNotFoundError(
                f"run {self._workflow_id!r} has ended ({status}) and never took an update with the "
                f"id {self._id!r}. {see}"
            )

        cause = ex.ApplicationError(
            f"the run ended ({status}) before the handler of the update did. {see}",
            type="AcceptedUpdateCompletedWorkflow",
        )
        return self._failed("was not answered", cause)

    def _failed(self, how: str, cause: BaseException) -> ex.WorkflowUpdateFailedError:
        error = ex.WorkflowUpdateFailedError(
            f"the update {self._id!r} of run {self._workflow_id!r} {how}: {type(cause).__name__}: "
            f"{cause}"
        )
        error.__cause__ = cause
        return error


def _is_at(row: ReplyRow, stage: WorkflowUpdateStage) -> bool:
    return row.stage != "accepted" or stage <= WorkflowUpdateStage.ACCEPTED
