"""A handle on one run."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from msgspec.structs import replace

from durable_core import _ids, history
from durable_core import exceptions as ex
from durable_core._arguments import UNSET, arguments
from durable_core._signatures import signature
from durable_core.payloads import _json
from durable_core.payloads._sent import encoded
from durable_core.stores import Outcome, _stalls
from durable_core.streams import StreamReader
from durable_core.worker._children import end_of, outcome_row
from durable_core.worker._owned import LostRunError
from durable_core.workflow import _handlers

from . import _standing
from ._asked import AskingRun
from ._asking import asked, seconds_of
from ._replayed import replayed
from ._updates import Update, WorkflowUpdateHandle, WorkflowUpdateStage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from durable_core.stores import RunRow

__all__ = ["WorkflowHandle"]

R = TypeVar("R")
T = TypeVar("T")


class WorkflowHandle(AskingRun, Generic[R]):
    """One run, or, without ``run_id``, whichever run of the workflow id is open or newest.

    Get one from `Client.start_workflow` or `Client.get_workflow_handle`; it is valid as long as its
    client is.
    """

    async def result(
        self, *, follow_runs: bool = True, on_stall: Literal["wait", "raise"] = "wait"
    ) -> R:
        """Wait for the run to end and return its result.

        Args:
            follow_runs: Whether to wait for the run that takes its place, if one does.
            on_stall: Whether to wait for fixed code if the run has stalled, or to raise.

        Raises:
            WorkflowFailureError: It ended without a result; the cause says why.
            WorkflowContinuedAsNewError: Another run took its place, and is not to be waited for.
            WorkflowStalledError: It has stalled, and ``on_stall`` is ``"raise"``.
            WorkflowNotFoundError: There is no such run.
        """
        begun = asyncio.get_running_loop().time()
        run_id = self._run_id
        with self._client.clock.waiting():
            while True:
                owned = self._client.owned(self._id, run_id)
                if owned is not None:
                    # Its worker learns of whoever else ends it, or takes it over.
                    await asyncio.wait([owned.done])
                    closed = owned.run.closed
                    if owned.done.exception() is None and closed is not None:
                        if isinstance(closed, history.ContinueRun) and follow_runs:
                            run_id = closed.run_id
                            continue

                        ended = replace(owned.row, status=owned.run.status)
                        return self._outcome(ended, closed)

                seen = self._client.changes.count
                # One that was purged, while the chain goes on that it began, is followed as well.
                found = await self._client.store.find(self._client.namespace, self._id, run_id)
                row = found or await self._row()
                if row.successor is not None and follow_runs:
                    run_id = row.successor
                    continue

                if row.status != "running":
                    last = (await self._recorded(row)).activations[-1].commands[-1]
                    return self._outcome(row, last)

                if row.stall is not None and on_stall == "raise":
                    raise stalled_error(row)

                await self._client.changes.wait(timeout=1.0, begun=begun, since=seen)

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
        """Send a signal; return when it is durable. It is then handled, whatever happens.

        Signals of one sender are handled in the order in which they were sent.

        Args:
            signal: A method with `workflow.signal`, or the name of a signal.
            arg: Its only argument.
            args: Its arguments, if there is more than one.

        Raises:
            WorkflowNotFoundError: There is no such run, or it has ended.
            ArgumentError: The signal does not take so many arguments.
            EncodeError: An argument cannot be recorded.
            StoreError: The signal could not be written.
        """
        name = _handlers.name_of(signal, "signal")
        payload = history.Payload(data=encoded(signal, arguments(arg, args), f"signal {name!r}"))
        await self.send(
            history.SignalReceived(
                name=name,
                args=payload,
                request=_ids.uuid7(),
                client=self._client.identity,
                time=self._client.clock.now(),
            ),
            f"the signal {name!r} was not sent",
        )

    async def cancel(self, *, reason: str = "") -> None:
        """Ask the run to end: `asyncio.CancelledError` is raised in its code; return when durable.

        The code may clean up first, or go on regardless.

        Args:
            reason: For the run's code and for people.

        Raises:
            WorkflowNotFoundError: There is no such run, or it has ended.
            StoreError: The request could not be written.
        """
        await self.send(
            history.CancelRequested(
                request=_ids.uuid7(),
                reason=reason,
                client=self._client.identity,
                time=self._client.clock.now(),
            ),
            "it cannot be cancelled",
        )

    async def pause(self, *, reason: str = "") -> None:
        """Let the run stand still: no step, no body and no further attempt begins until `unpause`.

        Return when that is durable. A step that is under way is finished, and bodies that run come
        to their end; what comes of them waits, as do signals, updates, timers that fire, and a
        request to cancel. Queries are answered, and `terminate` ends it.

        Args:
            reason: For people.

        Raises:
            CallError: It is paused already.
            WorkflowNotFoundError: There is no such run, or it has ended.
            StoreError: It could not be written.
        """
        await _standing.pause(self._client, await self._row(), reason)

    async def unpause(self) -> None:
        """Let a paused run go on; return when that is durable.

        Raises:
            CallError: It is not paused.
            WorkflowNotFoundError: There is no such run.
            StoreError: It could not be written.
        """
        await _standing.unpause(self._client, await self._row())

    async def retry_now(self, activity_id: str | None = None) -> None:
        """Let activities that wait for their next attempt begin it now; return when durable.

        Args:
            activity_id: Of the activity, as its error and ``durable show`` name it; None for all.

        Raises:
            CallError: No such activity waits for a next attempt.
            WorkflowNotFoundError: There is no such run, or it has ended.
            StoreError: The request could not be written.
        """
        row = await self._row()
        recorded = await self._recorded(row)
        now = self._client.clock.now()
        seq = _standing.backing_off(row, recorded.pending, activity_id, now)
        await self.send(
            history.RetryAsked(
                request=_ids.uuid7(), activity=seq, client=self._client.identity, time=now
            ),
            "nothing of it is tried again",
        )

    async def terminate(self, *args: Any, reason: str = "") -> None:
        """End the run at once, without its code; bodies that run are cancelled, and dropped.

        Args:
            args: Recorded with the end.
            reason: For people.

        Raises:
            WorkflowNotFoundError: There is no such run, or it has ended.
            EncodeError: An argument cannot be recorded.
            StoreError: The end could not be written.
        """
        row = await self._row()
        now = self._client.clock.now()
        failure = self._client.failures.record(ex.TerminatedError(reason or "terminated"))
        command = history.TerminateRun(
            failure=failure,
            client=self._client.identity,
            details=_json.encode(args, what="the details of a termination") if args else b"",
        )

        def data(number: int, fence: int) -> bytes:
            last = history.Activation(number=number, time=now, fence=fence, commands=(command,))
            return history.Packer(row.lineage).pack(last)

        while True:
            heard = None if row.parent is None else end_of(row.parent_seq, command)
            told = None if heard is None else outcome_row(heard, row.run_id, now)
            outcome = await self._client.store.terminate(row.run_id, time=now, data=data, told=told)
            if outcome is Outcome.ACCEPTED:
                break

            # Another run may have taken its place meanwhile.
            before, row = row, await self._row()
            if row.run_id == before.run_id:
                raise await self._ended("it cannot be terminated")

        owned = self._client.owned(row.workflow_id, row.run_id)
        if owned is not None:
            owned.lose()

    @overload
    async def query(
        self,
        query: Callable[..., T],
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        rpc_timeout: timedelta | None = ...,
    ) -> T: ...

    @overload
    async def query(
        self,
        query: str,
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        result_type: Any = ...,
        rpc_timeout: timedelta | None = ...,
    ) -> Any: ...

    async def query(
        self,
        query: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = (),
        result_type: Any = None,
        rpc_timeout: timedelta | None = None,
    ) -> Any:
        """Ask the run for what it knows: its code answers, on what is committed.

        The run may have ended. A process that knows its code replays it, unless a worker of its own
        has it loaded. One that does not hands the query to a worker of the run's queue that does.

        Args:
            query: A method with `workflow.query`, or the name of a query.
            arg: Its only argument.
            args: Its arguments, if there is more than one.
            result_type: What the answer is decoded to, if a name is given.
            rpc_timeout: How long to wait for a worker of another process; 10 seconds by default.

        Raises:
            WorkflowQueryFailedError: The run has no such query, or it raised.
            WorkflowQueryUnansweredError: This process does not know the run's code, and no worker
                that does answered in time.
            WorkflowNotFoundError: There is no such run.
            TypeError: The timeout is no timedelta.
            ValueError: The timeout is not positive.
        """
        timeout = seconds_of(rpc_timeout)
        name = _handlers.name_of(query, "query")
        owner = f"query {name!r}"
        data = await self._answer(name, encoded(query, arguments(arg, args), owner), timeout)
        if not isinstance(query, str):
            result_type = signature(query).result.type

        what = f"the answer of {owner}"
        if result_type is None:
            return _json.decode_untyped(data, what=what)

        return _json.decode(data, result_type, what=what)

    @overload
    def stream(
        self, name: str, *, from_offset: int = ..., result_type: type[T]
    ) -> StreamReader[T]: ...

    @overload
    def stream(
        self, name: str, *, from_offset: int = ..., result_type: Any = ...
    ) -> StreamReader[Any]: ...

    def stream(
        self, name: str, *, from_offset: int = 0, result_type: Any = None
    ) -> StreamReader[Any]:
        """Return what follows a stream of the run; nothing is read yet.

        It needs neither the run's code nor its owner, and waits for what is to come: also for the
        stream itself, while the run is open. Streams are purged a day after the end of their run.

        Args:
            name: Of the stream.
            from_offset: The first item that is read, such as `StreamReader.offset` of a reader
                before.
            result_type: What chunks are decoded to; JSON's own types by default.

        Raises:
            ValueError: A stream cannot be called so, or the offset is negative.
        """
        return StreamReader(
            self._client,
            self._id,
            self._run_id,
            name,
            from_offset=from_offset,
            result_type=result_type,
        )

    async def _answer(self, name: str, args: bytes, timeout: float) -> bytes:
        owned = self._client.owned(self._id, self._run_id)
        if owned is not None:
            with contextlib.suppress(LostRunError):
                return await owned.query(name, args)

        row = await self._row()
        try:
            run = await replayed(self._client, row, self._definition)
        except ex.NotRegisteredError:
            return await asked(self._client, row, name, args, timeout=timeout)

        try:
            return run.query(name, args)
        finally:
            run.close()

    @overload
    async def execute_update(
        self,
        update: Callable[..., Awaitable[T]],
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str | None = ...,
    ) -> T: ...

    @overload
    async def execute_update(
        self,
        update: Callable[..., T],
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str | None = ...,
    ) -> T: ...

    @overload
    async def execute_update(
        self,
        update: str,
        arg: Any = ...,
        *,
        args: Sequence[Any] = ...,
        id: str | None = ...,
        result_type: Any = ...,
    ) -> Any: ...

    async def execute_update(
        self,
        update: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = (),
        id: str | None = None,
        result_type: Any = None,
    ) -> Any:
        """Send an update and wait for its answer; see `start_update`.

        Raises:
            WorkflowUpdateFailedError: The run rejected it, its handler failed, or the run ended
                before it answered; the cause says why.
            WorkflowNotFoundError: There is no such run, or it has ended.
            ArgumentError: The update does not take so many arguments.
            EncodeError: An argument cannot be recorded.
            StoreError: The update could not be written.
        """
        handle = await self._start(update, arg, args, id, result_type, WorkflowUpdateStage.ADMITTED)
        return await handle.result()

    @overload
    async def start_update(
        self,
        update: Callable[..., Awaitable[T]],
        arg: Any = ...,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = ...,
        id: str | None = ...,
    ) -> WorkflowUpdateHandle[T]: ...

    @overload
    async def start_update(
        self,
        update: Callable[..., T],
        arg: Any = ...,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = ...,
        id: str | None = ...,
    ) -> WorkflowUpdateHandle[T]: ...

    @overload
    async def start_update(
        self,
        update: str,
        arg: Any = ...,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = ...,
        id: str | None = ...,
        result_type: Any = ...,
    ) -> WorkflowUpdateHandle[Any]: ...

    async def start_update(
        self,
        update: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        wait_for_stage: WorkflowUpdateStage,
        args: Sequence[Any] = (),
        id: str | None = None,
        result_type: Any = None,
    ) -> WorkflowUpdateHandle[Any]:
        """Send an update; return a handle on it when it came so far, or was rejected.

        Args:
            update: A method with `workflow.update`, or the name of an update.
            arg: Its only argument.
            wait_for_stage: How far: `WorkflowUpdateStage.ACCEPTED`, or another.
            args: Its arguments, if there is more than one.
            id: Tells it from the run's other updates: one that is sent again is not handled again,
                and has the same answer. A new one by default.
            result_type: What the answer is decoded to, if a name is given.

        Raises:
            WorkflowUpdateFailedError: The run ended before it came so far.
            WorkflowNotFoundError: There is no such run, or it has ended.
            ArgumentError: The update does not take so many arguments.
            EncodeError: An argument cannot be recorded.
            StoreError: The update could not be written.
        """
        return await self._start(update, arg, args, id, result_type, wait_for_stage)

    def get_update_handle(
        self, id: str, *, workflow_run_id: str | None = None, result_type: Any = None
    ) -> WorkflowUpdateHandle[Any]:
        """Return a handle on an update that was sent before; it is not looked up yet."""
        run_id = workflow_run_id or self._run_id
        return WorkflowUpdateHandle(
            self._client, id, self._id, workflow_run_id=run_id, result_type=result_type
        )

    async def _start(
        self,
        update: str | Callable[..., Any],
        arg: Any,
        args: Sequence[Any],
        id: str | None,
        result_type: Any,
        stage: WorkflowUpdateStage,
    ) -> WorkflowUpdateHandle[Any]:
        made = Update.of(self._client, update, arg, args, id, result_type)
        return await self.send_update(made, stage)

    async def send_update(
        self, update: Update, stage: WorkflowUpdateStage
    ) -> WorkflowUpdateHandle[Any]:
        """Send an update that is encoded, and wait until it came so far."""
        try:
            run_id, watch = await self.send(
                update.event, f"the update {update.event.name!r} was not sent"
            )
        except ex.WorkflowNotFoundError:
            # It may have been sent before.
            row = await self._row()
            if await self._client.store.read_reply(row.run_id, update.event.request) is None:
                raise

            run_id, watch = row.run_id, None

        handle = update.handle(self._client, self._id, run_id, watch)
        if stage > WorkflowUpdateStage.ADMITTED:
            await handle.reached(stage)

        return handle

    def _outcome(self, row: RunRow, last: history.Command) -> R:
        failures = self._client.failures
        if isinstance(last, history.CompleteRun):
            what = f"the recorded result of workflow {row.workflow_type!r}"
            data = last.result.data
            if self._definition is None:
                return cast("R", _json.decode_untyped(data, what=what))

            type_ = self._definition.signature.result.type
            return cast("R", _json.decode(data, type_, what=what))

        if isinstance(last, history.ContinueRun):
            raise ex.WorkflowContinuedAsNewError(
                f"run {row.workflow_id!r} ended, and another one took its place: {last.run_id}",
                new_execution_run_id=last.run_id,
            )

        if isinstance(last, history.FailRun | history.TerminateRun):
            modules = () if self._definition is None else (self._definition.module,)
            raise failure_error(row, failures.rebuild(last.failure, modules=modules))

        raise ex.StoreCorruptError(f"run {row.run_id} is {row.status} and its record has no end")


def failure_error(row: RunRow, cause: BaseException) -> ex.WorkflowFailureError:
    """Return what a client raises for a run that ended without a result."""
    error = ex.WorkflowFailureError(
        f"run {row.workflow_id!r} {row.status}: {type(cause).__name__}: {cause}. See: durable show "
        f"{row.workflow_id}"
    )
    error.__cause__ = cause
    return error


def stalled_error(row: RunRow) -> ex.WorkflowStalledError:
    """Return what a client raises for a run that stalled."""
    stall = _stalls.read(row.stall)
    return ex.WorkflowStalledError(
        f"run {row.workflow_id!r} has stalled: {stall.cause if stall else 'unknown'}. It is kept, "
        f"and fixed code continues it. See: durable show {row.workflow_id}",
        workflow_id=row.workflow_id,
        run_id=row.run_id,
    )
