"""Which runs to list, and in what order: what a filter says once it is read.

A test of something that a run does not have is false, also if it is negated by its operator
(``!=``, ``NOT IN``); ``NOT`` turns true and false around. There is no third truth value.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "BUILTIN_KINDS",
    "NEWEST_FIRST",
    "STATUSES",
    "All",
    "Condition",
    "Either",
    "Field",
    "No",
    "Operator",
    "Order",
    "Selection",
    "Test",
    "Value",
    "beyond",
    "everything",
]

Value = str | int | float | bool

Operator = Literal["=", "<", "<=", ">", ">=", "in", "between", "starts", "exists"]

STATUSES = {
    "Running": "running",
    "Completed": "completed",
    "Failed": "failed",
    "Canceled": "canceled",
    "Terminated": "terminated",
    "ContinuedAsNew": "continued_as_new",
}
"""The statuses of runs as filters name them, and as rows do."""

BUILTIN_KINDS = {
    "WorkflowId": "Keyword",
    "RunId": "Keyword",
    "WorkflowType": "Keyword",
    "TaskQueue": "Keyword",
    "ExecutionStatus": "Status",
    "StartTime": "Time",
    "CloseTime": "Time",
}
"""What every run has, and its type; a ``Time`` is seconds since the epoch."""


class Field(msgspec.Struct, frozen=True):
    """Something of a run that is compared.

    Attributes:
        name: As filters write it.
        kind: Its type.
        builtin: Whether every run has it; else it is a search attribute.
    """

    name: str
    kind: str
    builtin: bool


class Test(msgspec.Struct, frozen=True):
    """A comparison; of a list of texts it is true if it is of one of them.

    Attributes:
        field: What is compared.
        operator: How.
        values: With what; ``between`` has both bounds, which belong to it.
    """

    __test__ = False  # no test of pytest's

    field: Field
    operator: Operator
    values: tuple[Value, ...] = ()


class No(msgspec.Struct, frozen=True):
    """True where its part is false."""

    part: Condition


class All(msgspec.Struct, frozen=True):
    """True where all parts are."""

    parts: tuple[Condition, ...]


class Either(msgspec.Struct, frozen=True):
    """True where one of its parts is."""

    parts: tuple[Condition, ...]


Condition = Test | No | All | Either


class Order(msgspec.Struct, frozen=True):
    """In what order runs are listed.

    Attributes:
        field: By what.
        descending: Whether the largest comes first.
    """

    field: Field
    descending: bool


NEWEST_FIRST = Order(Field("StartTime", "Time", builtin=True), descending=True)


class Selection(msgspec.Struct, frozen=True):
    """Runs, and their order.

    Attributes:
        where: Which; None for all.
        order: Their order.
        grouped: Whether they are to be counted by status.
    """

    where: Condition | None = None
    order: Order = NEWEST_FIRST
    grouped: bool = False


def everything(where: Condition | None) -> tuple[Condition, ...]:
    """Return the conditions that must all hold."""
    if where is None:
        return ()

    if isinstance(where, All):
        return tuple(each for part in where.parts for each in everything(part))

    return (where,)


def beyond(prefix: str) -> str | None:
    """Return the first text that is larger than all that begin with a prefix, if there is one."""
    while prefix:
        last = ord(prefix[-1])
        prefix = prefix[:-1]
        if last < 0x10FFFF:
            # Surrogates are no characters.
            return prefix + chr(0xE000 if last == 0xD7FF else last + 1)

    return None
