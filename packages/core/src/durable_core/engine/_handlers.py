"""Signals and queries: which of a run's functions take them, and how they are called."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from durable_core._signatures import signature
from durable_core.exceptions import ArgumentError, DecodeError, WorkflowQueryFailedError
from durable_core.payloads import _faithful

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from durable_core.history import SignalReceived, Start
    from durable_core.workflow._defn import Definition

__all__ = ["Handlers"]

_log = logging.getLogger("durable_core.engine")


class Handlers:
    """The handlers of one run.

    Attributes:
        instance: The workflow's object, None if it is a function.
        cancellation_reason: Why the run's cancellation was asked for, if it was.
    """

    def __init__(
        self,
        definition: Definition,
        start: Start,
        begin: Callable[[Coroutine[Any, Any, None], str], None],
    ) -> None:
        self.instance: Any = None
        self.cancellation_reason: str | None = None
        self._start = start
        self._begin = begin
        self._signals = dict(definition.signals)
        self._queries = dict(definition.queries)
        self._waiting: dict[str, list[SignalReceived]] = {}
        self._under_way = 0

    def bind(self, instance: Any) -> None:
        """Make the methods of a class those of its object."""
        self.instance = instance
        for found in (self._signals, self._queries):
            for name, method in found.items():
                found[name] = method.__get__(instance)

    def set_signal(self, name: str, handler: Callable[..., Any] | None) -> None:
        """Handle a signal from now on, also those of it that came before."""
        if handler is None:
            self._signals.pop(name, None)
            return

        self._signals[name] = handler
        for event in self._waiting.pop(name, []):
            self.signal(event)

    def set_query(self, name: str, handler: Callable[..., Any] | None) -> None:
        """Answer a query from now on."""
        if handler is None:
            self._queries.pop(name, None)
        else:
            self._queries[name] = handler

    def finished(self) -> bool:
        """Return whether no handler of a signal is under way."""
        return not self._under_way

    def signal(self, event: SignalReceived) -> None:
        """Begin the handler of a signal; one without a handler waits for it."""
        handler = self._signals.get(event.name)
        if handler is None:
            _log.warning(
                "run %r received the signal %r, for which it has no handler now; it has %s. See: "
                "durable show %s",
                *(self._start.workflow_id, event.name, sorted(self._signals) or "none"),
                self._start.workflow_id,
            )
            self._waiting.setdefault(event.name, []).append(event)
            return

        try:
            args = _arguments(handler, event.args.data, f"signal {event.name!r}")
        except (DecodeError, ArgumentError) as error:
            # The sender's mistake: it must not stop a run that can do nothing about it.
            _log.error(
                "run %r drops the signal %r of %s: %s. See: durable show %s",
                *(self._start.workflow_id, event.name, event.client, error),
                self._start.workflow_id,
            )
            return

        self._under_way += 1
        self._begin(self._call(handler, args), f"signal {event.name}")

    async def _call(self, handler: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            outcome = handler(*args)
            if inspect.isawaitable(outcome):
                await outcome
        finally:
            self._under_way -= 1

    def query(self, name: str, args: bytes) -> bytes:
        """Answer a query by JSON.

        Raises:
            WorkflowQueryFailedError: There is none of that name, or it raised.
        """
        handler = self._queries.get(name)
        if handler is None:
            raise WorkflowQueryFailedError(
                f"workflow {self._start.workflow_type!r} has no query {name!r}; it has "
                f"{', '.join(map(repr, sorted(self._queries))) or 'none'}"
            )

        what = f"query {name!r} of run {self._start.workflow_id!r}"
        try:
            answer = handler(*_arguments(handler, args, what))
            annotated = _faithful.result_of(handler)
            return _faithful.encode_result(answer, annotated, what=f"the answer of {what}")
        except Exception as error:
            raise WorkflowQueryFailedError(
                f"{what} failed: {type(error).__name__}: {error}"
            ) from error


def _arguments(handler: Callable[..., Any], data: bytes, owner: str) -> tuple[Any, ...]:
    """Return the arguments of a handler.

    Raises:
        DecodeError: One does not fit its type.
        ArgumentError: There are too few or too many.
    """
    takes = signature(handler)
    args = _faithful.decode_arguments(data, takes, owner=owner)
    takes.check_count(args, what=owner)
    return args
