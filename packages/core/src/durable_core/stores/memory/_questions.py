"""Questions of the store in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from durable_core.stores._questions import Answer, Question

from ._database import Database

__all__ = ["MemoryQuestions"]


class MemoryQuestions:
    """The `Questions` of a store in memory.

    Args:
        use: Calls something with what the store holds.
    """

    def __init__(self, use: Callable[[Callable[[Database], Any]], Any]) -> None:
        self._use = use

    async def ask(self, question: Question, *, now: float) -> int:
        """Put a question, and return its number."""

        def put(database: Database) -> int:
            asked = database.questions
            for number in [n for n, (each, _) in asked.items() if each.until < now]:
                del asked[number]

            number = next(database.question_numbers)
            asked[number] = replace(question, number=number), None
            database.version += 1
            return number

        asked: int = self._use(put)
        return asked

    async def waiting(self, namespace: str, task_queue: str, *, now: float) -> Sequence[Question]:
        """Return the questions about runs of a queue that nobody has answered, in order."""
        asked: list[tuple[Question, Answer | None]] = self._use(lambda d: [*d.questions.values()])
        return [
            question
            for question, answer in asked
            if answer is None
            and question.until >= now
            and (question.namespace, question.task_queue) == (namespace, task_queue)
        ]

    async def answer(self, number: int, answer: Answer) -> None:
        """Answer a question, unless that was done, or nobody waits for it any more."""

        def put(database: Database) -> None:
            question, before = database.questions.get(number, (None, None))
            if question is not None and before is None:
                database.questions[number] = question, answer
                database.version += 1

        self._use(put)

    async def read(self, number: int) -> Answer | None:
        """Return the answer of a question; None while there is none."""
        found: Answer | None = self._use(lambda d: d.questions.get(number, (None, None))[1])
        return found

    async def drop(self, number: int) -> None:
        """Forget a question, with its answer."""
        self._use(lambda d: d.questions.pop(number, None))
