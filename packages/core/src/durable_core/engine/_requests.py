"""What a run asks people: questions that are open, their timers, and answers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from durable_core import _clock
from durable_core.adapter import Answer
from durable_core.exceptions import DecodeError
from durable_core.history import (
    AskPeople,
    CancelRequested,
    Payload,
    RemindPeople,
    RequestAnswered,
    TimerFired,
    WithdrawRequest,
)
from durable_core.payloads import _digest, _faithful, _json, _schemas

from ._loop import WorkflowFuture

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from durable_core.adapter import Request
    from durable_core.history import Event

    from ._commands import Commands
    from ._loop import Timer, WorkflowLoop

__all__ = ["RequestFuture", "Requests", "answers_first", "in_turns"]

_MINUTE = 60
_ENDING = (CancelRequested, TimerFired)


class RequestFuture(WorkflowFuture):
    """The answer to one request. Cancelling it withdraws the question.

    Attributes:
        asked: The command that put the question.
        since: When, in seconds since the epoch.
        reminders: How many there were.
        reminded: Time of the last of them.
        timers: Those that it waits by.
    """

    def __init__(
        self, *, loop: WorkflowLoop, owner: Requests, request: Request, asked: AskPeople
    ) -> None:
        super().__init__(loop=loop)
        self.request = request
        self.asked = asked
        # To the microsecond, as whoever lists requests says where to go on.
        self.since = round(loop.time(), 6)
        self.reminders = 0
        self.reminded: float | None = None
        self.timers: list[Timer] = []
        self._owner = owner
        # What nobody awaits is in the history; see `ActivityFuture`.
        self._log_traceback = False

    def set_exception(self, exception: type | BaseException) -> None:
        """Fail the future, without asyncio's warning if nobody looks."""
        super().set_exception(exception)
        self._log_traceback = False

    def cancel(self, msg: Any | None = None) -> bool:
        """Withdraw the question; return False if it was answered, or its time is over."""
        if self.done():
            return False

        self._owner.withdraw(self)
        return super().cancel(msg)


class Requests:
    """What one run asks people.

    Attributes:
        waiting: What nobody has answered yet, by command number.
    """

    def __init__(self, commands: Commands, loop: WorkflowLoop) -> None:
        self.waiting: dict[int, RequestFuture] = {}
        self._commands = commands
        self._loop = loop
        self._occurrences: dict[tuple[str, str], int] = {}

    def ask(self, request: Request) -> RequestFuture:
        """Put a question to people.

        Raises:
            DefinitionError: The JSON form of the type of the answer cannot be told.
            EncodeError: The question cannot be recorded.
            TypeError: Kind, key or summary is no text.
            ValueError: The kind is empty.
        """
        for name in ("kind", "key", "summary"):
            text: object = getattr(request, name)
            # Else it would be recorded, and not be read again.
            if not isinstance(text, str):
                raise TypeError(f"the {name} of a request must be a text, got {text!r}")

        if not request.kind:
            raise ValueError("the kind of a request must not be empty: say what is asked for")

        what = f"the question of request {request.kind!r}"
        args, data, schema = (request.question,), b"", b""
        if not self._commands.expected:
            data = _json.encode(args, what=what)
            _faithful.check_size(data, what=what)
            schema = _schemas.schema_of(request.answer_type, what=f"request {request.kind!r}")

        digest = _digest.digest(args, what=what)
        key = request.kind, request.key
        occurrence = self._occurrences.get(key, 0) + 1
        now = self._loop.time()
        command = AskPeople(
            seq=self._commands.next_seq,
            kind=request.kind,
            args=Payload(data=data),
            digest=digest,
            schema=schema,
            key=request.key,
            occurrence=occurrence,
            summary=request.summary,
            due=None if request.timeout is None else now + request.timeout,
        )
        asked = self._commands.ask(command, args, ())
        self._occurrences[key] = occurrence
        future = RequestFuture(loop=self._loop, owner=self, request=request, asked=asked)
        self.waiting[asked.seq] = future
        if request.timeout is not None:
            future.timers.append(self._loop.call_later(request.timeout, self._expire, future))

        first = request.remind_every if request.remind_after is None else request.remind_after
        self._remind_in(first, future)
        return future

    def answered(self, event: RequestAnswered) -> None:
        """Let whoever waits have an answer."""
        future = self.waiting.get(event.seq)
        if future is None:
            return

        self._close(future)
        what = f"the answer to request {future.asked.kind!r}, given by {event.by!r},"
        try:
            value = _json.decode(event.value.data, future.request.answer_type, what=what)
        except DecodeError as error:
            # Not of this call: code that catches it may ask again.
            future.set_exception(error)
        else:
            time = _clock.from_timestamp(event.time)
            future.set_result(Answer(value=value, by=event.by, time=time, note=event.note))

    def withdraw(self, future: RequestFuture, *, timed_out: bool = False) -> None:
        """Take no answer any more."""
        seq = future.asked.seq
        if seq in self.waiting:
            self._close(future)
            self._commands.issue(WithdrawRequest(seq=seq, timed_out=timed_out))

    def _close(self, future: RequestFuture) -> None:
        del self.waiting[future.asked.seq]
        for timer in future.timers:
            timer.cancel()

    def _expire(self, future: RequestFuture) -> None:
        if future.done():
            return

        self.withdraw(future, timed_out=True)
        asked, timeout = future.asked, future.request.timeout
        which = f"{asked.kind!r}" + (f" ({asked.key})" if asked.key else "")
        assert timeout is not None
        within = f"{timeout:g} s" if timeout < _MINUTE else str(timedelta(seconds=timeout))
        future.set_exception(TimeoutError(f"nobody answered the request {which} within {within}"))

    def _remind_in(self, seconds: float | None, future: RequestFuture) -> None:
        if seconds is not None:
            future.timers.append(self._loop.call_later(seconds, self._remind, future))

    def _remind(self, future: RequestFuture) -> None:
        if future.done():
            return

        future.reminders += 1
        future.reminded = self._loop.time()
        future.timers = [timer for timer in future.timers if timer.when() > future.reminded]
        self._commands.issue(RemindPeople(seq=future.asked.seq, number=future.reminders))
        self._remind_in(future.request.remind_every, future)
        if future.request.on_reminder is not None:
            future.request.on_reminder(future.reminders)


def answers_first(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return events with those that end a wait behind the answers that came with them.

    These answers were accepted, so whoever waits for them is to get them.
    """
    found = tuple(events)
    if not any(isinstance(e, RequestAnswered) for e in found):
        return found

    last = tuple(e for e in found if isinstance(e, _ENDING))
    return (*(e for e in found if not isinstance(e, _ENDING)), *last)


def in_turns(events: Sequence[Event]) -> Iterable[Sequence[Event]]:
    """Yield events in the parts after each of which the code runs; see `answers_first`."""
    answered = False
    for n, event in enumerate(events):
        if answered and isinstance(event, _ENDING):
            yield events[:n]
            yield events[n:]
            return

        answered = answered or isinstance(event, RequestAnswered)

    yield events
