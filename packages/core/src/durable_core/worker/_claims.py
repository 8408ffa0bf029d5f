"""Which runs of its queue a worker takes: what nobody owns, and what it dropped itself."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from durable_core import _defaults
from durable_core import exceptions as ex

from ._owned import LostRunError, OwnedRun

if TYPE_CHECKING:
    from collections.abc import Collection

    from durable_core.stores import RunRow

    from ._worker import Worker

__all__ = ["Claims"]

_log = logging.getLogger("durable_core.worker")
_CLAIMS_AT_ONCE = 200
_STRANGERS_EVERY = 10.0


class Claims:
    """What one worker takes, and what it leaves alone for a while.

    Attributes:
        wanted: Whether it takes runs of its queue by itself.
    """

    def __init__(self, worker: Worker, namespace: str) -> None:
        self.wanted = False
        self._worker = worker
        self._namespace = namespace
        self._strangers: set[str] = set()
        self._strangers_at = 0.0
        # By run id: what it owns and has dropped after a failed write, and what it cannot rebuild,
        # with the time of the next try and the pause before it.
        self._dropped: dict[str, RunRow] = {}
        self._resting: dict[str, tuple[float, float]] = {}

    def taken(self, run_id: str) -> None:
        """Note that a run is in memory again."""
        self._dropped.pop(run_id, None)

    def dropped(self, row: RunRow) -> None:
        """Note that a run is not in memory any more, which the worker may still own."""
        self._dropped[row.run_id] = row

    async def make(self) -> float | None:
        """Take what nobody owns; return when there will be more, if that is known."""
        worker, store = self._worker, self._worker.store
        namespace, queue, now = self._namespace, worker.task_queue, worker.clock.now()
        rows = await store.claimable(
            namespace,
            queue,
            workflow_types=worker.registered.workflow_names,
            by=worker.instance,
            now=now,
            limit=_CLAIMS_AT_ONCE,
        )
        rests = [r for r, (until, _) in self._resting.items() if until > now]
        wanted = [r for r in rows if not worker.loaded(r.run_id) and r.run_id not in rests]
        found = {r.run_id for r in rows}
        wanted += [r for r in await self._dropped_rows() if r.run_id not in {*rests, *found}]
        results = await asyncio.gather(
            *(worker.take(row) for row in wanted), return_exceptions=True
        )
        for row, result in zip(wanted, results, strict=True):
            if isinstance(result, LostRunError | OwnedRun):
                self._resting.pop(row.run_id, None)
            elif isinstance(result, Exception):
                if isinstance(result, ex.StoreError):
                    self._rest(row.run_id, now)

                see = f". See: durable show {row.workflow_id}"
                text = str(result)
                _log.error(
                    "run %r cannot go on: %s%s",
                    row.workflow_id,
                    text,
                    "" if text.endswith(see) else see,
                )
            else:
                raise result

        if now >= self._strangers_at:
            self._strangers_at = now + _STRANGERS_EVERY
            self._tell_strangers(await store.waiting_types(namespace, queue))

        # There may be more than the limit.
        more = len(rows) == _CLAIMS_AT_ONCE and any(isinstance(r, OwnedRun) for r in results)
        return now if more else await store.next_wake(namespace, queue)

    async def _dropped_rows(self) -> list[RunRow]:
        """Return the runs that this worker still owns and has dropped, after a failed write."""
        found: list[RunRow] = []
        for run_id, row in list(self._dropped.items()):
            fresh = await self._worker.store.find(row.namespace, row.workflow_id, run_id)
            if fresh is None or fresh.status != "running" or not self._worker.owns(fresh):
                del self._dropped[run_id]
            elif not self._worker.loaded(run_id) and fresh.paused is None:
                found.append(fresh)

        return found

    def _rest(self, run_id: str, now: float) -> None:
        """Leave a run alone for a while that cannot be rebuilt here, longer each time.

        If its code is the cause its row says so too, and `claimable` leaves it out.
        """
        _, pause = self._resting.get(run_id, (0.0, _defaults.STALL_RETRY_FIRST / 2))
        pause = min(pause * 2, _defaults.STALL_RETRY_MAX)
        self._resting[run_id] = (now + pause, pause)

    def _tell_strangers(self, types: Collection[str]) -> None:
        """Say once of each workflow that runs of it wait for a worker that knows it."""
        worker = self._worker
        for name in sorted({*types} - self._strangers):
            if not worker.registered.knows_workflow(name):
                self._strangers.add(name)
                _log.warning(
                    "runs of the workflow %r wait on the task queue %r, and worker %s does not "
                    "know it: add it to Worker(workflows=[…]) here or in another worker. See: "
                    "durable list --type %s",
                    name,
                    worker.task_queue,
                    worker.identity,
                    name,
                )
