"""Runs that only wait leave the memory of their worker (ENGINE R32)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_core import _defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._owned import OwnedRun

__all__ = ["evict"]


def evict(
    owned: Mapping[str, OwnedRun], active: Mapping[str, float], cached: int, now: float
) -> None:
    """Let runs go that only wait, so that they cost no memory.

    Args:
        owned: The runs in memory by their unique ids, the one first that was active longest ago.
        active: When each was active last, in seconds since the epoch.
        cached: How many may stay.
        now: Seconds since the epoch.
    """
    spare = len(owned) - max(cached, 1)
    for run_id, run in list(owned.items()):
        if run.row.bound or not run.idle:
            continue

        due = run.work.next_due()
        if due is not None and due - now < _defaults.EVICT_AFTER and spare <= 0:
            continue

        waited = now - active.get(run_id, now)
        if spare > 0 or waited >= _defaults.EVICT_AFTER or run.work.backs_off:
            run.release()
            spare -= 1
