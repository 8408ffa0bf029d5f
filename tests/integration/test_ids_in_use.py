"""Ids in use: what a second start with the id of an open or an ended run does."""

from __future__ import annotations

import asyncio

import pytest
from durable_core.client import WorkflowExecutionStatus
from durable_core.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from durable_core.exceptions import WorkflowAlreadyStartedError
from support.talking import Inbox, begin, both, sleeper


def test_an_id_that_is_open_is_refused_used_or_ended_as_the_policy_says(store_url):
    async def main():
        async with both(store_url) as (near, far):
            first = await begin(near, Inbox.run, "ann")
            for client in (near, far):
                with pytest.raises(WorkflowAlreadyStartedError, match="another id_conflict_policy"):
                    await begin(client, Inbox.run, "bob")

                same = await begin(
                    client,
                    Inbox.run,
                    "bob",
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                )
                assert same.run_id == first.run_id

            second = await begin(
                far,
                Inbox.run,
                "bob",
                id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
            )
            assert second.run_id != first.run_id
            assert (await first.describe()).status is WorkflowExecutionStatus.TERMINATED
            assert (await second.describe()).status is WorkflowExecutionStatus.RUNNING

    asyncio.run(main())


def test_an_id_that_was_used_is_free_or_not_as_the_policy_says(store_url):
    policy = WorkflowIDReusePolicy

    async def main():
        async with both(store_url) as (near, far):
            for client in (near, far):
                done, failed = f"done {client.identity}", f"failed {client.identity}"
                await (await begin(client, sleeper, 0.0, id=done)).result()
                handle = await begin(client, Inbox.run, "ann", id=failed)
                await handle.terminate()
                for id, given, free in (
                    (done, policy.ALLOW_DUPLICATE_FAILED_ONLY, False),
                    (done, policy.REJECT_DUPLICATE, False),
                    (failed, policy.REJECT_DUPLICATE, False),
                    (failed, policy.ALLOW_DUPLICATE_FAILED_ONLY, True),
                    (done, policy.ALLOW_DUPLICATE, True),
                ):
                    if free:
                        await begin(client, Inbox.run, "bob", id=id, id_reuse_policy=given)
                        continue

                    with pytest.raises(WorkflowAlreadyStartedError, match="was used"):
                        await begin(client, Inbox.run, "bob", id=id, id_reuse_policy=given)

    asyncio.run(main())
