"""Runs that have ended are kept for a while, then forgotten by whichever worker comes to it.

Their streams are forgotten earlier: who wants to see how a result came to be is there by then.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from durable_core import _clock, _defaults
from durable_core import exceptions as ex

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from durable_core.stores import Store

__all__ = ["DEFAULT", "Default", "Keep", "keep_for", "purge_now_and_then"]

_log = logging.getLogger("durable_core.worker")
_AT_ONCE = 100
# They may be large.
_STREAMS_AT_ONCE = 10
# When this process may do it again, by store, namespace and task queue.
_not_before: dict[tuple[str, str, str], float] = {}


class Default(enum.Enum):
    """What a worker goes by that was told nothing."""

    DEFAULT = "what $DURABLE_RETENTION_DAYS says, or 30 days"


DEFAULT = Default.DEFAULT


class Keep(msgspec.Struct, frozen=True):
    """How long something is kept after the end of a run, in seconds; None is for ever.

    Attributes:
        runs: The run; everything of it goes.
        streams: What was written to its streams.
    """

    runs: float | None
    streams: float | None


def keep_for(given: timedelta | Default | None) -> Keep:
    """Return how long runs are kept that have ended, and their streams.

    Raises:
        ValueError: A time is negative, or a variable holds no number of days.
    """
    if given is DEFAULT:
        given = _said(_defaults.RETENTION_VARIABLE, _defaults.RETENTION_DAYS)

    streams = _said(_defaults.STREAM_RETENTION_VARIABLE, _defaults.STREAM_RETENTION_DAYS)
    return Keep(
        _seconds(given, "retention", _defaults.RETENTION_VARIABLE),
        _seconds(streams, "the retention of streams", _defaults.STREAM_RETENTION_VARIABLE),
    )


def _said(variable: str, days: float) -> timedelta | None:
    said = os.environ.get(variable, str(days))
    if said == "forever":
        return None

    try:
        return timedelta(days=float(said))
    except (ValueError, OverflowError):
        raise ValueError(
            f"${variable}={said!r} is no number of days: give one, such as 30 or 0.5, or 'forever'"
        ) from None


def _seconds(given: timedelta | None, what: str, variable: str) -> float | None:
    if given is None:
        return None

    if given < timedelta(0):
        raise ValueError(
            f"{what} must not be negative, got {given}: use None, or ${variable}=forever, to keep "
            "them for ever"
        )

    return given.total_seconds()


async def purge_now_and_then(store: Store, namespace: str, task_queue: str, keep: Keep) -> None:
    """Forget runs and streams that ended longer ago, soon after the start and then every hour.

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
            gone = await _purge(store.purge, namespace, task_queue, keep.runs, _AT_ONCE)
            streams = await _purge(
                store.purge_streams, namespace, task_queue, keep.streams, _STREAMS_AT_ONCE
            )
        except ex.StoreError as error:
            _log.error("runs that have ended cannot be purged: %s", error)
        else:
            if gone or streams:
                _log.info(
                    "%d runs and %d streams of runs that have ended were purged", gone, streams
                )


class _Purge(Protocol):
    def __call__(
        self, namespace: str, task_queue: str, before: float, *, limit: int
    ) -> Coroutine[Any, Any, int]:
        """Forget at most so many, and return how many there were."""
        ...


async def _purge(
    purge: _Purge, namespace: str, task_queue: str, keep: float | None, at_once: int
) -> int:
    gone = 0
    while keep is not None:
        found = await purge(namespace, task_queue, _clock.now() - keep, limit=at_once)
        gone += found
        if found < at_once:
            break

        # Commits of others come between.
        await asyncio.sleep(0.01)

    return gone
