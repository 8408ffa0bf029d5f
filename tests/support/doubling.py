"""A workflow that doubles a number by an activity: the least that uses all of a store."""

from __future__ import annotations

import asyncio

import durable_core
from durable_core import activity, workflow


@activity.defn
async def double(number: int) -> int:
    return 2 * number


@workflow.defn
class Double:
    @workflow.run
    async def run(self, number: int) -> int:
        return await workflow.execute_activity(double, number)


def run_once(url: str | None, *, id: str = "w", number: int = 4) -> int:
    """Run the workflow embedded and return its result."""
    return asyncio.run(durable_core.execute_workflow(Double.run, number, id=id, url=url))
