"""Workflows and activities that do what they should not, beside one that is as it should be."""

from __future__ import annotations

import asyncio
import logging

import pytest
from durable_core import Client, RetryPolicy, Worker, activity, workflow
from durable_core import exceptions as ex
from support.waiting import eventually

QUEUE = "bad"
ONCE = RetryPolicy(maximum_attempts=1)


@activity.defn
async def act() -> str:
    return "done"


@activity.defn(retry_policy=ONCE)
async def stubborn() -> str:
    for _ in range(3):
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue

    return "finished all the same"


@activity.defn
async def endless_text() -> str:
    return "x" * (100 * 1024 * 1024)


class Unreadable(Exception):
    """Cannot be made again from its arguments, and has no text."""

    def __init__(self, *, lock: object) -> None:
        super().__init__()
        self.lock = lock


@activity.defn(retry_policy=ONCE)
async def unreadable() -> None:
    raise Unreadable(lock=asyncio.Lock())


@activity.defn(retry_policy=ONCE)
async def wordless() -> None:
    raise ValueError


@workflow.defn
async def sound() -> str:
    await asyncio.sleep(0.1)
    return await act()


@workflow.defn
async def spins() -> None:
    await act()
    while True:
        await asyncio.sleep(0)


@workflow.defn
async def swallows() -> None:
    await act()
    asyncio.current_task().cancel()
    while True:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            asyncio.current_task().cancel()


foreign: list[asyncio.Future[None]] = []


@workflow.defn
async def awaits_another_loop() -> None:
    await act()
    await foreign[0]


@workflow.defn
async def many_tasks() -> int:
    async def one() -> int:
        await asyncio.sleep(0)
        return 1

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(10_000)]

    return sum(t.result() for t in tasks) + len(await act())


@workflow.defn
async def gives_up() -> str:
    handle = workflow.start_activity(stubborn)
    await asyncio.sleep(0.02)
    handle.cancel()
    try:
        return await handle
    except ex.ActivityError as error:
        return type(error.cause).__name__


@workflow.defn
async def asks(name: str) -> str:
    try:
        # By its name, an activity brings no options.
        await workflow.execute_activity(name, retry_policy=ONCE)
    except ex.ActivityError as error:
        return f"{type(error.cause).__name__}: {error.cause}"

    return "nothing"


@workflow.defn
async def raises_when_dropped() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise RuntimeError("in the cleanup")


FLOWS = [
    *(sound, spins, swallows, awaits_another_loop, many_tasks, gives_up, asks),
    raises_when_dropped,
]


def run(store_url, main, **options):
    async def inside():
        async with (
            await Client.connect(store_url) as client,
            Worker(
                client,
                task_queue=QUEUE,
                workflows=FLOWS,
                activities=[act, stubborn, endless_text, unreadable, wordless],
                **options,
            ),
        ):
            return await asyncio.wait_for(main(client), 40)

    return asyncio.run(inside())


def start(client, code, *args, id="bad"):
    return client.start_workflow(code, args=args, id=id, task_queue=QUEUE)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (spins, "SpinError: .*asyncio.sleep"),
        (swallows, "SpinError"),
        (awaits_another_loop, "RuntimeError: .*attached to a different loop"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_workflow_that_cannot_go_on_stalls_beside_others_that_go_on(code, says, store_url):
    async def main(client):
        foreign[:] = [asyncio.get_running_loop().create_future()]
        others = [await start(client, sound, id=f"sound-{n}") for n in range(3)]
        handle = await start(client, code)
        with pytest.raises(ex.WorkflowStalledError, match=says):
            await handle.result(on_stall="raise")

        assert [await other.result() for other in others] == ["done"] * 3
        history = await handle.fetch_history()
        assert [e.status for e in history.timeline() if e.kind == "activity"] == ["completed"]

    run(store_url, main)


def test_ten_thousand_tasks_are_no_matter(store_url):
    async def main(client):
        return await (await start(client, many_tasks)).result()

    assert run(store_url, main) == 10_004


def test_an_activity_that_ignores_its_cancellation_holds_up_nobody(store_url):
    async def main(client):
        handle = await start(client, gives_up)
        return await handle.result(), await (await start(client, sound, id="s")).result()

    assert run(store_url, main) == ("CancelledError", "done")


def test_a_worker_ends_though_an_activity_ignores_its_cancellation(store_url):
    async def main(client):
        handle = await start(client, asks, "stubborn")
        await eventually(lambda: client.owned("bad", None) is not None, "the run")
        await asyncio.sleep(0.02)
        return handle

    run(store_url, main)
    # The next worker goes on with it.
    assert run(store_url, lambda client: client.get_workflow_handle("bad").result()) == "nothing"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("endless_text", "EncodeError: "),
        ("unreadable", "ApplicationError: "),
        ("wordless", "ValueError: "),
    ],
)
def test_a_failure_that_is_hard_to_record_arrives_in_words(name, says, store_url):
    async def main(client):
        handle = await start(client, asks, name)
        result = await handle.result()
        row = await client.store.find("default", "bad")
        return result, row

    result, row = run(store_url, main)
    assert result.startswith(says), result[:300]
    assert row.status == "completed"


def test_cleanup_that_raises_at_an_eviction_is_no_matter(store_url, caplog):
    async def main(client):
        await start(client, raises_when_dropped)
        await start(client, raises_when_dropped, id="bad-2")
        await eventually(lambda: not client.owned("bad", None), "the eviction")
        assert await (await start(client, sound, id="s")).result() == "done"
        row = await client.store.find("default", "bad")
        assert (row.status, row.stall) == ("running", None)

    with caplog.at_level(logging.ERROR):
        run(store_url, main, max_cached_workflows=1)
