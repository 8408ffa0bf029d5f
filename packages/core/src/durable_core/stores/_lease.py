"""A worker's lease: its right to its runs, which ends by itself when nobody renews it (ENGINE R14).

A process that was stopped, or a machine that was suspended, comes back and knows nothing of it. So
leases are counted by a clock that goes on meanwhile, and whoever acts for a run looks at it before:
a worker whose lease is past has to ask the store first, where others may have found it dead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from durable_core import _clock, _defaults

__all__ = ["Lease", "boot_id"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_RENEW_AFTER = 1 / 3
_RIDE_AFTER = 1 / 4


class Lease:
    """What a process knows of the lease of one of its workers. Safe for threads.

    The store renews it, from a thread of its own, three times in its length while it is needed.

    Attributes:
        length: For how many seconds it is given and renewed.
        when_lost: Called on the store's loop if the worker was found dead.
        needed: Whether the worker owns runs. One that owns none needs no lease and writes nothing;
            the commit by which it takes a run renews the lease, too.
        until: When it ends if it is not renewed, by `durable_core._clock.boottime`.
        lost: Whether the worker was found dead. It stays so: nothing that it writes is accepted.
    """

    def __init__(self, length: float, when_lost: Callable[[], None] | None = None) -> None:
        self.length = length
        self.when_lost = when_lost
        self.needed = True
        self.until = 0.0
        self.lost = False

    def holds(self) -> bool:
        """Return whether nobody can have found the worker dead yet, nor will for a while.

        Invariant: ``until`` was counted before it was written, and is never later than what the
        store says.
        """
        margin = self.length * _defaults.LEASE_MARGIN
        return not self.lost and _clock.boottime() < self.until - margin

    @property
    def renewal(self) -> float:
        """When it is to be renewed, if nothing else is written meanwhile."""
        return self.until - self.length * (1 - _RENEW_AFTER)

    @property
    def ride(self) -> float:
        """From when on it is to be renewed together with what is written anyway.

        Earlier, so that a worker at work never writes for its lease alone.
        """
        return self.until - self.length * (1 - _RIDE_AFTER)


@cache
def boot_id() -> str:
    """Return what tells this start of the machine from others; empty if the system does not say.

    Where it does not, the lock tells as well: no process holds it after a restart.
    """
    try:
        return _BOOT_ID.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
