"""Readers of streams: live, from any offset, and told what is not there."""

from __future__ import annotations

import asyncio

import pytest
from durable_core import Client
from durable_core.exceptions import (
    StoreClosedError,
    StreamError,
    WorkflowNotFoundError,
)
from support import streaming
from support.streaming import (
    TEXT,
    Part,
    begin,
    gates,
    halting,
    in_parts,
    items_of,
    once,
)
from support.waiting import eventually


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""

    def serve(url, **options):
        return streaming.serving(url, **{"max_cached_workflows": request.param, **options})

    return serve


def test_a_reader_gets_every_chunk_in_order_whatever_its_offset(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, once, TEXT, [])
            assert await handle.stream("tokens", result_type=str).collect() == list(TEXT)
            items = await items_of(handle)
            assert [item.offset for item in items] == list(range(len(TEXT)))
            assert {(i.kind, i.activity_id, i.attempt) for i in items} == {("chunk", "1", 1)}
            assert [i.time for i in items] == sorted(i.time for i in items)
            for offset in range(len(TEXT) + 1):
                got = [value async for value in handle.stream("tokens", from_offset=offset)]
                assert got == list(TEXT[offset:])

    asyncio.run(main())


def test_a_chunk_is_there_before_its_activity_has_ended_for_near_and_far_readers(url, serving):
    async def main():
        async with serving(url) as near, await Client.connect(url) as far:
            handle = await begin(near, halting, "gate")
            readers = [handle.stream("tokens"), far.get_workflow_handle("w").stream("tokens")]
            for reader in readers:
                assert await anext(reader) == "half"
                assert reader.offset == 1

            rest = [asyncio.ensure_future(anext(reader)) for reader in readers]
            done, _ = await asyncio.wait(rest, timeout=0.05)
            assert not done
            gates["gate"].set()
            assert await asyncio.gather(*rest) == ["!", "!"]
            assert await handle.result() == "half"
            for reader in readers:
                # For ever.
                for _ in range(2):
                    with pytest.raises(StopAsyncIteration):
                        await anext(reader)

    asyncio.run(main())


def test_a_reader_may_come_before_the_stream_and_waits_beyond_its_end(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, halting, "gate")
            early = asyncio.ensure_future(
                client.get_workflow_handle("w").stream("tokens").collect()
            )
            beyond = asyncio.ensure_future(handle.stream("tokens", from_offset=1).collect())
            await eventually(lambda: gates.reached, "the activity")
            gates["gate"].set()
            assert await early == ["half", "!"]
            assert await beyond == ["!"]

    asyncio.run(main())


def test_a_wait_that_is_cancelled_loses_nothing(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, halting, "gate")
            reader, got = handle.stream("tokens"), []
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        while True:
                            got.append(await anext(reader))

            gates["gate"].set()
            assert got + [value async for value in reader] == ["half", "!"]

    asyncio.run(main())


def test_chunks_are_decoded_by_type(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, in_parts, "one two")
            assert await handle.stream("parts", result_type=Part).collect() == [
                Part("one"),
                Part("two"),
                Part("", last=True),
            ]
            assert (await handle.stream("parts").collect())[0] == {"text": "one", "last": False}
            assert await handle.result() == 2

    asyncio.run(main())


def test_what_is_not_there_is_a_clear_error(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, once, "abc", [])
            await handle.result()
            with pytest.raises(
                StreamError, match=r"\(completed\) without a stream 'token'; it has: 'to"
            ):
                await handle.stream("token").collect()

            with pytest.raises(StreamError, match="has ended with 3 items, and offset 4 was asked"):
                await handle.stream("tokens", from_offset=4).collect()

            with pytest.raises(WorkflowNotFoundError, match="'nobody'"):
                await client.get_workflow_handle("nobody").stream("tokens").collect()

            with pytest.raises(ValueError, match="from_offset must be 0 or more, got -1"):
                handle.stream("tokens", from_offset=-1)

            for name in ("", "a\nb", "x" * 201):
                with pytest.raises(ValueError, match="cannot be the name of a stream"):
                    handle.stream(name)

            with pytest.raises(TypeError, match="must be a str, got 3"):
                handle.stream(3)

    asyncio.run(main())


def test_a_reader_that_waits_for_what_never_comes_is_told_when_the_run_ends(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, halting, "gate")
            readers = [handle.stream("other"), handle.stream("tokens", from_offset=9)]
            waiting = [asyncio.ensure_future(reader.collect()) for reader in readers]
            await eventually(lambda: gates.reached, "the activity")
            gates["gate"].set()
            for told in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(told, StreamError)

    asyncio.run(main())


def test_a_reader_stays_with_its_run_when_the_id_is_used_again(url, serving):
    async def main():
        async with serving(url) as client:
            await begin(client, halting, "gate")
            reader = client.get_workflow_handle("w").stream("tokens")
            assert await anext(reader) == "half"
            gates["gate"].set()
            await client.get_workflow_handle("w").result()
            again = await begin(client, once, "new", [])
            await again.result()
            assert [value async for value in reader] == ["!"]
            assert await client.get_workflow_handle("w").stream("tokens").collect() == list("new")

    asyncio.run(main())


def test_a_reader_whose_client_is_closed_is_told(url, serving):
    async def main():
        async with serving(url) as client:
            far = await Client.connect(url)
            await begin(client, halting, "gate")
            reader = far.get_workflow_handle("w").stream("tokens")
            assert await anext(reader) == "half"
            waiting = asyncio.ensure_future(anext(reader))
            await asyncio.sleep(0.03)
            await far.close()
            with pytest.raises(StoreClosedError):
                await waiting

            gates["gate"].set()

    asyncio.run(main())


def test_many_readers_and_many_streams_at_once(url, serving):
    async def main():
        async with serving(url) as client, await Client.connect(url) as far:
            handles = [await begin(client, once, TEXT, [], id=f"w{n}") for n in range(20)]
            handles += [far.get_workflow_handle(f"w{n}") for n in range(20)]
            got = await asyncio.gather(*(h.stream("tokens").collect() for h in handles))
            assert {"".join(text) for text in got} == {TEXT}

    asyncio.run(main())
