"""Runs that are started together with a signal or an update."""

from __future__ import annotations

import asyncio

import pytest
from durable_core.client import WithStartWorkflowOperation
from durable_core.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from durable_core.exceptions import WorkflowAlreadyStartedError, WorkflowUpdateFailedError
from support.talking import QUEUE, Inbox, Note, both

USE_EXISTING = WorkflowIDConflictPolicy.USE_EXISTING


@pytest.mark.parametrize("local", [True, False], ids=["here", "elsewhere"])
def test_an_update_starts_its_run_or_goes_to_the_open_one(store_url, local):
    async def main():
        async with both(store_url) as (near, far):
            client = near if local else far
            results = []
            for n in range(2):
                start = WithStartWorkflowOperation(
                    Inbox.run, "ann", id="w", task_queue=QUEUE, id_conflict_policy=USE_EXISTING
                )
                results.append(
                    await client.execute_update_with_start_workflow(
                        Inbox.add, Note(str(n)), start_workflow_operation=start
                    )
                )
                handle = await start.workflow_handle()

            assert results == [1, 2]
            with pytest.raises(RuntimeError, match="used before"):
                await client.execute_update_with_start_workflow(
                    Inbox.add, Note("x"), start_workflow_operation=start
                )

            await handle.signal(Inbox.end)
            assert await handle.result() == [Note("0"), Note("1")]
            refusing = WithStartWorkflowOperation(
                Inbox.run,
                "ann",
                id="w",
                task_queue=QUEUE,
                id_conflict_policy=USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            )
            with pytest.raises(WorkflowAlreadyStartedError):
                await client.execute_update_with_start_workflow(
                    Inbox.add, Note("x"), start_workflow_operation=refusing
                )

            with pytest.raises(WorkflowAlreadyStartedError):
                await refusing.workflow_handle()

    asyncio.run(main())


@pytest.mark.parametrize("local", [True, False], ids=["here", "elsewhere"])
def test_a_rejected_update_leaves_its_run_started(store_url, local):
    async def main():
        async with both(store_url) as (near, far):
            start = WithStartWorkflowOperation(
                "Inbox", "ann", id="w", task_queue=QUEUE, id_conflict_policy=USE_EXISTING
            )
            with pytest.raises(WorkflowUpdateFailedError, match="needs a text"):
                await (near if local else far).execute_update_with_start_workflow(
                    Inbox.add, Note(""), start_workflow_operation=start
                )

            handle = await start.workflow_handle()
            await handle.signal(Inbox.end)
            assert await handle.result() == []

    asyncio.run(main())


@pytest.mark.parametrize("local", [True, False], ids=["here", "elsewhere"])
def test_a_signal_starts_its_run_or_goes_to_the_open_one(store_url, local):
    async def main():
        async with both(store_url) as (near, far):
            client = near if local else far
            for n in range(3):
                handle = await client.start_workflow(
                    Inbox.run,
                    "ann",
                    id="w",
                    task_queue=QUEUE,
                    start_signal="take",
                    start_signal_args=[Note(str(n))],
                )

            with pytest.raises(WorkflowAlreadyStartedError):
                await client.start_workflow(
                    Inbox.run,
                    "ann",
                    id="w",
                    task_queue=QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    start_signal="take",
                    start_signal_args=[Note("x")],
                )

            await handle.signal(Inbox.end)
            assert await handle.result() == [Note("0"), Note("1"), Note("2")]

    asyncio.run(main())
