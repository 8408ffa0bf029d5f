"""Queries of processes that do not know the code, answered by a worker that does (ENGINE R33).

The owner of a run answers on what is committed. A run that nobody owns, or that has ended, is
replayed to look at it. Nothing is recorded, and nothing is executed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from durable_core import _defaults
from durable_core import exceptions as ex
from durable_core.stores import Answer, Question

from ._arrived import LostRunError

if TYPE_CHECKING:
    from durable_core.client import Client

    from ._worker import Worker

__all__ = ["answer_questions"]

_log = logging.getLogger("durable_core.worker")


async def answer_questions(worker: Worker, client: Client) -> None:
    """Answer the questions about runs of a worker's queue that it knows, until it is cancelled."""
    store, under_way = client.store, dict[int, asyncio.Task[None]]()
    try:
        while True:
            seen = client.changes.count
            try:
                waiting = await store.questions.waiting(
                    client.namespace, worker.task_queue, now=client.clock.now()
                )
            except ex.StoreError:
                # The worker's own look at the store says so.
                waiting = []

            for question in waiting:
                known = worker.registered.knows_workflow(question.workflow_type)
                if known and question.number not in under_way:
                    answering = asyncio.create_task(_answer(worker, client, question))
                    under_way[question.number] = answering

            await client.changes.wait(timeout=1.0, interval=_defaults.POLL_IDLE, since=seen)
            under_way = {n: task for n, task in under_way.items() if not task.done()}
    finally:
        for task in under_way.values():
            task.cancel()

        # Not at all without one: the loop may have been closed without ado.
        if under_way:
            await asyncio.gather(*under_way.values(), return_exceptions=True)


async def _answer(worker: Worker, client: Client, question: Question) -> None:
    """Answer a question, or leave it to whoever owns its run."""
    try:
        try:
            data = await _asked(worker, client, question)
        except ex.WorkflowQueryFailedError as error:
            answer = Answer(failure=str(error))
        except (ex.StoreError, LostRunError):
            raise
        except Exception as error:  # noqa: BLE001  # whoever asked is told
            why = f"{type(error).__name__}: {error}"
            answer = Answer(failure=f"query {question.name!r} cannot be answered: {why}")
        else:
            if data is None:
                return

            answer = Answer(data=data)

        await client.store.questions.answer(question.number, answer)
    except LostRunError:
        # To be looked at anew: it waits still.
        return
    except ex.StoreError as error:
        _log.warning("worker %s could not answer a query: %s", worker.identity, error)


async def _asked(worker: Worker, client: Client, question: Question) -> bytes | None:
    """Return the answer of a run; None if its owner is to give it."""
    store = client.store
    row = await store.find(question.namespace, "", question.run_id)
    if row is None:
        raise ex.WorkflowNotFoundError("its run was purged")

    owned = client.owned(row.workflow_id, row.run_id)
    if owned is not None:
        return await owned.query(question.name, question.args)

    if not worker.owns(row) and await store.owner_alive(row):
        return None

    run = await worker.replay(await store.load(row))
    try:
        with worker.watchdog.watching(row.workflow_id):
            return run.query(question.name, question.args)
    finally:
        run.close()
