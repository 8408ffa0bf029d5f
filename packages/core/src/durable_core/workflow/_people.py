"""Questions that workflow code puts to people."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar, overload

from durable_core.adapter import Answer, Request
from durable_core.exceptions import NotSupported

from . import _calls

__all__ = ["Answer", "request"]

T = TypeVar("T")


@overload
async def request(
    kind: str,
    question: Any = ...,
    *,
    key: str = ...,
    summary: str = ...,
    timeout: timedelta | float | None = ...,
    remind_after: timedelta | float | None = ...,
    remind_every: timedelta | float | None = ...,
    on_reminder: Callable[[int], Awaitable[object]] | None = ...,
) -> Answer[bool]: ...


@overload
async def request(
    kind: str,
    question: Any,
    answer_type: type[T],
    *,
    key: str = ...,
    summary: str = ...,
    timeout: timedelta | float | None = ...,
    remind_after: timedelta | float | None = ...,
    remind_every: timedelta | float | None = ...,
    on_reminder: Callable[[int], Awaitable[object]] | None = ...,
) -> Answer[T]: ...


@overload
async def request(
    kind: str,
    question: Any,
    answer_type: Any,
    *,
    key: str = ...,
    summary: str = ...,
    timeout: timedelta | float | None = ...,
    remind_after: timedelta | float | None = ...,
    remind_every: timedelta | float | None = ...,
    on_reminder: Callable[[int], Awaitable[object]] | None = ...,
) -> Answer[Any]: ...


async def request(
    kind: str,
    question: Any = None,
    answer_type: Any = bool,
    *,
    key: str = "",
    summary: str = "",
    timeout: timedelta | float | None = None,
    remind_after: timedelta | float | None = None,
    remind_every: timedelta | float | None = None,
    on_reminder: Callable[[int], Awaitable[object]] | None = None,
) -> Answer[Any]:
    """Put a question to people and wait for the answer, for as long as it takes.

    It is listed by `Client.list_requests` and ``durable requests`` until somebody answers. One
    answer is taken. A run that waits for it needs no worker; any worker goes on with it. If the
    await is cancelled, or the run ends, the question is withdrawn.

    Args:
        kind: What is asked for, such as ``"refund"``; people find it by that.
        question: Data for whoever answers: anything that can be recorded. Compared on replay.
        answer_type: Annotation of the answer; yes or no by default. An answer is checked against
            its JSON form where it is given, and one that does not fit is refused.
        key: Tells apart requests of one kind that are made in no fixed order.
        summary: One line for people.
        timeout: A timedelta, or seconds, by a recorded timer; None waits for ever.
        remind_after: Note after that time that nobody has answered: in the history, and in the
            list of requests.
        remind_every: Note it again after each such time.
        on_reminder: Called with the number of each reminder: workflow code that calls an activity
            which sends a mail, say. What it raises withdraws the question and is raised here; what
            is left of it when the answer comes is cancelled.

    Raises:
        TimeoutError: Nobody answered in time.
        DecodeError: The answer fits the JSON form, and the type refuses it all the same. Ask again,
            or mend the type: if it is not caught, the run stalls.
        DefinitionError: The JSON form of ``answer_type`` cannot be told.
        EncodeError: The question cannot be recorded.
        TypeError: Kind, key or summary is no text.
        ValueError: The kind is empty, a time is negative, or ``on_reminder`` has no time.
        NotSupported: The engine asks nobody.
        NotInWorkflowError: Called outside workflow code.
    """
    engine = _calls.runtime()
    if not engine.capabilities.requests:
        raise NotSupported(
            f"the {engine.capabilities.name} engine cannot ask people: use the embedded one, or a "
            "signal"
        )

    if remind_every is not None and _seconds(remind_every) == 0:
        raise ValueError("remind_every must be more than 0 seconds: leave it out for one reminder")

    if on_reminder is not None and remind_after is None and remind_every is None:
        raise ValueError("on_reminder is never called: say when by remind_after or remind_every")

    reminders = _Reminders(on_reminder)
    reminders.answer = engine.request(
        Request(
            kind=kind,
            question=question,
            answer_type=answer_type,
            key=key,
            summary=summary,
            timeout=_seconds(timeout),
            remind_after=_seconds(remind_after),
            remind_every=_seconds(remind_every),
            on_reminder=None if on_reminder is None else reminders.begin,
        )
    )
    try:
        return await reminders.answer
    except asyncio.CancelledError:
        if reminders.failure is not None:
            raise reminders.failure from None

        raise
    finally:
        await reminders.end()


class _Reminders:
    """The reminders of one request that are under way."""

    def __init__(self, call: Callable[[int], Awaitable[object]] | None) -> None:
        self.answer: asyncio.Future[Answer[Any]] | None = None
        self.failure: BaseException | None = None
        self._call = call
        self._tasks: list[asyncio.Task[object]] = []

    def begin(self, number: int) -> None:
        """Call what the user gave for the purpose."""
        task = asyncio.get_running_loop().create_task(self._remind(number))
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def end(self) -> None:
        """Cancel those that have not ended, and wait for their ends."""
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            task.cancel()

        if left:
            await asyncio.gather(*left, return_exceptions=True)

    async def _remind(self, number: int) -> object:
        assert self._call is not None
        return await self._call(number)

    def _ended(self, task: asyncio.Task[object]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None and self.answer is not None and not self.answer.done():
            self.failure = failure
            self.answer.cancel()


def _seconds(duration: timedelta | float | None) -> float | None:
    if duration is None:
        return None

    found = _calls.seconds(duration, "wait for")
    if math.isnan(found):
        raise ValueError("cannot wait for nan seconds: give a number")

    return None if math.isinf(found) else found
