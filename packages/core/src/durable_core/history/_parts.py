"""What events and commands are made of: values, failures, attempts; see `_records`."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "Attempt",
    "Attribute",
    "Failure",
    "Payload",
]


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Bytes of a recorded value, here or by reference.

    Attributes:
        data: The bytes, unless ``ref`` is set.
        ref: Content address of the item that holds them.
        size: Number of bytes, of a referenced payload.
        codec: What was done to the JSON, in order of doing; empty for plain JSON.
        key: Id of the key that encrypted it; empty for plain text.
    """

    data: bytes = b""
    ref: str = ""
    size: int = 0
    codec: str = ""
    key: str = ""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An exception as it is recorded.

    Attributes:
        type: Qualified name of its class, or the ``type`` of an `ApplicationError`.
        message: Its text.
        kind: Which of our own exceptions it is; empty for any other class.
        stack: Its traceback, for people.
        state: JSON that rebuilds it, if its class knows how.
        details: JSON array of an `ApplicationError`'s details.
        non_retryable: Whether it said that another attempt is pointless.
        retry_after: Seconds until the next attempt, if it said so.
        cause: The failure below it.
        members: The failures inside it, of an exception group.
        notes: What `add_note` added to it.
    """

    type: str
    message: str = ""
    kind: Literal["", "application", "cancelled", "terminated", "timeout", "activity", "child"] = ""
    stack: str = ""
    state: bytes = b""
    details: bytes = b""
    non_retryable: bool = False
    retry_after: float | None = None
    cause: Failure | None = None
    members: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One try of an activity.

    Attributes:
        number: 1 for the first.
        outcome: How it ended; ``lost`` if its worker died.
        started: Seconds since the epoch; None if it died with its worker before that was recorded.
        ended: Seconds since the epoch; of a lost attempt, when the loss was found.
        worker: Identity of the worker.
        fence: Fence of the ownership under which it ran.
        failure: Why it failed.
    """

    number: int
    outcome: Literal["completed", "failed", "timed_out", "lost", "cancelled"]
    started: float | None = None
    ended: float | None = None
    worker: str = ""
    fence: int = 0
    failure: Failure | None = None


class Attribute(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A search attribute as it is recorded.

    Attributes:
        name: Of the attribute.
        kind: Name of its type, such as ``Keyword``.
        value: What it is set to; None takes it away. Times are text, in UTC.
    """

    name: str
    kind: str
    value: str | int | float | bool | tuple[str, ...] | None = None
