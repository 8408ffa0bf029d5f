"""Exceptions of every kind that users write, and activities that raise them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from durable_core import RetryPolicy, activity, workflow
from durable_core import exceptions as ex

from support import types_matrix as m


class KeywordError(Exception):
    """Its arguments say nothing of how it was made."""

    def __init__(self, *, code: int, hint: str = "") -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.hint = hint


class HoldingError(Exception):
    """Keeps anything, and says nothing about its type."""

    def __init__(self, **attributes: object) -> None:
        super().__init__("something is wrong")
        vars(self).update(attributes)


class SlottedError(Exception):
    __slots__ = ("empty", "limit", "unset")

    def __init__(self, limit: object) -> None:
        super().__init__(limit)
        self.limit = limit
        self.empty = None


class PickyError(Exception):
    def __new__(cls, one: str, two: str) -> Self:
        return super().__new__(cls, one, two)

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class InitCalledError(Exception):
    calls: ClassVar[list[str]] = []

    def __init__(self, text: str) -> None:
        InitCalledError.calls.append(text)
        super().__init__(text)


class DiskError(OSError):
    def __init__(self, errno: int, text: str, *, device: str) -> None:
        super().__init__(errno, text)
        self.device = device


class ManyErrors(ExceptionGroup):
    def derive(self, excs):
        return ManyErrors(self.message, excs)


class NamedGroup(ExceptionGroup):
    def __new__(cls, errors: list[Exception], *, name: str) -> Self:
        made = super().__new__(cls, f"in {name}", errors)
        made.name = name
        return made

    def __init__(self, errors: list[Exception], *, name: str) -> None:
        super().__init__(f"in {name}", errors)


class PaymentError(ex.ApplicationError):
    """An error of the user's that is one of ours, and has fields of its own."""

    def __init__(self, order: uuid.UUID, *, due: dt.datetime) -> None:
        super().__init__(f"order {order} is not paid", order, non_retryable=True)
        self.order = order
        self.due = due


class SlowError(ex.TimeoutError):
    def __init__(self, seconds: float) -> None:
        super().__init__("too slow", type=ex.TimeoutType.HEARTBEAT)
        self.seconds = seconds


class StoppedError(ex.CancelledError):
    def __init__(self, reason: str) -> None:
        super().__init__("stopped", reason)
        self.reason = reason


@dataclass
class DefaultsError(Exception):
    limit: int
    names: list[str] = field(default_factory=list)


@dataclass
class Live:
    """Has a field that lives in this process only."""

    client: object


class Request:
    """As an HTTP library has it: no data."""


class HttpError(Exception):
    def __init__(self, text: str, *, request: object) -> None:
        super().__init__(text)
        self.request = request


class BrokenTextError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@dataclass
class LimitError(Exception):
    limit: int
    used: int


def _caused() -> BaseException:
    top = ValueError("top")
    top.__cause__ = KeywordError(code=1)
    top.__cause__.__cause__ = FileNotFoundError(2, "no such file", "a.txt")
    return top


def _noted() -> BaseException:
    error = HoldingError(when=m.UTC, item=m.Item("a"), person=m.ANN, colour=m.Colour.RED)
    error.add_note("a note")
    return error


# What a workflow sees of each is what was raised: its class, and everything that it holds.
RAISED: dict[str, Callable[[], BaseException]] = {
    "no message": ValueError,
    "key": lambda: KeyError(("a", 1)),
    "os": lambda: FileNotFoundError(2, "no such file", "a.txt"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "keyword only": lambda: KeywordError(code=5, hint="x"),
    "attributes": _noted,
    "slots": lambda: SlottedError(m.DAY),
    "own new": lambda: PickyError("a", "b"),
    "subclass of os": lambda: DiskError(28, "no space", device="sda"),
    "dataclass": lambda: DefaultsError(3, ["a"]),
    "application": lambda: PaymentError(m.ID, due=m.UTC),
    "broken text": lambda: BrokenTextError("x"),
    "causes": _caused,
    "group": lambda: ExceptionGroup("several", [_caused(), ExceptionGroup("deep", [_noted()])]),
    "group of a user": lambda: NamedGroup([KeyError("k")], name="here"),
}


def described(error: BaseException | None) -> Any:
    """Return everything that can be seen of an exception, as JSON's own types."""
    if error is None:
        return None

    try:
        text = str(error)
    except RuntimeError as broken:
        text = f"broken: {broken}"

    slots = ("errno", "strerror", "filename", "object", "reason", "limit", "empty", "message")
    return {
        "class": f"{type(error).__module__}.{type(error).__qualname__}",
        "text": text,
        "args": [repr(m.shape(arg)) for arg in error.args if not isinstance(error, ExceptionGroup)],
        "attributes": {k: repr(m.shape(v)) for k, v in sorted(vars(error).items())},
        "slots": {name: repr(m.shape(getattr(error, name, None))) for name in slots},
        "cause": described(error.__cause__),
        "members": [described(one) for one in getattr(error, "exceptions", ())],
    }


@activity.defn(retry_policy=RetryPolicy(maximum_attempts=1))
async def fails_in_loop(name: str) -> None:
    error = RAISED[name]()
    raise error


@activity.defn(retry_policy=RetryPolicy(maximum_attempts=1))
def fails_in_thread(name: str) -> None:
    error = RAISED[name]()
    raise error


seen: dict[str, list[Any]] = {name: [] for name in RAISED}


@workflow.defn
class Failing:
    """Tries each activity and notes what it sees."""

    @workflow.run
    async def run(self, name: str) -> None:
        for body in (fails_in_loop, fails_in_thread):
            try:
                await workflow.execute_activity(body, name)
            except ex.ActivityError as error:
                seen[name].append(described(error.cause))
