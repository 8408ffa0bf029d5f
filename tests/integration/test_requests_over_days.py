"""A question asked on Monday and answered on Friday, while no worker held the run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from datetime import timedelta

import pytest
from durable_core import Client, Worker, workflow
from durable_core.client import HumanRequest
from durable_core.stores.memory import MemoryStore
from durable_core.stores.sqlite import SqliteStore
from durable_core.testing import WorkflowEnvironment
from durable_core.testing._clock import SkippingClock
from support import asking
from support.asking import QUEUE, begin, mail
from support.waiting import eventually

DAY = timedelta(days=1)


@workflow.defn
async def purchase(what: str) -> list[str]:
    """Ask on Monday; remind daily; give up after a week."""

    async def remind(number: int) -> None:
        await mail(f"{what}: reminder {number}")

    start = workflow.now()
    answer = await workflow.request(
        "purchase",
        {"what": what},
        summary=f"buy {what}",
        timeout=7 * DAY,
        remind_after=2 * DAY,
        remind_every=DAY,
        on_reminder=remind,
    )
    days = (workflow.now() - start) // DAY
    return [what, "yes" if answer.value else "no", answer.by, answer.note, f"day {days}"]


async def environment(kind, path):
    """Return an environment whose time skips, on a store of that kind."""
    clock = SkippingClock()
    store = MemoryStore() if kind == "memory" else await SqliteStore.open(path)
    client = Client(store, namespace="default", identity="office", clock=clock)
    return WorkflowEnvironment(client, clock)


async def approve(kind, env, url):
    """Say yes, on SQLite from another process."""
    if kind == "memory":
        await env.client.get_workflow_handle("w").approve(by="ann", note="fine")
        return

    command = [sys.executable, "-m", "durable_core.cli", "--url", url, "approve", "w"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "--by", "ann", "--note", "fine"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "request 1 ('purchase') of run 'w' is approved" in done.stderr


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
@pytest.mark.parametrize("cached", [1000, 0], ids=["kept", "replayed"])
def test_a_question_of_monday_is_answered_on_friday_by_another_process(
    kind, cached, store_path, store_url
):
    asking.ran.clear()

    async def main():
        async with await environment(kind, store_path) as env:
            client = env.client

            def worker():
                return Worker(
                    client,
                    task_queue=QUEUE,
                    workflows=[purchase],
                    activities=[mail],
                    max_cached_workflows=cached,
                )

            monday = await env.get_current_time()
            async with worker() as office:
                handle = await begin(client, purchase, "a desk")
                await env.sleep(60)
                await eventually(lambda: not office._owned, "the run to leave memory")
                (asked,) = await handle.requests()
                assert asked.due - asked.time == 7 * DAY
                # Reminders come in time, though nobody holds the run in between.
                await env.sleep(4 * DAY)
                assert asking.ran == [f"a desk: reminder {n}" for n in (1, 2, 3)]
                await env.sleep(60)
                await eventually(lambda: not office._owned, "the run to leave memory")

            # Friday, and no worker at all.
            friday = await env.get_current_time()
            assert timedelta(days=4) <= friday - monday < timedelta(days=5)
            (still,) = [r async for r in client.list_requests()]
            assert isinstance(still, HumanRequest)
            assert (still.id, still.time, still.due) == (asked.id, asked.time, asked.due)
            assert still.reminders == 3
            assert still.reminded - still.time >= 4 * DAY
            await approve(kind, env, store_url)
            assert await handle.requests() == []
            async with worker():
                assert await handle.result() == ["a desk", "yes", "ann", "fine", "day 4"]

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_a_question_that_nobody_answers_is_withdrawn_in_time_by_any_worker(kind, store_path):
    asking.ran.clear()

    async def main():
        async with await environment(kind, store_path) as env:
            options = {"task_queue": QUEUE, "workflows": [purchase], "activities": [mail]}
            async with Worker(env.client, **options):
                handle = await begin(env.client, purchase, "a yacht", id=str(uuid.uuid4()))
                await asking.asked(handle)

            async with Worker(env.client, **options):
                with pytest.raises(Exception, match="nobody answered .* within 7 days, 0:00:00"):
                    await handle.result()

            assert len(asking.ran) in (5, 6)  # the last one is due with the end
            assert [r async for r in env.client.list_requests()] == []

    asyncio.run(main())
