"""Runs that their process left behind, continued without their callers.

A run from plain code needs live objects, which its caller brings. Where others can make them, from
what was recorded at its start, a service continues such runs by itself: those of processes that
have died, when it starts and for as long as its event loop lives.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from durable_core import _defaults, history
from durable_core import exceptions as ex
from durable_core.engine import Run
from durable_core.payloads import _json
from durable_core.stores import _stalls
from durable_core.worker._owned import LostRunError
from durable_core.workflow import _defn as workflow_defn

from . import _interrupted, _loops

if TYPE_CHECKING:
    from durable_core.stores import RunRow

    from ._loops import Embedded

__all__ = ["MakeResources", "Orphan", "Recovery", "recover"]

_log = logging.getLogger("durable_core.embedded")
_PAGE = 100


class Orphan(msgspec.Struct, frozen=True):
    """An open run whose process has ended, as it was recorded at its start.

    Attributes:
        workflow_id: Id of the run.
        run_id: Unique id of the run.
        args: Arguments of its workflow.
        memo: What was noted beside them; None if nothing was.
    """

    workflow_id: str
    run_id: str
    args: tuple[Any, ...]
    memo: Any


MakeResources = Callable[[Orphan], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""Makes the live objects of a run, for as long as it is here; None leaves it to its caller."""


async def recover(
    workflow: Callable[..., Awaitable[Any]] | type,
    make_resources: MakeResources,
    *,
    url: str | None = None,
) -> Recovery:
    """Continue the runs of a workflow whose processes have ended, on the running loop.

    It goes on doing so until the loop ends or `close` is called; a second call looks again at once.
    A run is not taken while the process that owns it lives, and one that stalled is tried again as
    by any worker. A failure to look is logged, and looked again after some seconds.

    Args:
        workflow: A workflow function, or the class or run method of a workflow.
        make_resources: Asked for each of them.
        url: As in `Client.connect`.

    Raises:
        StoreError: The store cannot be used.
    """
    definition = workflow_defn.definition_of(workflow)
    embedded = await _loops.of_running_loop(url)
    embedded.worker.registered.add_workflow(definition)
    found = embedded.recoveries.get(definition.name)
    if found is None:
        found = embedded.recoveries[definition.name] = Recovery(embedded, definition)

    found.ask(make_resources)
    await found.look()
    return found


class Recovery:
    """Continues the runs of one workflow that nobody alive owns; made by `recover`.

    Attributes:
        found: Ids of the runs that the last look took up.
    """

    def __init__(self, embedded: Embedded, definition: workflow_defn.Definition) -> None:
        self._embedded = embedded
        self._definition = definition
        self.found: list[str] = []
        self._make_resources: MakeResources | None = None
        self._context = contextvars.copy_context()
        # By workflow id: every run that is being taken up, and those of them that are continued.
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: set[str] = set()
        # By run id: those whose objects nobody can make here, and those for which that failed, with
        # the time of the next try and the pause before it.
        self._left: dict[str, int] = {}
        self._resting: dict[str, tuple[float, float]] = {}
        self._looking = asyncio.Lock()
        self._looker = asyncio.create_task(self._keep_looking(), name="durable-recover")

    @property
    def workflow_ids(self) -> list[str]:
        """Ids of the runs that it is continuing now."""
        return sorted(self._running)

    def ask(self, make_resources: MakeResources) -> None:
        """Ask for the objects of every run, also of those that were left to their callers."""
        self._make_resources = make_resources
        self._left.clear()
        self._resting.clear()

    async def wait(self) -> None:
        """Wait until it continues none and finds none."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())
            await self.look()

    async def look_no_more(self) -> None:
        """Take up no further runs."""
        self._looker.cancel()
        await asyncio.gather(self._looker, return_exceptions=True)

    async def close(self) -> None:
        """Close what was made for the runs, which have been let go."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()

        await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Take what nobody alive owns, up to `_defaults.RECOVERED_AT_ONCE` runs at once.

        It returns when it is known of each whether it is continued, or after some seconds: objects
        that are not made by then do not hold up other runs.

        Raises:
            StoreError: The store cannot be read.
        """
        async with self._looking:
            worker, client = self._embedded.worker, self._embedded.client
            self.found = []
            seen: set[str] = set()
            after: RunRow | None = None
            while rows := await client.store.orphans(
                client.namespace, self._definition.name, limit=_PAGE, after=after
            ):
                now = client.clock.now()
                decided: list[asyncio.Future[None]] = []
                for row in rows:
                    if len(self._tasks) >= _defaults.RECOVERED_AT_ONCE:
                        break

                    after = row
                    seen.add(row.run_id)
                    if self._wants(row, now) and _stalls.may_try(row.stall, worker.instance, now):
                        decided.append(self._begin(row))

                if decided:
                    await asyncio.wait(decided, timeout=_defaults.RECOVER_EVERY)

                if len(self._tasks) >= _defaults.RECOVERED_AT_ONCE:
                    return

            self._left = {k: v for k, v in self._left.items() if k in seen}
            self._resting = {k: v for k, v in self._resting.items() if k in seen}

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_defaults.RECOVER_EVERY)
            try:
                await self.look()
            except ex.StoreError as error:
                _log.error("runs to recover cannot be looked for: %s", error)

    def _wants(self, row: RunRow, now: float) -> bool:
        until, _ = self._resting.get(row.run_id, (0.0, 0.0))
        left = self._left.get(row.run_id) == row.fence
        return row.workflow_id not in self._tasks and not left and until <= now

    def _begin(self, row: RunRow) -> asyncio.Future[None]:
        """Take a run up, if somebody can make its objects; the future ends when that is known."""
        decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        coro = self._take_up(row, decided)
        task = asyncio.create_task(coro, context=self._context.copy())
        self._tasks[row.workflow_id] = task

        def ended(_: object) -> None:
            self._tasks.pop(row.workflow_id, None)
            self._running.discard(row.workflow_id)
            if not decided.done():
                decided.set_result(None)

        task.add_done_callback(ended)
        return decided

    async def _take_up(self, row: RunRow, decided: asyncio.Future[None]) -> None:
        assert self._make_resources is not None
        try:
            async with AsyncExitStack() as stack:
                orphan = await self._orphan(row)
                resources = await stack.enter_async_context(self._make_resources(orphan))
                self._resting.pop(row.run_id, None)
                if resources is None:
                    self._left[row.run_id] = row.fence
                    return

                await self._see_through(row, resources, decided)
        except Exception:  # noqa: BLE001  # what others make of one run is no matter of the next
            self._rest(row)

    def _rest(self, row: RunRow) -> None:
        """Leave a run alone for a while that cannot be taken up, longer each time."""
        _, pause = self._resting.get(row.run_id, (0.0, _defaults.RECOVER_EVERY / 2))
        pause = min(pause * 2, _defaults.STALL_RETRY_MAX)
        self._resting[row.run_id] = (self._embedded.client.clock.now() + pause, pause)
        _log.error(
            "run %r cannot be recovered: its record cannot be read, or making its objects failed. "
            "It is tried again in %g s, and its id can be called. See: durable show %s",
            row.workflow_id,
            pause,
            row.workflow_id,
            exc_info=True,
        )

    async def _orphan(self, row: RunRow) -> Orphan:
        store = self._embedded.client.store
        start = history.start_from(await store.read_start(row.run_id))
        items = await store.read_items(row.lineage, history.references(start))
        start = history.resolve(start, dict(items))
        types = self._definition.signature.types
        what = f"the input of workflow {start.workflow_type!r}"
        args = _json.decode_args(start.args.data, types, what=what)
        memo = start.memo and _json.decode(start.memo.data, Any, what="the memo of a run")
        return Orphan(row.workflow_id, row.run_id, tuple(args), memo)

    async def _see_through(
        self, row: RunRow, resources: Mapping[str, Any], decided: asyncio.Future[None]
    ) -> None:
        """See a run to its end, over failures of the store."""
        worker, store = self._embedded.worker, self._embedded.client.store
        pause = _defaults.STALL_RETRY_FIRST
        while True:
            try:
                async with self._embedded.lock(row.workflow_id):
                    if worker.owned_as(row.namespace, row.workflow_id) is not None:
                        return  # its caller was faster

                    owned = await worker.take(row, context=self._context, resources=resources)
                    owned.alone = True
                    _interrupted.forget(row.workflow_id)

                if not decided.done():
                    _log.info("run %r is recovered", row.workflow_id)
                    self._running.add(row.workflow_id)
                    self.found.append(row.workflow_id)
                    decided.set_result(None)

                run = await asyncio.shield(owned.done)
            except LostRunError:
                return
            except ex.StoreClosedError:
                return
            except ex.StoreCorruptError:
                # No waiting mends it, and it must not keep the place of another run.
                raise
            except ex.StoreError as error:
                _log.error("run %r waits for its store: %s", row.workflow_id, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _defaults.STALL_RETRY_MAX)
            except Exception as bug:  # noqa: BLE001  # it has stalled, and its row says so too
                _log.error(
                    "run %r, which was to be recovered, has stalled: %s. See: durable show %s",
                    row.workflow_id,
                    bug,
                    row.workflow_id,
                )
                return
            else:
                _tell(row.workflow_id, run)
                return

            fresh = await store.find(row.namespace, row.workflow_id, row.run_id)
            if fresh is None or fresh.status != "running":
                return

            if not worker.owns(fresh) and await store.owner_alive(fresh):
                return

            row = fresh


def _tell(workflow_id: str, run: Run) -> None:
    """Log how a run ended, since no caller hears of it."""
    if isinstance(run.closed, history.CompleteRun):
        _log.info("run %r, which was recovered, has completed", workflow_id)
        return

    _log.warning(
        "run %r, which was recovered, has ended as %s. See: durable show %s",
        workflow_id,
        run.status,
        workflow_id,
    )
