"""Questions of the SQLite store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_core.stores._questions import Answer, Question

from ._writer import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import apsw

    from ._writer import Writer

__all__ = ["SqliteQuestions"]


class SqliteQuestions:
    """The `Questions` of a SQLite store.

    Args:
        read: Calls something with a connection that reads.
        writer: Writes.
        sql: The statements.
    """

    def __init__(
        self,
        read: Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]],
        writer: Writer,
        sql: Mapping[str, str],
    ) -> None:
        self._read = read
        self._writer = writer
        self._sql = sql

    async def ask(self, question: Question, *, now: float) -> int:
        """Put a question, and return its number."""
        q = question
        values = (*(q.namespace, q.run_id, q.workflow_type, q.task_queue, q.name, q.args, q.until),)

        def put(connection: apsw.Connection) -> Any:
            connection.execute(self._sql["drop_late_questions"], (now,))
            return connection.execute(self._sql["put_question"], values).get

        return int(await self._writer.submit(Call(put)))

    async def waiting(self, namespace: str, task_queue: str, *, now: float) -> Sequence[Question]:
        """Return the questions about runs of a queue that nobody has answered, in order."""
        values = (namespace, task_queue, now)
        rows: list[Any] = await self._read(
            lambda c: c.execute(self._sql["questions"], values).fetchall()
        )
        return [Question(*row) for row in rows]

    async def answer(self, number: int, answer: Answer) -> None:
        """Answer a question, unless that was done, or nobody waits for it any more."""
        await self._execute("put_answer", (number, answer.data, answer.failure))

    async def read(self, number: int) -> Answer | None:
        """Return the answer of a question; None while there is none."""
        row: Any = await self._read(lambda c: c.execute(self._sql["answer"], (number,)).fetchone())
        return None if row is None else Answer(*row)

    async def drop(self, number: int) -> None:
        """Forget a question, with its answer."""
        await self._execute("drop_question", (number,))

    async def _execute(self, name: str, values: tuple[Any, ...]) -> None:
        sql = self._sql[name]
        await self._writer.submit(Call(lambda c: c.execute(sql, values).fetchall()))
