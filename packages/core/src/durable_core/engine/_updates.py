"""Updates of one run: which are admitted, and what is answered.

An update is an event, once it is admitted; its answer is a command. What a validator rejects leaves
no trace in the history, so a replay asks no validator.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Protocol

from durable_core.exceptions import NotRegisteredError
from durable_core.history import AnswerUpdate, Payload
from durable_core.payloads import _faithful

from ._handlers import UnknownHandlerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_core.history import Command, Failure, UpdateReceived
    from durable_core.payloads._failures import Registry
    from durable_core.workflow._handlers import Handler

    from ._blame import Blame
    from ._handlers import Handlers

__all__ = ["Updates"]


class Engine(Protocol):
    """What updates need of their run."""

    @property
    def replaying(self) -> bool:
        """Whether the code now running repeats what is already recorded."""
        ...

    def issue(self, command: Command) -> Command:
        """Ask for what has no identity of its own."""
        ...

    @property
    def blame(self) -> Blame:
        """Judges what its code raises."""
        ...


class Updates:
    """The updates of one run.

    Attributes:
        rejected: Why those were rejected that came with the last activation, by id.
        rejections: Ids of all that were ever rejected.
        accepted: Ids of those that were accepted in what is set aside now: they are handled again,
            whatever a validator would say.
    """

    def __init__(self, run: Engine, handlers: Handlers, failures: Registry) -> None:
        self.rejected: dict[str, Failure] = {}
        self._run = run
        self._handlers = handlers
        self._failures = failures
        self.rejections: set[str] = set()
        self.accepted: set[str] = set()
        self._known: set[str] = set()

    def inherit(self, other: Updates) -> None:
        """Take over what is no part of the history."""
        self.rejections |= other.rejections
        self.accepted |= other.accepted

    def admits(self, event: UpdateReceived, context: contextvars.Context) -> bool:
        """Return whether an update is to be handled: it is new, and nothing rejects it."""
        if event.request in self._known or event.request in self.rejections:
            return False

        if event.request not in self.accepted:
            try:
                context.run(self._handlers.validate, event)
            except Exception as error:  # noqa: BLE001  # whatever a validator raises rejects
                self.rejected[event.request] = self._failures.record(error)
                self.rejections.add(event.request)
                return False

        # Not only when it begins: it may be among these events twice.
        self._known.add(event.request)
        return True

    def begin(self, event: UpdateReceived) -> None:
        """Begin to handle an update that was admitted.

        Raises:
            WorkflowBugError: It was admitted by code that took it, and this one does not.
        """
        self._known.add(event.request)
        try:
            handler, args = self._handlers.taking(event)
        except UnknownHandlerError as error:
            raise NotRegisteredError(f"{error}, and accepted it before: restore it") from error

        what = f"update {event.name}"
        self._handlers.begin(self._handle(event, handler, args), what, handler.policy)

    async def _handle(self, event: UpdateReceived, handler: Handler, args: tuple[Any, ...]) -> None:
        try:
            result = await self._handlers.updated(event, handler, args)
        except Exception as error:
            if not self._run.blame.fails(error):
                raise

            failure = self._failures.record(error)
            self._run.issue(AnswerUpdate(request=event.request, failure=failure))
        except asyncio.CancelledError as error:
            failure = self._failures.record(error)
            self._run.issue(AnswerUpdate(request=event.request, failure=failure))
        else:
            recorded = self._recorded(event, handler.fn, result)
            self._run.issue(AnswerUpdate(request=event.request, result=recorded))

    def _recorded(self, event: UpdateReceived, fn: Callable[..., Any], result: Any) -> Payload:
        if self._run.replaying:
            return Payload()

        what = f"the result of update {event.name!r}"
        return Payload(data=_faithful.encode_result(result, _faithful.result_of(fn), what=what))
