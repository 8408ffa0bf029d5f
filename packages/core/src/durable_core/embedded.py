"""Durable runs from plain code: no server, no `Worker` to write.

The first call makes a client and a worker for the event loop that it runs on. They live with the
loop, and end with it: runs that are under way then are released, not lost, and continue when their
id is called again, in this process or another.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from urllib.parse import quote

from . import _defaults, _ids, history
from . import exceptions as ex
from ._arguments import UNSET, arguments
from .client import Client, _url
from .engine import Run
from .payloads import _digest, _json
from .stores import RunRow
from .worker import Worker
from .worker._owned import LostRunError, OwnedRun
from .worker._start import new_start
from .workflow import _defn as workflow_defn

__all__ = ["Finished", "close", "execute_workflow", "run"]

_R = TypeVar("_R")

_log = logging.getLogger("durable_core.embedded")
_TASK_QUEUE = "embedded"


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that has ended, as `run` returns it.

    Attributes:
        workflow_id: Id of the run.
        run_id: Unique id of the run.
        resources: The objects that were attached to the execution that ended it here: the caller's
            own, or those of an earlier caller of this process whose run this call joined.
        result: JSON of the result; None if it failed.
        failure: What it failed with; None if it did not.
    """

    workflow_id: str
    run_id: str
    resources: Mapping[str, Any]
    result: bytes | None
    failure: BaseException | None


@dataclass(slots=True)
class _Embedded:
    """The client and worker of one loop and one store."""

    client: Client
    worker: Worker
    keeper: AsyncGenerator[None, None]
    locks: weakref.WeakValueDictionary[str, asyncio.Lock] = field(
        default_factory=weakref.WeakValueDictionary[str, asyncio.Lock]
    )

    def lock(self, workflow_id: str) -> asyncio.Lock:
        """Return the lock under which a run is looked up and started or taken."""
        found = self.locks.get(workflow_id)
        if found is None:
            found = self.locks[workflow_id] = asyncio.Lock()

        return found


# By loop and path. Not weak: what a loop left open when it was closed is closed by the next one.
_loops: dict[asyncio.AbstractEventLoop, dict[str, asyncio.Task[_Embedded]]] = {}


async def execute_workflow(
    workflow: Callable[..., Awaitable[_R]] | type,
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = (),
    id: str,
    url: str | None = None,
) -> _R:
    """Run a workflow in this process to its end, over crashes of it.

    Called again with the same id and input, it continues a run that was interrupted, joins one that
    is under way, or returns the recorded result of one that is completed.

    Args:
        workflow: The run method or the class of a workflow.
        arg: Its only argument.
        args: Its arguments, if there is more than one.
        id: Names the run; the same call with the same id is the same run.
        url: As in `Client.connect`.

    Raises:
        WorkflowFailureError: The run failed; the cause says why.
        WorkflowAlreadyStartedError: The id belongs to a run of another workflow or other input.
        StoreError: The store cannot be used.
        Exception: What a bug in workflow code raised; the run is kept, and fixed code continues it.
    """
    finished = await run(workflow, arguments(arg, args), id=id, url=url)
    if finished.result is None:
        cause = finished.failure or ex.ApplicationError("unknown failure")
        error = ex.WorkflowFailureError(
            f"run {id!r} failed: {type(cause).__name__}: {cause}. See: durable show {id}"
        )
        raise error from cause

    type_ = workflow_defn.definition_of(workflow).result_type
    return cast(
        "_R", _json.decode(finished.result, type_, what=f"the recorded result of run {id!r}")
    )


async def run(
    workflow: Callable[..., Awaitable[Any]] | type,
    args: tuple[Any, ...] = (),
    *,
    id: str | None = None,
    resources: Mapping[str, Any] | None = None,
    url: str | None = None,
) -> Finished:
    """Run a workflow in this process to its end, with live objects attached; for adapters.

    A run that is completed or failed is rebuilt by replay, so that its code meets the objects of
    this call; nothing is executed. A run that another living process owns is waited for, and taken
    over if that process dies.

    Args:
        workflow: The run method or the class of a workflow.
        args: Its arguments.
        id: Names the run; a new one is made up if it is None.
        resources: Live objects for the code of the run, see `durable_core.adapter.Engine.resource`.
        url: As in `Client.connect`.

    Raises:
        WorkflowAlreadyStartedError: The id belongs to a run of another workflow or other input.
        StoreError: The store cannot be used.
        Exception: What a bug in workflow code raised; the run is kept, and fixed code continues it.
    """
    definition = workflow_defn.definition_of(workflow)
    embedded = await _embedded(url)
    embedded.worker.registered.add_workflow(definition)
    workflow_id = id if id is not None else _ids.uuid7()
    if id is None:
        _log.info("run without an id: %s", workflow_id)

    start = new_start(
        definition,
        args,
        namespace=embedded.client.namespace,
        workflow_id=workflow_id,
        task_queue=_TASK_QUEUE,
        client=embedded.client.identity,
        bound=True,
    )
    context = contextvars.copy_context()
    while True:
        seen = embedded.client.changes.count
        async with embedded.lock(workflow_id):
            owned = await _attach(embedded, start, context, resources or {})

        if isinstance(owned, Finished):
            return owned

        if owned is None:
            # Another process owns it; it may end there, or that process may die.
            await embedded.client.changes.wait(
                timeout=0.2, interval=_defaults.POLL_WAITING, since=seen
            )
            continue

        try:
            done = await asyncio.shield(owned.done)
        except LostRunError:
            continue
        except ex.WorkflowAlreadyStartedError:
            # Another process started the same id between our look and our commit.
            continue

        return _finished(embedded, owned.row, done)


async def _attach(
    embedded: _Embedded,
    start: history.Start,
    context: contextvars.Context,
    resources: Mapping[str, Any],
) -> OwnedRun | Finished | None:
    """Return the run if it is ours now, its end if it has one, None if another owns it."""
    worker, client = embedded.worker, embedded.client
    owned = worker.owned_as(start.namespace, start.workflow_id)
    if owned is not None:
        _check_same(worker, start, owned.run.start)
        return owned

    row = await client.store.find(start.namespace, start.workflow_id)
    if row is None:
        return worker.begin(start, context=context, resources=resources, reuse="never")

    recorded = history.start_from(await client.store.read_start(row.run_id))
    if recorded.args_digest != start.args_digest:
        items = await client.store.read_items(row.lineage, history.references(recorded))
        recorded = history.resolve(recorded, dict(items))

    _check_same(worker, start, recorded)
    if row.status != "running":
        loaded = await client.store.load(row)
        replayed = await worker.replay(loaded, context=context, resources=resources)
        try:
            return _finished(embedded, row, replayed)
        finally:
            replayed.close()

    # A run that is ours and not loaded was dropped after a failed write: take it again.
    if not worker.owns(row) and await client.store.owner_alive(row):
        return None

    try:
        return await worker.take(row, context=context, resources=resources)
    except LostRunError:
        return None


def _check_same(worker: Worker, start: history.Start, recorded: history.Start) -> None:
    if start.workflow_type != recorded.workflow_type:
        raise ex.WorkflowAlreadyStartedError(
            f"the id {start.workflow_id!r} belongs to a run of {recorded.workflow_type!r}, not of "
            f"{start.workflow_type!r}: use another id",
            workflow_id=start.workflow_id,
            run_id=recorded.run_id,
        )

    path = None
    if start.args_digest != recorded.args_digest:
        # As on replay, a field that was added with a default makes no other input.
        types = worker.registered.workflow(start.workflow_type).arg_types
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


def _finished(embedded: _Embedded, row: RunRow, done: Run) -> Finished:
    closed, resources = done.closed, done.resources
    if isinstance(closed, history.CompleteRun):
        return Finished(row.workflow_id, row.run_id, resources, closed.result.data, None)

    if isinstance(closed, history.FailRun):
        failure = embedded.worker.registered.failures.rebuild(closed.failure)
        return Finished(row.workflow_id, row.run_id, resources, None, failure)

    raise ex.StoreCorruptError(f"run {row.workflow_id!r} is {row.status} and its record has no end")


# The client and worker of a loop


async def close() -> None:
    """Close what this module opened on the running loop, before the loop ends by itself.

    Runs that are under way are released; calling their id again continues them.
    """
    stores = _loops.get(asyncio.get_running_loop(), {})
    for opening in list(stores.values()):
        await (await asyncio.shield(opening)).keeper.aclose()


async def _embedded(url: str | None) -> _Embedded:
    loop = asyncio.get_running_loop()
    path = str(_url.resolve(url))
    _close_what_closed_loops_left()
    stores = _loops.setdefault(loop, {})
    opening = stores.get(path)
    if opening is None:
        # A task of its own, since others wait for it too when its first caller gives up.
        opening = stores[path] = loop.create_task(_open(path), name="durable-open")
        opening.add_done_callback(lambda done: _forget_if_failed(loop, path, done))

    return await asyncio.shield(opening)


def _forget_if_failed(
    loop: asyncio.AbstractEventLoop, path: str, done: asyncio.Task[_Embedded]
) -> None:
    if done.cancelled() or done.exception() is not None:
        _forget(loop, path)


def _forget(loop: asyncio.AbstractEventLoop, path: str) -> None:
    stores = _loops.get(loop, {})
    stores.pop(path, None)
    if not stores:
        _loops.pop(loop, None)


def _close_what_closed_loops_left() -> None:
    """Release the runs of loops that were closed without closing their generators."""
    for loop in [loop for loop in _loops if loop.is_closed()]:
        for opening in _loops.pop(loop).values():
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                opening.result().client.store.close_now()


async def _open(path: str) -> _Embedded:
    client = await Client.connect(f"sqlite:///{quote(path)}")
    worker = Worker(client, task_queue=_TASK_QUEUE, activities=None)
    try:
        await worker.start()
    except BaseException:
        await client.close()
        raise

    keeper = _keep(client, worker)
    hooks = sys.get_asyncgen_hooks()
    if getattr(asyncio.get_running_loop(), "_asyncgens_shutdown_called", False):
        # A loop that goes on after it shut its generators down once (as `run_sync` of some SDKs
        # does) warns about new ones and will not close them: then `close` has to be called.
        sys.set_asyncgen_hooks(None, None)

    try:
        await anext(keeper)
    finally:
        sys.set_asyncgen_hooks(*hooks)

    return _Embedded(client, worker, keeper)


async def _keep(client: Client, worker: Worker) -> AsyncGenerator[None, None]:
    """Close the worker and the client when the loop ends.

    A loop that ends in order (`asyncio.run`, `asyncio.Runner`) closes its async generators as the
    last thing that still runs on it, after every task was cancelled. That is the moment to close.
    """
    try:
        yield
    finally:
        _forget(asyncio.get_running_loop(), client.store.location)
        await worker.shutdown()
        await client.close()
