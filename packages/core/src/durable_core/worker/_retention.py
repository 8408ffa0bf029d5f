"""Runs that have ended are kept for a while, then forgotten by whichever worker comes to it."""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from durable_core import _clock, _defaults
from durable_core import exceptions as ex

if TYPE_CHECKING:
    from durable_core.stores import Store

__all__ = ["DEFAULT", "Default", "keep_for", "purge_now_and_then"]

_log = logging.getLogger("durable_core.worker")
_AT_ONCE = 100
# When this process may do it again, by store, namespace and task queue.
_not_before: dict[tuple[str, str, str], float] = {}


class Default(enum.Enum):
    """What a worker goes by that was told nothing."""

    DEFAULT = "what $DURABLE_RETENTION_DAYS says, or 30 days"


DEFAULT = Default.DEFAULT


def keep_for(given: timedelta | Default | None) -> float | None:
    """Return for how many seconds runs are kept that have ended; None is for ever.

    Raises:
        ValueError: A time is negative, or the variable holds no number of days.
    """
    if given is DEFAULT:
        said = os.environ.get(_defaults.RETENTION_VARIABLE, str(_defaults.RETENTION_DAYS))
        if said == "forever":
            return None

        try:
            given = timedelta(days=float(said))
        except (ValueError, OverflowError):
            raise ValueError(
                f"${_defaults.RETENTION_VARIABLE}={said!r} is no number of days: give one, such as "
                "30 or 0.5, or 'forever'"
            ) from None

    if given is None:
        return None

    if given < timedelta(0):
        raise ValueError(
            f"retention must not be negative, got {given}: use None, or "
            f"${_defaults.RETENTION_VARIABLE}=forever, to keep runs for ever"
        )

    return given.total_seconds()


async def purge_now_and_then(store: Store, namespace: str, task_queue: str, keep: float) -> None:
    """Forget runs that ended longer ago, soon after the start and then every hour.

    Once per process, however many of its workers serve the queue. By the clock on the wall: where a
    test skips time, nothing is forgotten.
    """
    # A server of threads has a loop, and a worker, for each of its requests.
    one, pause = (store.location, namespace, task_queue), _defaults.PURGE_FIRST
    while True:
        await asyncio.sleep(pause)
        pause = _defaults.PURGE_EVERY
        if time.monotonic() < _not_before.get(one, 0.0):
            continue

        _not_before[one] = time.monotonic() + pause / 2
        try:
            gone = await _purge(store, namespace, task_queue, keep)
        except ex.StoreError as error:
            _log.error("runs that have ended cannot be purged: %s", error)
        else:
            if gone:
                days = keep / 86400
                _log.info("%d runs that ended more than %g days ago were purged", gone, days)


async def _purge(store: Store, namespace: str, task_queue: str, keep: float) -> int:
    gone = 0
    while True:
        before = _clock.now() - keep
        found = await store.purge(namespace, task_queue, before, limit=_AT_ONCE)
        gone += found
        if found < _AT_ONCE:
            return gone

        # Commits of others come between.
        await asyncio.sleep(0.01)
