"""A worker's place in the store: its number there, and the lease on which it owns runs.

A worker that was stopped for longer than its lease may have been found dead. It learns that from
the store, at the latest before it would act for a run: it then drops every run and joins anew.

Invariant: nothing that others can see happens for a run on a lease that is past (ENGINE R16). Not
even if nobody took the run meanwhile: the store is asked first, and its answer is a new lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from durable_core import _defaults
from durable_core import exceptions as ex
from durable_core.stores import Lease

from ._arrived import LostRunError

if TYPE_CHECKING:
    from datetime import timedelta

    from durable_core.stores import RunRow, Store

__all__ = ["Membership", "lease_of"]

_log = logging.getLogger("durable_core.worker")
_SHORTEST_LEASE = 0.1


class Membership:
    """The membership of one worker. Belongs to the worker's event loop; `holds` is for any thread.

    Args:
        store: Where the worker is known.
        identity: Its name in histories.
        length: Of its lease, in seconds.
        expelled: Drops every run, and returns how many there were; called when it was found dead.
    """

    def __init__(
        self, store: Store, identity: str, length: float, expelled: Callable[[], int]
    ) -> None:
        self._store = store
        self._identity = identity
        self._length = length
        self._expelled = expelled
        self._number: int | None = None
        self._lease = Lease(length)
        self._joining: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[bool] | None = None

    @property
    def number(self) -> int:
        """Number of the worker in the store.

        Raises:
            StoreClosedError: It has not joined, or has left.
        """
        if self._number is None:
            raise ex.StoreClosedError("this worker is not running")

        return self._number

    def owns(self, row: RunRow) -> bool:
        """Return whether a row names this worker as the owner of its run, and it may still be."""
        return row.owner is not None and row.owner == self._number and not self._lease.lost

    async def join(self) -> None:
        """Become a member; after the worker was found dead, a new one. Does nothing for a member.

        Raises:
            StoreError: The store cannot be written.
        """
        if self._number is not None and not self._lease.lost:
            return

        if self._joining is None or self._joining.done():
            # A task of its own: what is half registered when a caller gives up is nobody's.
            self._joining = asyncio.create_task(self._join(), name="durable-worker-join")

        await asyncio.shield(self._joining)

    async def leave(self) -> None:
        """Be a member no more.

        Raises:
            StoreError: It could not be written; others find out by the lock.
        """
        if self._joining is not None:
            await asyncio.gather(self._joining, return_exceptions=True)

        number, self._number = self._number, None
        if number is not None:
            await self._store.release_worker(number)

    def holds(self) -> bool:
        """Return whether nobody can have found the worker dead yet, nor will for a while."""
        return self._lease.holds()

    def need(self, *, owns: bool) -> None:
        """Say whether the worker owns runs: only then its lease is renewed while it is idle."""
        self._lease.needed = owns

    async def confirm(self) -> None:
        """Return when the lease holds; the store is asked for another one if it does not.

        Raises:
            LostRunError: The worker was found dead.
            StoreError: The store cannot be written.
        """
        while not self._lease.holds():
            if self._lease.lost:
                raise LostRunError(self._identity)

            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(), name="durable-worker-lease")

            if not await asyncio.shield(self._asking):
                raise LostRunError(self._identity)

    async def _ask(self) -> bool:
        return await self._store.renew_worker(self.number)

    async def _join(self) -> None:
        if self._number is not None:
            # Others said so; what is left of it is its lock.
            await self._store.release_worker(self._number)

        lease = Lease(self._length, self._lost)
        lease.needed = False
        self._number = await self._store.register_worker(self._identity, lease)
        self._lease = lease

    def _lost(self) -> None:
        runs = self._expelled()
        _log.warning(
            "worker %s was taken for dead: it did not renew its lease of %.3g s, because it was "
            "stopped, its machine was suspended, or something held the interpreter. It wrote "
            "nothing since, has dropped its %d runs, and goes on as a new worker. If that happens "
            "at work, give it more time: Worker(lease=…)",
            self._identity,
            self._length,
            runs,
        )


def lease_of(given: timedelta | None) -> float:
    """Return the length of a lease in seconds; the default one if none is given.

    Raises:
        ValueError: It is too short.
    """
    if given is None:
        return _defaults.LEASE

    if given.total_seconds() < _SHORTEST_LEASE:
        raise ValueError(
            f"lease must be {_SHORTEST_LEASE:g} s or more, got {given}: it is renewed three times "
            "in that time, and a commit may take a while"
        )

    return given.total_seconds()
