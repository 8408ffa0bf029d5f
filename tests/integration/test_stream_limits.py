"""How much a stream takes, and for how long it is kept."""

from __future__ import annotations

import asyncio

import pytest
from durable_core import Client, Worker, _defaults, activity, workflow
from durable_core.exceptions import (
    EncodeError,
    StreamError,
    WorkflowFailureError,
    WorkflowStalledError,
)
from support import streaming
from support.streaming import (
    ACTIVITIES,
    QUEUE,
    WORKFLOWS,
    begin,
    halting,
    once,
    say,
    sizes,
    streams_named,
)
from support.waiting import eventually


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""

    def serve(url, **options):
        return streaming.serving(url, **{"max_cached_workflows": request.param, **options})

    return serve


@pytest.mark.parametrize(
    ("name", "value", "code", "args", "match"),
    [
        (
            "STREAM_CHUNK",
            100,
            sizes,
            [[10, 200]],
            "has 202 bytes, the limit is 100: write it in parts",
        ),
        ("STREAM_SIZE", 100, sizes, [[40, 40, 40]], "is full: it has 2 chunks of 84 bytes"),
        ("STREAM_LENGTH", 2, sizes, [[1, 1, 1]], "is full: it has 2 chunks of 6 bytes"),
        (
            "STREAMS",
            2,
            streams_named,
            [["a", "b", "c"]],
            "has 2 streams, which is the limit, so 'c'",
        ),
    ],
)
def test_a_limit_fails_the_activity_and_says_what_to_do(
    name, value, code, args, match, url, serving, monkeypatch
):
    monkeypatch.setattr(_defaults, name, value)

    async def main():
        async with serving(url) as client:
            handle = await begin(client, code, *args)
            with pytest.raises(WorkflowFailureError, match=match):
                await handle.result()

            (entry,) = [e for e in (await handle.fetch_history()).timeline() if e.attempts]
            assert len(entry.attempts) == 1

    asyncio.run(main())


def test_limits_hold_over_owners_and_a_full_stream_stalls_the_code_of_a_run(
    url, serving, monkeypatch
):
    @workflow.defn
    async def filling(count: int) -> int:
        for _ in range(count):
            workflow.stream("log").write("x" * 28)
            await say("a")
            await workflow.wait_condition(lambda: True)

        return count

    async def main():
        async with serving(url, workflows=[filling]) as client:
            handle = await begin(client, filling, 4)
            with pytest.raises(
                WorkflowStalledError, match="the stream 'log' is full: it has 3 chunks"
            ):
                await handle.result(on_stall="raise")

        # A limit that was raised lets it go on; nothing is there twice.
        monkeypatch.setattr(_defaults, "STREAM_SIZE", 1000)
        async with serving(url, workflows=[filling]) as client:
            handle = client.get_workflow_handle("w")
            assert await handle.result() == 4
            assert len(await handle.stream("log").collect()) == 4

    monkeypatch.setattr(_defaults, "STREAM_SIZE", 100)
    asyncio.run(main())


def test_a_value_that_cannot_be_recorded_is_refused_where_it_is_written(url, serving):
    @activity.defn
    async def odd() -> str:
        try:
            activity.stream("tokens").write(object())
        except EncodeError as error:
            return str(error)

        return "taken"

    @workflow.defn
    async def oddly() -> str:
        return await odd()

    async def main():
        async with serving(url, workflows=[oddly], activities=[odd]) as client:
            said = await (await begin(client, oddly)).result()
            assert said.startswith("a chunk of the stream 'tokens'")

    asyncio.run(main())


# What is kept, and for how long


def test_streams_are_purged_before_their_runs_and_readers_are_told(url, monkeypatch):
    monkeypatch.setattr(_defaults, "PURGE_FIRST", 0.01)
    monkeypatch.setattr(_defaults, "PURGE_EVERY", 0.01)
    monkeypatch.setenv("DURABLE_STREAM_RETENTION_DAYS", "0")

    async def main():
        async with streaming.serving(url) as client:
            open_ = await begin(client, halting, "gate", id="open")
            handle = await begin(client, once, "abc", [])
            await handle.result()

            async def purged():
                try:
                    await handle.stream("tokens").collect()
                except StreamError as error:
                    return str(error)

                return ""

            while not (said := await purged()):
                await asyncio.sleep(0.01)

            assert "was purged up to offset 3, and offset 0 was asked for" in said
            assert await handle.stream("tokens", from_offset=3).collect() == []
            assert await handle.result() == "abc"
            assert await anext(open_.stream("tokens")) == "half"

    asyncio.run(main())


@pytest.mark.parametrize("said", ["soon", "-1", "1e300"])
def test_a_retention_of_streams_that_is_no_time_is_refused(said, store_url, monkeypatch):
    monkeypatch.setenv("DURABLE_STREAM_RETENTION_DAYS", said)

    async def main():
        async with await Client.connect(store_url) as client:
            with pytest.raises(ValueError, match="DURABLE_STREAM_RETENTION_DAYS"):
                Worker(client, task_queue=QUEUE, workflows=WORKFLOWS, activities=ACTIVITIES)

    asyncio.run(main())


def test_a_run_that_left_memory_goes_on_with_its_streams(url, serving, monkeypatch):
    monkeypatch.setattr(_defaults, "EVICT_AFTER", 0.02)

    @workflow.defn
    class Sleepy:
        def __init__(self) -> None:
            self.told = 0

        @workflow.run
        async def run(self) -> str:
            for n in range(3):
                workflow.stream("log").write(n)
                await say(f"{n}")
                await workflow.wait_condition(lambda n=n: self.told > n)

            return "awake"

        @workflow.signal
        def go(self) -> None:
            self.told += 1

    async def main():
        async with serving(url, workflows=[Sleepy]) as client, await Client.connect(url) as far:
            handle = await begin(client, Sleepy.run)
            reader = far.get_workflow_handle("w").stream("log")
            for n in range(3):
                assert await anext(reader) == n
                await eventually(lambda: client.owned("w", None) is None, "the eviction")
                await far.get_workflow_handle("w").signal(Sleepy.go)

            assert await handle.result() == "awake"
            assert await handle.stream("tokens").collect() == ["0", "1", "2"]

    asyncio.run(main())
