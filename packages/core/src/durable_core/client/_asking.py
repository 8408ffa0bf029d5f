"""Queries that a worker of another process answers, since this one does not know the code."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from durable_core import _defaults
from durable_core import exceptions as ex
from durable_core.stores import Question

if TYPE_CHECKING:
    from durable_core.stores import Answer, RunRow

    from ._client import Client

__all__ = ["asked", "seconds_of"]


def seconds_of(rpc_timeout: timedelta | None) -> float:
    """Return for how long an answer is waited for.

    Raises:
        TypeError: It is no timedelta.
        ValueError: It is not positive.
    """
    if rpc_timeout is None:
        return _defaults.QUERY_TIMEOUT

    if not isinstance(cast("object", rpc_timeout), timedelta):
        raise TypeError(f"rpc_timeout is a timedelta, got {rpc_timeout!r}")

    if rpc_timeout <= timedelta(0):
        raise ValueError(f"rpc_timeout must be positive, got {rpc_timeout}")

    return rpc_timeout.total_seconds()


async def asked(client: Client, row: RunRow, name: str, args: bytes, *, timeout: float) -> bytes:
    """Return the JSON that a worker answers a query with.

    Raises:
        WorkflowQueryFailedError: The run has no such query, or it raised.
        WorkflowQueryUnansweredError: No worker that knows the code answered in time.
    """
    questions, clock = client.store.questions, client.clock
    now = clock.now()
    question = Question(
        namespace=row.namespace,
        run_id=row.run_id,
        workflow_type=row.workflow_type,
        task_queue=row.task_queue,
        name=name,
        args=args,
        until=now + timeout,
    )
    number = await questions.ask(question, now=now)
    try:
        answer = await _answer(client, number, question.until)
    finally:
        # What is left over goes with the next question, once its time is over.
        with contextlib.suppress(ex.StoreError):
            await questions.drop(number)

    if answer is None:
        raise ex.WorkflowQueryUnansweredError(
            f"this process does not know the workflow {row.workflow_type!r}, and no worker of the "
            f"queue {row.task_queue!r} that does answered the query {name!r} of run "
            f"{row.workflow_id!r} within {timeout:g} s. Start one, wait longer (rpc_timeout), or "
            "import the module that defines the workflow"
        )

    if answer.failure:
        raise ex.WorkflowQueryFailedError(answer.failure)

    return answer.data


async def _answer(client: Client, number: int, until: float) -> Answer | None:
    """Wait for an answer; None if there is none in time."""
    begun = asyncio.get_running_loop().time()
    while True:
        seen = client.changes.count
        answer = await client.store.questions.read(number)
        left = until - client.clock.now()
        if answer is not None or left <= 0:
            return answer

        await client.changes.wait(timeout=min(left, 1.0), begun=begun, since=seen)
