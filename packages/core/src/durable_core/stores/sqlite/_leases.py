"""The leases of a store's workers, as its writer thread renews them.

A batch renews what is due in its own transaction, be it of the worker that writes or of another one
that is silent: a store at work costs no commit beside its steps. Only when nothing is written does
a renewal become a batch. The thread is not that of the event loop, so code that blocks the loop
loses no lease.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from durable_core import _clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    import apsw

    from durable_core.stores._lease import Lease

    from ._locks import WorkerLock

__all__ = ["Leases"]

_log = logging.getLogger("durable_core.stores")
_TRY_AGAIN = 0.1  # of its length, after a renewal that could not be written


class Leases:
    """Leases by worker. `add` and `remove` are for the loop, the rest for the writer thread."""

    def __init__(self, sql: Mapping[str, str]) -> None:
        self._sql = sql
        self._held: dict[int, Lease] = {}
        self._locks: dict[int, WorkerLock] = {}
        self._asked: dict[int, float] = {}
        self._lost: list[Lease] = []
        self._not_before = 0.0

    def add(self, worker: int, lease: Lease, lock: WorkerLock) -> None:
        """Renew a lease from now on."""
        self._locks[worker] = lock
        self._held[worker] = lease

    def remove(self, worker: int) -> None:
        """Renew a lease no more."""
        self._held.pop(worker, None)
        self._locks.pop(worker, None)

    def wait(self) -> float | None:
        """Return the seconds until the next renewal; None if no lease is needed."""
        dues = [lease.renewal for lease in list(self._held.values()) if lease.needed]
        if not dues:
            return None

        return max(min(dues), self._not_before) - _clock.boottime()

    def check(self, connection: apsw.Connection, workers: Collection[int]) -> Collection[int]:
        """Return those of some workers that live, inside the open transaction that they write in.

        Leases that are due are renewed with it: theirs, and those that are needed.
        """
        now = _clock.boottime()
        held = {w: at for w, at in list(self._held.items()) if at.needed or w in workers}
        self._renew(connection, {w: at for w, at in held.items() if at.ride <= now})
        asked = [*{*held, *workers}]
        if not asked:
            return ()

        rows: Any = connection.execute(self._sql["living"], (json.dumps(asked),))
        living = {worker for (worker,) in rows}
        self._mark(held, living)
        return living

    def renew_due(self, connection: apsw.Connection) -> None:
        """Renew what is due, in a transaction of its own."""
        now = _clock.boottime()
        due = {w: at for w, at in list(self._held.items()) if at.needed and at.renewal <= now}
        self._mark(due, self._renew(connection, due))

    def renew(self, connection: apsw.Connection, worker: int) -> bool:
        """Renew one lease now; return whether the worker lives."""
        held = {w: at for w, at in list(self._held.items()) if w == worker}
        living = self._renew(connection, held)
        self._mark(held, living)
        return worker in living

    def committed(self) -> None:
        """Note that what was renewed is durable."""
        for worker, until in self._asked.items():
            # It may be removed at any moment.
            if (lease := self._held.get(worker)) is not None:
                lease.until = until

        self._asked.clear()

    def rolled_back(self) -> None:
        """Note that nothing was renewed."""
        self._asked.clear()

    def waits(self) -> None:
        """Note that others keep this thread from writing."""
        now = _clock.boottime()
        for worker, lease in list(self._held.items()):
            if lease.needed and lease.renewal <= now and (lock := self._locks.get(worker)):
                lock.wait()

    def failed(self, error: BaseException) -> None:
        """Note that a batch that held nothing but renewals could not be written."""
        needed = [lease.length for lease in list(self._held.values()) if lease.needed]
        pause = _TRY_AGAIN * min(needed, default=0.0)
        self._not_before = _clock.boottime() + pause
        _log.warning(
            "the lease of this process could not be renewed: %s. It is tried again in %.3g s; no "
            "activity starts while it is past",
            error,
            pause,
        )

    def take_lost(self) -> list[Lease]:
        """Return the leases of workers that were found dead, once."""
        lost, self._lost = self._lost, []
        return lost

    def _renew(self, connection: apsw.Connection, leases: Mapping[int, Lease]) -> set[int]:
        if not leases:
            return set()

        # Counted from before the commit, which may take long.
        now = _clock.boottime()
        asked = {worker: now + lease.length for worker, lease in leases.items()}
        self._asked.update(asked)
        rows: Any = connection.execute(
            self._sql["renew_leases"], (json.dumps(list(asked.items())),)
        )
        return {worker for (worker,) in rows}

    def _mark(self, held: Mapping[int, Lease], living: Collection[int]) -> None:
        # Nothing brings a worker back that was found dead, whatever becomes of this transaction.
        for worker, lease in held.items():
            if worker not in living and not lease.lost:
                lease.lost = True
                self._lost.append(lease)
