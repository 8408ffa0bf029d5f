"""A question that a run puts to people, and what they answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Answer", "Request"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """What somebody answered to a request.

    Attributes:
        value: The answer, of the type that was asked for.
        by: Who gave it, as its sender says.
        time: When it was given, UTC.
        note: What was said beside it; empty if nothing was.
    """

    value: T
    by: str
    time: datetime
    note: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A question for people.

    Attributes:
        kind: What is asked for, such as ``refund``. Part of the identity.
        question: Data for whoever answers. Recorded, and compared on replay: an answer is one to
            this question.
        answer_type: What the answer is decoded to; its JSON form is recorded, so that an answer is
            checked where it is given.
        key: Tells apart requests of one kind. Part of the identity, together with an occurrence
            number that the engine counts.
        summary: One line for people; not compared.
        timeout: Seconds after which it is withdrawn, and `TimeoutError` raised; None waits for
            ever.
        remind_after: Seconds after which those who have not answered are reminded.
        remind_every: Seconds after which they are reminded again, and again.
        on_reminder: Called in the run with the number of each reminder.
    """

    kind: str
    question: Any = None
    answer_type: Any = bool
    key: str = ""
    summary: str = ""
    timeout: float | None = None
    remind_after: float | None = None
    remind_every: float | None = None
    on_reminder: Callable[[int], object] | None = None
