"""Which of a run's functions take signals, queries and updates, and how they are called."""

from __future__ import annotations

import contextvars
import inspect
import logging
from typing import TYPE_CHECKING, Any, cast

from durable_core._signatures import signature
from durable_core.common import RawValue
from durable_core.exceptions import ArgumentError, DecodeError, WorkflowQueryFailedError
from durable_core.payloads import _faithful, _json
from durable_core.workflow._calls import UpdateInfo
from durable_core.workflow._handlers import KINDS, Handler, HandlerUnfinishedPolicy, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from durable_core.history import SignalReceived, Start, UpdateReceived
    from durable_core.workflow._defn import Definition
    from durable_core.workflow._handlers import Kind

__all__ = ["Handlers", "UnknownHandlerError"]

_log = logging.getLogger("durable_core.engine")

_update = contextvars.ContextVar["UpdateInfo | None"]("durable_update", default=None)


class UnknownHandlerError(LookupError):
    """Internal: the run has nothing that takes it."""


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
        check: Callable[[], None],
    ) -> None:
        self.instance: Any = None
        self.cancellation_reason: str | None = None
        self._start = start
        self._begin = begin
        self._check = check
        self._handlers: dict[Kind, dict[str | None, Handler]] = {
            kind: dict(definition.handlers.get(kind, {})) for kind in KINDS
        }
        self._waiting: list[SignalReceived] = []
        # What handles something, each with what it handles.
        self._under_way: dict[int, tuple[str, HandlerUnfinishedPolicy]] = {}
        self._begun = 0

    def bind(self, instance: Any) -> None:
        """Make the methods of a class those of its object."""
        self.instance = instance
        for found in self._handlers.values():
            for name, handler in found.items():
                found[name] = handler.bound(instance)

    def set(self, kind: Kind, handler: Handler | None, name: str | None) -> None:
        """Let something be taken from now on; signals also if they came before."""
        self._check()
        if handler is None:
            self._handlers[kind].pop(name, None)
            return

        self._handlers[kind][name] = handler
        if kind == "signal":
            waiting, self._waiting = self._waiting, []
            for event in waiting:
                self.signal(event, again=True)

    def get(self, kind: Kind, name: str | None) -> Handler | None:
        """Return what was set for a name, or the dynamic handler."""
        return self._handlers[kind].get(name)

    def finished(self) -> bool:
        """Return whether no handler of a signal or an update is under way."""
        return not self._under_way

    @property
    def update(self) -> UpdateInfo | None:
        """The update that the code now running handles, if it does."""
        return _update.get()

    def warn_of_unfinished(self) -> None:
        """Say which handlers are dropped with the run that ends."""
        warn = HandlerUnfinishedPolicy.WARN_AND_ABANDON
        left = [what for what, policy in self._under_way.values() if policy is warn]
        if left:
            _log.warning(
                "run %r ended while handlers were under way, which were dropped: %s. Let it wait "
                "for them: await workflow.wait_condition(workflow.all_handlers_finished). See: "
                "durable show %s",
                *(self._start.workflow_id, ", ".join(left), self._start.workflow_id),
            )

    # Signals

    def signal(self, event: SignalReceived, *, again: bool = False) -> None:
        """Begin the handler of a signal; one without a handler waits for it."""
        what = f"signal {event.name!r}"
        try:
            handler, args = self._taking("signal", event.name, event.args.data, what)
        except UnknownHandlerError as error:
            self._waiting.append(event)
            if not again:
                _log.warning(
                    "run %r keeps the %s, for it has no handler now: %s. See: durable show %s",
                    *(self._start.workflow_id, what, error, self._start.workflow_id),
                )

            return
        except (DecodeError, ArgumentError) as error:
            # The sender's mistake: it must not stop a run that can do nothing about it.
            _log.error(
                "run %r drops the signal %r of %s: %s. See: durable show %s",
                *(self._start.workflow_id, event.name, event.client, error),
                self._start.workflow_id,
            )
            return

        self.begin(self._handle(handler, args), f"signal {event.name}", handler.policy)

    async def _handle(self, handler: Handler, args: tuple[Any, ...]) -> None:
        await called(handler.fn, args)

    def begin(
        self, handling: Coroutine[Any, Any, None], what: str, policy: HandlerUnfinishedPolicy
    ) -> None:
        """Begin to handle something, in a task of its own."""
        self._begun += 1
        number = self._begun
        self._under_way[number] = what, policy

        async def handle() -> None:
            try:
                await handling
            finally:
                del self._under_way[number]

        self._begin(handle(), what)

    # Updates

    def taking(self, event: UpdateReceived) -> tuple[Handler, tuple[Any, ...]]:
        """Return what handles an update, and its arguments.

        Raises:
            UnknownHandlerError: Nothing does.
            DecodeError: An argument does not fit its type.
            ArgumentError: There are too few or too many.
        """
        return self._taking("update", event.name, event.args.data, f"update {event.name!r}")

    async def updated(self, event: UpdateReceived, handler: Handler, args: tuple[Any, ...]) -> Any:
        """Handle an update and return what its handler returned."""
        _update.set(UpdateInfo(id=event.request, name=event.name))
        return await called(handler.fn, args)

    def validate(self, event: UpdateReceived) -> None:
        """Let a run reject an update; on what it has in memory, which must not change.

        Raises:
            Exception: It does, or nothing takes the update.
        """
        handler, args = self.taking(event)
        if handler.validator is not None:
            _update.set(UpdateInfo(id=event.request, name=event.name))
            handler.validator(*args)

    # Queries

    def query(self, name: str, args: bytes) -> bytes:
        """Answer a query by JSON.

        Raises:
            WorkflowQueryFailedError: There is none of that name, or it raised.
        """
        what = f"query {name!r} of run {self._start.workflow_id!r}"
        try:
            handler, decoded = self._taking("query", name, args, what)
        except UnknownHandlerError as error:
            raise WorkflowQueryFailedError(
                f"workflow {self._start.workflow_type!r} has no query {name!r}; it has "
                f"{self._names('query')}"
            ) from error
        except (DecodeError, ArgumentError) as error:
            raise _query_failed(what, error) from error

        try:
            answer = handler.fn(*decoded)
            annotated = _faithful.result_of(handler.fn)
            return _faithful.encode_result(answer, annotated, what=f"the answer of {what}")
        except Exception as error:
            raise _query_failed(what, error) from error

    # What takes what

    def _taking(
        self, kind: Kind, name: str, data: bytes, owner: str
    ) -> tuple[Handler, tuple[Any, ...]]:
        handlers = self._handlers[kind]
        handler = handlers.get(name)
        if handler is not None:
            takes = signature(handler.fn)
            args = _faithful.decode_arguments(data, takes, owner=owner)
            takes.check_count(args, what=owner)
            return handler, args

        handler = handlers.get(None)
        if handler is not None:
            return handler, (name, [RawValue(part) for part in _json.split(data)])

        raise UnknownHandlerError(
            f"workflow {self._start.workflow_type!r} has no {kind} {name!r}; it has "
            f"{self._names(kind)}"
        )

    def _names(self, kind: Kind) -> str:
        names = sorted(name for name in self._handlers[kind] if name is not None)
        return ", ".join(map(repr, names)) or f"no {plural(kind)}"


async def called(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call what may be async or not."""
    outcome = fn(*args)
    return await cast("Any", outcome) if inspect.isawaitable(outcome) else outcome


def _query_failed(what: str, error: Exception) -> WorkflowQueryFailedError:
    return WorkflowQueryFailedError(f"{what} failed: {type(error).__name__}: {error}")
