"""Rebuilding runs from their records."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

from durable_core import history
from durable_core.engine import Run, held

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Iterable, Mapping

    from durable_core.history import Activation, Start
    from durable_core.stores import Loaded
    from durable_core.workflow._defn import Definition

    from ._host import Registered
    from ._watchdog import Watchdog

__all__ = ["Record", "rebuild", "rebuild_at_once"]

_AT_ONCE = 100


class Record:
    """The decoded record of a run.

    Attributes:
        start: Its start record.
        activations: Those in force, in order.
    """

    def __init__(self, loaded: Loaded) -> None:
        items = history.intact(loaded.items.items(), loaded.row.lineage)
        self.start: Start = history.resolve(history.start_from(loaded.start), items)
        decoded = (_decoded(data, items) for data in loaded.activations)
        self.activations: list[Activation] = list(history.effective(decoded))


def _decoded(data: bytes, items: dict[str, bytes]) -> Activation:
    activation = history.activation_from(data)
    return history.resolve(activation, items) if history.may_refer(data) else activation


async def rebuild(
    start: Start,
    activations: Iterable[Activation],
    definition: Definition,
    host: Registered,
    *,
    context: contextvars.Context | None = None,
    resources: Mapping[str, Any] | None = None,
    watchdog: Watchdog | None = None,
) -> Run:
    """Return a run as it was after its last activation; the loop goes on meanwhile.

    Raises:
        WorkflowBugError: The code asks for other commands than were recorded.
        Exception: What a bug in the code raised.
    """
    run = Run(start, definition, host, context=context, resources=resources)
    records = iter(activations)
    try:
        while some := list(islice(records, _AT_ONCE)):
            with (
                nullcontext() if watchdog is None else watchdog.watching(start.workflow_id),
                held(),
            ):
                for activation in some:
                    run.replay(activation)

            if len(some) == _AT_ONCE:
                await asyncio.sleep(0)
    except BaseException:
        run.close()
        raise

    return run


def rebuild_at_once(run: Run, activations: Iterable[Activation]) -> Run:
    """Return a run rebuilt like another one; nothing else goes on meanwhile.

    Raises:
        WorkflowBugError: The code asks for other commands than were recorded.
        Exception: What a bug in the code raised.
    """
    again = run.again()
    try:
        with held():
            for activation in activations:
                again.replay(activation)
    except BaseException:
        again.close()
        raise

    # Of a run that goes on after an end, numbers are missing.
    again.next_number = run.next_number
    return again
