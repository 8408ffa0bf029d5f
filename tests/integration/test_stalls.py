"""Stalls: runs that code or a worker cannot go on with, and who is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from durable_core import workflow
from durable_core.exceptions import WorkflowStalledError
from durable_core.worker import _claims
from support.talking import begin, note, ran, sleeper, working
from support.waiting import eventually


@workflow.defn
async def broken() -> None:
    await note("before the bug")
    raise ZeroDivisionError("a bug")


def test_a_stalled_run_is_waited_for_or_raises_as_the_caller_says(store_url, caplog):
    async def main():
        async with working(store_url, workflows=[broken]) as client:
            handle = await begin(client, broken)
            with pytest.raises(
                WorkflowStalledError, match="ZeroDivisionError: a bug.*durable show w"
            ):
                while True:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(handle.result(on_stall="raise"), 0.05)

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(handle.result(), 0.05)

            assert ran == ["before the bug"]

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(main())


def test_a_worker_that_does_not_know_a_workflow_says_so_once(store_url, caplog, monkeypatch):
    monkeypatch.setattr(_claims, "_STRANGERS_EVERY", 0.05)

    async def main():
        async with working(store_url, workflows=[sleeper]) as client:
            for n in range(3):
                await begin(client, "Elsewhere", id=f"w{n}")

            await eventually(lambda: "does not know it" in caplog.text, "a warning")
            await client.changes.wait(timeout=0.3, interval=0.05)

    asyncio.run(main())
    said = [r for r in caplog.records if "does not know it" in r.getMessage()]
    assert len(said) == 1
    assert "'Elsewhere'" in said[0].getMessage()
    assert "Worker(workflows=[…])" in said[0].getMessage()
