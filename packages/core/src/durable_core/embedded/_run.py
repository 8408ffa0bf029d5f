"""One call of a durable run from plain code, in whatever state the run is."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import msgspec

from durable_core import _ids, history
from durable_core import exceptions as ex
from durable_core._arguments import UNSET, arguments
from durable_core.engine import Run
from durable_core.payloads import _digest, _json
from durable_core.stores import Reuse, RunRow
from durable_core.worker import Worker
from durable_core.worker._owned import LostRunError, OwnedRun
from durable_core.worker._replay import Record
from durable_core.worker._start import new_start
from durable_core.workflow import _defn as workflow_defn

from . import _interrupted, _loops
from ._loops import Embedded

__all__ = ["Finished", "OnCancel", "OnFailed", "execute_workflow", "run", "under_way"]

_R = TypeVar("_R")

_log = logging.getLogger("durable_core.embedded")

OnFailed = Literal["resume", "raise", "restart"]
"""What calling a run does that has ended without a result: continue it before the failure that
ended it, raise that failure, or start another run with its id."""

OnCancel = Literal["cancel", "detach"]
"""What cancelling the await of a run does: cancel the run, or let it go on in its process."""


class Finished(msgspec.Struct, frozen=True):
    """A run that has ended, as `run` returns it.

    Attributes:
        workflow_id: Id of the run.
        run_id: Unique id of the run.
        resources: The objects that were attached to the execution that ended it here: the caller's
            own, or those of an earlier caller of this process whose run this call joined. None if
            only the record could be read.
        result: JSON of the result; None if it failed.
        failure: What it failed with; None if it did not.
        cancelled: Whether its code ended because somebody had asked for its end.
        terminated: Whether somebody ended it without its code.
    """

    workflow_id: str
    run_id: str
    resources: Mapping[str, Any]
    result: bytes | None
    failure: BaseException | None
    cancelled: bool = False
    terminated: bool = False


class _Call(msgspec.Struct):
    """One call of `run`."""

    embedded: Embedded
    start: history.Start
    context: contextvars.Context
    resources: Mapping[str, Any]
    on_failed: OnFailed
    named: bool
    paused: str | None = None

    @property
    def id(self) -> str:
        return self.start.workflow_id


_DEATH = 0.2  # seconds between two looks whether the owner of a run lives


async def execute_workflow(
    workflow: Callable[..., Awaitable[_R]] | type,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = (),
    id: str,
    url: str | None = None,
    on_failed: OnFailed = "raise",
    on_cancel: OnCancel = "cancel",
) -> _R:
    """Run a workflow in this process to its end, over crashes of it.

    Called again with the same id and input, it continues a run that was interrupted, joins one that
    is under way, or returns the recorded result of one that is completed.

    Args:
        workflow: A workflow function, or the class or run method of a workflow.
        arg: Its only argument.
        args: Its arguments, if there is more than one.
        id: Names the run; the same call with the same id is the same run.
        url: As in `Client.connect`.
        on_failed: What to do if the run has ended without a result: raise its failure again, go on
            before the failure (what the code did about it, such as undoing its steps, is then set
            aside), or start anew.
        on_cancel: What cancelling this call does. Ctrl-C and the end of the event loop never cancel
            a run.

    Raises:
        WorkflowFailureError: The run failed; the cause says why.
        WorkflowAlreadyStartedError: The id belongs to a run of another workflow or other input.
        ArgumentError: The workflow does not take so many arguments.
        EncodeError: An argument cannot be recorded.
        StoreError: The store cannot be used.
        Exception: What a bug in workflow code raised; the run is kept, and fixed code continues it.
    """
    finished = await run(
        workflow,
        arguments(arg, args),
        id=id,
        url=url,
        on_failed=on_failed,
        on_cancel=on_cancel,
    )
    if finished.result is None:
        cause = finished.failure or ex.ApplicationError("unknown failure")
        error = ex.WorkflowFailureError(
            f"run {id!r} failed: {type(cause).__name__}: {cause}. See: durable show {id}"
        )
        raise error from cause

    type_ = workflow_defn.definition_of(workflow).signature.result.type
    return cast(
        "_R", _json.decode(finished.result, type_, what=f"the recorded result of run {id!r}")
    )


async def run(
    workflow: Callable[..., Awaitable[Any]] | type,
    args: tuple[Any, ...] = (),
    *,
    id: str | None = None,
    resources: Mapping[str, Any] | None = None,
    memo: Mapping[str, Any] | None = None,
    url: str | None = None,
    on_failed: OnFailed = "resume",
    on_cancel: OnCancel = "cancel",
) -> Finished:
    """Run a workflow in this process to its end, with live objects attached; for adapters.

    A run that is completed is rebuilt by replay, so that its code meets the objects of this call;
    nothing is executed. If its code has changed too much for that, the recorded result is returned
    all the same, with a warning and without ``resources``. A run that another living process owns
    is waited for, and taken over if that process dies. One that was cancelled or terminated by
    somebody else than its caller is not taken up again by a call.

    Args:
        workflow: A workflow function, or the class or run method of a workflow.
        args: Its arguments.
        id: Names the run; a new one is made up if it is None.
        resources: Live objects for the code of the run, see `durable_core.adapter.Engine.resource`.
        memo: Recorded at the start, for readers; never compared.
        url: As in `Client.connect`.
        on_failed: What to do if the run has ended without a result.
        on_cancel: What cancelling this call does.

    Raises:
        WorkflowAlreadyStartedError: The id belongs to a run of another workflow or other input.
        StoreError: The store cannot be used.
        Exception: What a bug in workflow code raised; the run is kept, and fixed code continues it.
    """
    definition = workflow_defn.definition_of(workflow)
    embedded = await _loops.of_running_loop(url)
    embedded.worker.registered.add_workflow(definition)
    workflow_id = id if id is not None else _ids.uuid7()
    if id is None:
        _log.info("run without an id: %s", workflow_id)

    start = new_start(
        definition,
        args,
        namespace=embedded.client.namespace,
        workflow_id=workflow_id,
        task_queue=_loops.TASK_QUEUE,
        client=embedded.client.identity,
        bound=True,
        memo=memo,
    )
    call = _Call(
        embedded, start, contextvars.copy_context(), resources or {}, on_failed, id is not None
    )
    embedded.waiting[workflow_id] += 1
    try:
        with _interrupted.watched(workflow_id, named=call.named):
            return await _follow(call, on_cancel)
    finally:
        embedded.waiting[workflow_id] -= 1
        if not embedded.waiting[workflow_id]:
            del embedded.waiting[workflow_id]


def under_way(workflow_id: str) -> asyncio.Future[Any] | None:
    """Return a future that ends with a run that this loop owns; None if it owns none of that id."""
    for embedded in _loops.opened_here():
        owned = embedded.client.owned(workflow_id, None)
        if owned is not None:
            return owned.done

    return None


async def _follow(call: _Call, on_cancel: OnCancel) -> Finished:
    """Wait for the end of a run, whoever owns it."""
    embedded = call.embedded
    begun = asyncio.get_running_loop().time()
    while True:
        seen = embedded.client.changes.count
        # A task of its own: a run that is half taken when its caller gives up is nobody's.
        attaching = asyncio.ensure_future(_attach_alone(call))
        try:
            owned = await asyncio.shield(attaching)
            if isinstance(owned, Finished):
                return owned

            if owned is None:
                await _elsewhere(call, begun, seen)
                continue

            done = await asyncio.shield(owned.done)
            if isinstance(done.closed, history.ContinueRun):
                # The run that took its place is found by its id.
                continue

        except asyncio.CancelledError:
            await _leave(call, attaching, on_cancel)
            raise
        except LostRunError:
            continue
        except ex.WorkflowAlreadyStartedError as error:
            if error.run_id is None:
                # Another process started the same id between our look and our commit.
                continue

            raise
        except ex.StoreClosedError:
            _interrupted.note(call.id, named=call.named)
            raise

        return _finished(embedded, owned.row, done)


async def _elsewhere(call: _Call, begun: float, seen: int) -> None:
    """Wait until a run that another process owns may have ended there, or that process died."""
    store, changes = call.embedded.client.store, call.embedded.client.changes
    clock = asyncio.get_running_loop().time
    looked = clock()
    while True:
        await changes.wait(timeout=_DEATH, begun=begun, since=seen)
        seen = changes.count
        row = await store.find(call.start.namespace, call.start.workflow_id)
        if row is None or row.status != "running" or row.owner is None:
            return

        # A death is no commit: looking for it at every one would be in vain.
        if clock() - looked >= _DEATH:
            looked = clock()
            if not await store.owner_alive(row):
                return


async def _leave(
    call: _Call, attaching: asyncio.Future[OwnedRun | Finished | None], on_cancel: OnCancel
) -> None:
    """Do with the run what cancelling its call means."""
    embedded = call.embedded
    if _interrupted.interrupting() or embedded.worker.ending:
        _interrupted.note(call.id, named=call.named)
        return

    if on_cancel == "detach" or embedded.waiting[call.id] > 1:
        return

    stopped = _interrupted.cell_stopped()
    owned = await asyncio.shield(attaching)
    if not isinstance(owned, OwnedRun):
        return

    if stopped:
        _interrupted.say(call.id, named=call.named)
        await asyncio.shield(_release(owned))
    else:
        await asyncio.shield(_cancel(owned))


async def _release(owned: OwnedRun) -> None:
    """Let a run go that nothing is to be recorded of, while its loop goes on."""
    bodies = owned.work.tasks
    await owned.hand_over("the cell was stopped")
    await asyncio.gather(*bodies, return_exceptions=True)


async def _cancel(owned: OwnedRun) -> None:
    """Cancel a run on behalf of its only caller, and wait until its code has cleaned up."""
    request = history.CancelRequested(
        request=_ids.uuid7(), reason="its caller was cancelled", time=owned.run.time
    )
    try:
        await owned.receive(request)
        await asyncio.shield(owned.done)
    except (LostRunError, ex.StoreError):
        # Ended, or not ours any more.
        return
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001  # what its code raised is in its row, and in the log
        _log.debug("run %r did not end as it was cancelled: %r", owned.row.workflow_id, error)


# Finding the run


async def _attach_alone(call: _Call) -> OwnedRun | Finished | None:
    async with call.embedded.lock(call.id):
        return await _attach(call)


async def _attach(call: _Call) -> OwnedRun | Finished | None:
    """Return the run if it is ours now, its end if it has one, None if another owns it."""
    worker, client, start = call.embedded.worker, call.embedded.client, call.start
    await worker.ready()
    owned = worker.owned_as(start.namespace, start.workflow_id)
    if owned is not None and owned.leaving:
        await asyncio.wait([owned.done])
        owned = None

    if owned is not None:
        _check_same(worker, start, owned.run.start)
        return owned

    row = await client.store.find(start.namespace, start.workflow_id)
    if row is None:
        return _begin(call, "never")

    recorded = history.start_from(await client.store.read_start(row.run_id))
    if recorded.args_digest != start.args_digest:
        items = await client.store.read_items(row.lineage, history.references(recorded))
        recorded = history.resolve(recorded, dict(items))

    _check_same(worker, start, recorded)
    if row.status != "running":
        return await _attach_ended(call, row)

    if row.paused is not None:
        _say_paused(call, row)
        return None

    # A run that is ours and not loaded was dropped after a failed write: take it again.
    if not worker.owns(row) and await client.store.owner_alive(row):
        return None

    return await _take(call, row)


def _say_paused(call: _Call, row: RunRow) -> None:
    """Say once why a call waits."""
    if call.paused != row.paused:
        call.paused = row.paused
        _log.warning(
            "run %r is paused, and its call waits. It goes on with: durable unpause %s",
            row.workflow_id,
            row.workflow_id,
        )


async def _attach_ended(call: _Call, row: RunRow) -> OwnedRun | Finished | None:
    """Return the end of a run, or the run if it goes on."""
    worker, client = call.embedded.worker, call.embedded.client
    if row.status != "completed" and call.on_failed == "restart":
        return _begin(call, "failed")

    loaded = await client.store.load(row)
    if row.status != "completed" and call.on_failed == "resume" and not _ended_by_others(loaded):
        return await _take(call, row, reopen=True)

    try:
        replayed = await worker.replay(loaded, context=call.context, resources=call.resources)
    except ex.StoreError:
        raise
    except Exception as error:
        if row.status != "completed":
            raise

        return _recorded(row, loaded, error)

    try:
        return _finished(call.embedded, row, replayed)
    finally:
        replayed.close()


def _recorded(row: RunRow, loaded: Any, error: Exception) -> Finished:
    """Return the result of a run whose code has changed too much to be replayed."""
    last = Record(loaded).activations[-1].commands[-1]
    if not isinstance(last, history.CompleteRun):
        raise error

    _log.warning(
        "run %r is completed, and its code has changed so that it cannot be replayed; its result "
        "stands (%s: %s)",
        row.workflow_id,
        type(error).__name__,
        error,
    )
    return Finished(row.workflow_id, row.run_id, {}, last.result.data, None)


def _ended_by_others(loaded: Any) -> bool:
    """Return whether somebody else than the caller of a run wanted its end."""
    activations = Record(loaded).activations
    if isinstance(activations[-1].commands[-1], history.TerminateRun):
        return True

    asked = [e for a in activations for e in a.events if isinstance(e, history.CancelRequested)]
    last = activations[-1].commands[-1]
    return (
        isinstance(last, history.FailRun)
        and last.cancelled
        and any(request.client for request in asked)
    )


def _begin(call: _Call, reuse: Reuse) -> OwnedRun:
    return call.embedded.worker.begin(
        call.start, context=call.context, resources=call.resources, reuse=reuse
    )


async def _take(call: _Call, row: RunRow, *, reopen: bool = False) -> OwnedRun | None:
    try:
        return await call.embedded.worker.take(
            row, context=call.context, resources=call.resources, reopen=reopen, insist=True
        )
    except LostRunError:
        return None


def _check_same(worker: Worker, start: history.Start, recorded: history.Start) -> None:
    known = recorded.first_type or recorded.workflow_type
    if start.workflow_type != known:
        raise ex.WorkflowAlreadyStartedError(
            f"the id {start.workflow_id!r} belongs to a run of {known!r}, not of "
            f"{start.workflow_type!r}: use another id. See: durable show {start.workflow_id}",
            workflow_id=start.workflow_id,
            run_id=recorded.run_id,
        )

    path = None
    if recorded.first_digest:
        # What it was called with is the input of the first run of its chain.
        path = None if start.args_digest == recorded.first_digest else "$"
    elif start.args_digest != recorded.args_digest:
        # As on replay, a field that was added with a default makes no other input.
        types = worker.registered.workflow(start.workflow_type).signature.types
        what = f"the input of workflow {start.workflow_type!r}"
        args = _json.decode_args(start.args.data, types, what=what)
        path = _digest.difference(recorded.args.data, args, types, what=what)

    if path is not None:
        raise ex.WorkflowAlreadyStartedError(
            f"the id {start.workflow_id!r} belongs to a run with other input (at {path}): use one "
            f"id per input, such as {start.workflow_id + '/2'!r}. See: durable show "
            f"{start.workflow_id}",
            workflow_id=start.workflow_id,
            run_id=recorded.run_id,
        )


def _finished(embedded: Embedded, row: RunRow, done: Run) -> Finished:
    closed, resources = done.closed, done.resources
    if isinstance(closed, history.CompleteRun):
        return Finished(row.workflow_id, row.run_id, resources, closed.result.data, None)

    if isinstance(closed, history.FailRun | history.TerminateRun):
        failures = embedded.worker.registered.failures
        failure = failures.rebuild(closed.failure, modules=done.modules)
        reason = done.handlers.cancellation_reason
        asked = isinstance(closed, history.FailRun) and closed.cancelled and reason is not None
        if asked:
            failure = ex.CancelledError(
                f"run {row.workflow_id!r} was cancelled{_after(reason)}. See: durable show "
                f"{row.workflow_id}"
            )

        terminated = isinstance(closed, history.TerminateRun)
        if terminated:
            failure = ex.TerminatedError(
                f"run {row.workflow_id!r} was terminated{_after(str(failure), 'terminated')}. See: "
                f"durable show {row.workflow_id}"
            )

        return Finished(row.workflow_id, row.run_id, resources, None, failure, asked, terminated)

    raise ex.StoreCorruptError(f"run {row.workflow_id!r} is {row.status} and its record has no end")


def _after(reason: str | None, nothing: str = "") -> str:
    return f": {reason}" if reason and reason != nothing else ""
