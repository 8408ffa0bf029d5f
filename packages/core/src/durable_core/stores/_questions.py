"""Queries on their way to a worker that knows the code of their run, and back.

A question is no part of any history: it changes nothing, and is gone once it was answered or its
time is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Answer", "Question", "Questions"]


class Question(msgspec.Struct, frozen=True):
    """A query that a process sends which does not know the code.

    Attributes:
        namespace, run_id, workflow_type, task_queue: Of the run.
        name: Of the query.
        args: JSON array of its arguments.
        until: When nobody waits for the answer any more, in seconds since the epoch.
        number: Of the row, once it is there.
    """

    namespace: str
    run_id: str
    workflow_type: str
    task_queue: str
    name: str
    args: bytes
    until: float
    number: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What a worker said.

    Attributes:
        data: JSON of the answer; empty if there is none.
        failure: Why there is none; empty if there is one.
    """

    data: bytes = b""
    failure: str = ""


class Questions(Protocol):
    """Hands queries to workers of other processes."""

    async def ask(self, question: Question, *, now: float) -> int:
        """Put a question, and return its number; those whose time is over are dropped."""
        ...

    async def waiting(self, namespace: str, task_queue: str, *, now: float) -> Sequence[Question]:
        """Return the questions about runs of a queue that nobody has answered, in order."""
        ...

    async def answer(self, number: int, answer: Answer) -> None:
        """Answer a question, unless that was done, or nobody waits for it any more."""
        ...

    async def read(self, number: int) -> Answer | None:
        """Return the answer of a question; None while there is none."""
        ...

    async def drop(self, number: int) -> None:
        """Forget a question, with its answer."""
        ...
