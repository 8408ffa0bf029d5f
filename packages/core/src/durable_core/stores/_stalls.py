"""Stalls: what a run's row says of the code that could not go on, and who may try again when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durable_core import _defaults

if TYPE_CHECKING:
    from durable_core.history import Failure

__all__ = ["Instance", "Stall", "may_try", "read", "stall_of"]


class Instance(msgspec.Struct, frozen=True):
    """A worker of one process, as far as its code is concerned.

    Attributes:
        identity: Its name in histories.
        id: Unique id.
        started: When it was started, in seconds since the epoch.
        build: Which code it runs, if it was told.
    """

    identity: str
    id: str
    started: float
    build: str = ""


class Stall(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a run stalled.

    Attributes:
        cause: The exception in one line.
        stack: Its traceback.
        time: When it stalled, in seconds since the epoch.
        worker: Identity of the worker.
        activation: Number of the activation that could not be made.
        instance, build: Of the worker, as in `Instance`.
        tries: How often that worker has tried.
        next_try: Before this time that worker does not try again.
        revived: Whether somebody asked for another try since.
    """

    cause: str
    stack: str
    time: float
    worker: str
    activation: int
    instance: str = ""
    build: str = ""
    tries: int = 1
    next_try: float = 0.0
    revived: int = 0


def stall_of(
    failure: Failure, activation: int, by: Instance, now: float, before: str | None
) -> str:
    """Return the JSON of a stall.

    Args:
        failure: What stopped the code.
        activation: Number of the activation that could not be made.
        by: The worker.
        now: Seconds since the epoch.
        before: What the row said of an earlier stall without progress since.
    """
    earlier = read(before)
    tries = 1
    if earlier is not None and earlier.instance == by.id and not earlier.revived:
        tries = earlier.tries + 1

    pause = min(_defaults.STALL_RETRY_FIRST * 2.0 ** (tries - 1), _defaults.STALL_RETRY_MAX)
    stall = Stall(
        cause=f"{failure.type}: {failure.message}",
        stack=failure.stack,
        time=now,
        worker=by.identity,
        activation=activation,
        instance=by.id,
        build=by.build,
        tries=tries,
        next_try=now + pause,
    )
    return msgspec.json.encode(stall).decode()


def read(stall: str | None) -> Stall | None:
    """Return what a row says of a stall."""
    return None if stall is None else msgspec.json.decode(stall, type=Stall)


def may_try(stall: str | None, by: Instance, now: float) -> bool:
    """Return whether a worker may try a run that stalled (ENGINE R31).

    One that started later, or runs other code, may have the fix; the others wait, longer each time.
    """
    found = read(stall)
    if found is None or found.next_try <= now:
        return True

    if found.instance == by.id:
        return False

    return by.started > found.time or by.build != found.build
