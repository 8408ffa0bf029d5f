"""Streams: what activities and the code of runs write beside the history, and readers that follow."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid

import pytest
from durable_core import Client, Worker, _defaults, activity, workflow
from durable_core.client import WorkflowHistory
from durable_core.exceptions import (
    CancelledError,
    EncodeError,
    NotInActivityError,
    NotInWorkflowError,
    StoreClosedError,
    StreamError,
    WorkflowFailureError,
    WorkflowNotFoundError,
    WorkflowQueryFailedError,
    WorkflowStalledError,
)
from durable_core.streams import Collected
from durable_core.worker import Replayer
from support import streaming
from support.streaming import (
    ACTIVITIES,
    QUEUE,
    TEXT,
    WORKFLOWS,
    Part,
    Stopping,
    begin,
    end_too_early,
    fails,
    gates,
    halt,
    halting,
    in_parts,
    items_of,
    kinds_of,
    once,
    reporting,
    say,
    sizes,
    streams_named,
    talkative,
    threaded,
)
from support.waiting import eventually


@pytest.fixture(params=["sqlite", "memory"])
def url(request, store_url):
    return f"memory://{uuid.uuid4()}" if request.param == "memory" else store_url


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""

    def serve(url, **options):
        return streaming.serving(url, **{"max_cached_workflows": request.param, **options})

    return serve


# Reading


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


# Attempts


def test_what_a_failed_attempt_wrote_is_void_and_readers_learn_it(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, once, "hello", [3, 0, 4])
            live = [value async for value in handle.stream("tokens")]
            assert "".join(live) == "helhellhello"
            items = await items_of(handle)
            # The second attempt wrote nothing, so there is nothing to void.
            assert kinds_of(items) == "hel/hell/hello"
            assert [i.attempt for i in items if i.kind == "reset"] == [1, 3]
            assert await handle.stream("tokens").collect() == list("hello")
            assert await handle.result() == "hello"
            shown, dropped = Collected(), []
            for item in items:
                dropped.append(shown.add(item))

            assert dropped == [item.kind == "reset" for item in items]
            assert shown.values == list("hello")

    asyncio.run(main())


def test_what_an_activity_wrote_that_failed_for_good_is_void(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, fails, "hello", 3)
            assert "fails at 3" in await handle.result()
            assert kinds_of(await items_of(handle)) == "hel/"
            assert await handle.stream("tokens").collect() == []

    asyncio.run(main())


def test_what_a_cancelled_activity_wrote_stands(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, Stopping.run, "gate")
            await eventually(lambda: gates.reached, "the activity")
            await handle.signal(Stopping.stop)
            assert await handle.result() == "whole"
            assert kinds_of(await items_of(handle)) == "halfwhole"

    asyncio.run(main())


def test_activities_on_one_stream_are_told_apart(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, talkative, ["a", "b", "c"])
            await handle.result()
            by_activity = {}
            for item in await items_of(handle):
                by_activity.setdefault(item.activity_id, []).append(item.value)

            assert sorted(map("".join, by_activity.values())) == ["a" * 20, "b" * 20, "c" * 20]

    asyncio.run(main())


def test_a_sync_activity_writes_from_its_thread(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, threaded, TEXT)
            assert "".join(await handle.stream("tokens").collect()) == TEXT

    asyncio.run(main())


def test_who_takes_a_run_over_voids_what_the_owner_before_left(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, halting, "gate")
            reader = handle.stream("tokens")
            assert await anext(reader) == "half"

        async with serving(url) as client:
            handle = client.get_workflow_handle("w")
            await eventually(lambda: gates.reached, "the activity")
            gates["gate"].set()
            assert await handle.result() == "half"
            items = await items_of(handle)
            assert kinds_of(items) == "half/half!"
            assert [i.attempt for i in items] == [1, 1, 2, 2]

    asyncio.run(main())


def test_a_body_whose_attempt_is_over_cannot_write_any_more(url, serving):
    late, out = [], []

    @activity.defn
    async def leave() -> str:
        stream = activity.stream("tokens")
        stream.write("a")
        out.append(stream)
        return "left"

    @workflow.defn
    async def leaving() -> str:
        await leave()
        await say("b")
        return "done"

    def write():
        try:
            out[0].write("late")
        except CancelledError as error:
            late.append(str(error))

    async def main():
        code = {"workflows": [leaving], "activities": [leave, say]}
        async with serving(url, **code) as client:
            handle = await begin(client, leaving)
            await handle.result()
            await asyncio.to_thread(write)
            assert "the attempt that writes to a stream is over" in late[0]
            assert await handle.stream("tokens").collect() == ["a", "b"]

        write()
        assert len(late) == 2

    asyncio.run(main())


# The code of runs


def test_what_the_code_of_a_run_writes_is_there_once_over_replays(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, reporting, 6)
            got = await handle.stream("progress", result_type=Part).collect()
            expected = [(f"step {n}", f"done {n}") for n in range(6)]
            assert [p.text for p in got] == [text for pair in expected for text in pair]
            items = await items_of(handle, "progress")
            assert items[-1].kind == "end"
            assert {i.activity_id for i in items} == {None}
            assert [i.activation for i in items] == sorted(i.activation for i in items)
            await handle.result()
            await Replayer(workflows=WORKFLOWS).replay_workflow(await handle.fetch_history())
            assert await items_of(handle, "progress") == items

    asyncio.run(main())


def test_the_end_of_a_stream_ends_its_readers_while_the_run_goes_on(url, serving):
    @workflow.defn
    async def ending() -> str:
        out = workflow.stream("log")
        out.write(await say("a", "log"))
        out.end()
        await halt("gate", "half")
        return await say("late", "log")

    async def main():
        async with serving(url, workflows=[ending]) as client:
            handle = await begin(client, ending)
            await eventually(lambda: gates.reached, "the activity")
            assert kinds_of(await items_of(handle, "log")) == "aa."
            with pytest.raises(StreamError, match="has ended with 3 items"):
                await handle.stream("log", from_offset=7).collect()

            # Nor can an activity write to it.
            gates["gate"].set()
            with pytest.raises(WorkflowFailureError, match="StreamError"):
                await handle.result()

    asyncio.run(main())


def test_what_fails_behind_the_end_of_its_stream_is_void_and_the_stream_stays_ended(url, serving):
    @activity.defn
    async def breaks() -> str:
        activity.stream("tokens").write("half")
        gates.reached.append("written")
        await gates["gate"].wait()
        raise RuntimeError("broken")

    @workflow.defn
    async def hasty() -> str:
        once = streaming.RetryPolicy(maximum_attempts=1)
        breaking = workflow.start_activity(breaks, retry_policy=once)
        await say("x", "other")
        await halt("end", "whole")
        workflow.stream("tokens").end()
        await say("y", "other")
        with contextlib.suppress(Exception):
            await breaking

        await halt("last", "late")
        return "done"

    async def main():
        code = {"workflows": [hasty], "activities": [breaks, say, halt]}
        async with serving(url, **code) as client:
            handle = await begin(client, hasty)
            await eventually(lambda: len(gates.reached) == 2, "the activities")
            gates["end"].set()
            other = handle.stream("other")
            assert [await anext(other), await anext(other)] == ["x", "y"]
            assert await handle.stream("tokens").collect() == ["half", "whole", "!"]
            gates["gate"].set()
            # Which writes to a stream that was ended, and is not tried again.
            with pytest.raises(WorkflowFailureError, match="StreamError: the stream 'tokens' was"):
                await handle.result()

            items = await items_of(handle)
            assert kinds_of(items) in {"halfwhole!./", "wholehalf!./"}
            assert await handle.stream("tokens").collect() == ["whole", "!"]

    asyncio.run(main())


def test_a_stream_that_was_ended_takes_no_more_and_that_is_not_tried_again(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, end_too_early)
            with pytest.raises(
                WorkflowFailureError, match="StreamError: the stream 'tokens' was ended"
            ):
                await handle.result()

            (activity_,) = [e for e in (await handle.fetch_history()).timeline() if e.name == "say"]
            assert len(activity_.attempts) == 1

    asyncio.run(main())


def test_code_that_ends_a_stream_twice_stalls_or_may_catch_the_error_on_every_replay(url, serving):
    @workflow.defn
    async def twice() -> list[str]:
        out, said = workflow.stream("tokens"), []
        out.end()
        for value in ("a", object()):
            try:
                out.write(value)
            except (StreamError, EncodeError) as error:
                said.append(type(error).__name__)
                await say("x", "other")

        return said

    @workflow.defn
    async def stubborn() -> None:
        out = workflow.stream("tokens")
        out.write("before")
        await say("x", "other")
        out.write("after")
        out.end()
        out.end()

    async def main():
        async with serving(url, workflows=[twice, stubborn]) as client:
            handle = await begin(client, twice, id="twice")
            assert await handle.result() == ["StreamError", "EncodeError"]
            await Replayer(workflows=[twice]).replay_workflow(await handle.fetch_history())
            handle = await begin(client, stubborn, id="stubborn")
            with pytest.raises(WorkflowStalledError, match="was ended by the run's code before"):
                await handle.result(on_stall="raise")

            # Nothing of the activation that failed, and the activity's with its result.
            reader = handle.stream("tokens")
            assert await anext(reader) == "before"
            assert await anext(handle.stream("other")) == "x"
            await handle.terminate()
            assert [value async for value in reader] == []

    asyncio.run(main())


def test_a_query_cannot_write(url, serving):
    @workflow.defn
    class Asked:
        @workflow.run
        async def run(self) -> None:
            self.out = workflow.stream("tokens")
            await halt("gate", "half")

        @workflow.query
        def kept(self) -> None:
            self.out.write("from a query")

        @workflow.query
        def fresh(self) -> None:
            workflow.stream("tokens").write("from a query")

    async def main():
        async with serving(url, workflows=[Asked]) as client:
            handle = await begin(client, Asked.run)
            await eventually(lambda: gates.reached, "the activity")
            for query in (Asked.kept, Asked.fresh):
                with pytest.raises(WorkflowQueryFailedError, match="ReadOnly|cannot|may only"):
                    await handle.query(query)

            gates["gate"].set()
            assert kinds_of(await items_of(handle)) == "half!"

    asyncio.run(main())


def test_streams_outside_of_what_may_write_to_them_are_errors():
    with pytest.raises(NotInWorkflowError):
        workflow.stream("tokens")

    with pytest.raises(NotInActivityError):
        activity.stream("tokens")


# A run that goes on after its end


def test_what_is_set_aside_is_void_and_what_is_kept_stands(url, serving):
    broken = threading.Event()

    @activity.defn
    async def last(text: str) -> str:
        activity.stream("tokens").write(text)
        if broken.is_set():
            raise RuntimeError("broken")

        return text

    @workflow.defn
    async def chain() -> str:
        out = workflow.stream("log")
        out.write("one")
        await say("abc")
        out.write("two")
        try:
            await workflow.execute_activity(
                last, "x", retry_policy=streaming.RetryPolicy(maximum_attempts=1)
            )
        except Exception:
            out.write("sorry")
            await say("undo")
            out.end()
            raise

        out.write("three")
        return "done"

    async def main():
        code = {"workflows": [chain], "activities": [say, last]}
        broken.set()
        async with serving(url, **code) as client:
            handle = await begin(client, chain)
            with pytest.raises(WorkflowFailureError):
                await handle.result()

            assert kinds_of(await items_of(handle, "log")) == "onetwosorry."
            assert kinds_of(await items_of(handle)) == "abcx/undo"
            broken.clear()
            row = await client.run_row("w", None)
            await client.store.revive(row.run_id, reopen=True)
            client.changes.notify()
            assert await handle.result() == "done"
            assert kinds_of(await items_of(handle, "log")) == "onetwosorry./three"
            assert await handle.stream("log").collect() == ["one", "two", "three"]
            assert kinds_of(await items_of(handle)) == "abcx/undo/x"
            assert await handle.stream("tokens").collect() == ["a", "b", "c", "x"]

    asyncio.run(main())


@pytest.mark.parametrize("how", ["failed", "terminated"])
def test_what_was_under_way_when_a_run_ended_is_void_when_it_begins_anew(how, url, serving):
    @activity.defn
    async def second(text: str) -> str:
        if not gates["mended"].is_set():
            await gates["fail"].wait()
            raise RuntimeError("broken")

        return text

    @workflow.defn
    async def both() -> list[str]:
        once = streaming.RetryPolicy(maximum_attempts=1)
        await say("kept", "other")
        return await asyncio.gather(
            halt("gate", "half"),
            workflow.execute_activity(second, "x", retry_policy=once),
        )

    async def main():
        code = {"workflows": [both], "activities": [say, halt, second]}
        async with serving(url, **code) as client:
            handle = await begin(client, both)
            reader = handle.stream("tokens")
            assert await anext(reader) == "half"
            if how == "failed":
                gates["fail"].set()
            else:
                await handle.terminate()

            with pytest.raises(WorkflowFailureError):
                await handle.result()

            assert [value async for value in reader] == []
            assert await handle.stream("tokens").collect() == ["half"]
            gates["mended"].set()
            gates["gate"].set()
            row = await client.run_row("w", None)
            await client.store.revive(row.run_id, reopen=True)
            client.changes.notify()
            assert await handle.result() == ["half", "x"]
            items = await items_of(handle)
            assert kinds_of(items) == "half/half!"
            assert await handle.stream("tokens").collect() == ["half", "!"]
            assert "".join(await handle.stream("other").collect()) == "kept"
            # A reader that goes on with what it had.
            shown = Collected(items[:1])
            async for item in handle.stream("tokens", from_offset=1).items():
                shown.add(item)

            assert [item.offset for item in shown.chunks] == [2, 3]

    asyncio.run(main())


def test_a_history_says_to_which_streams_an_activity_under_way_wrote(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, halting, "gate")
            assert await anext(handle.stream("tokens")) == "half"
            history = await handle.fetch_history()
            assert [known.streams for known in history.pending.values()] == [("tokens",)]
            assert WorkflowHistory.from_json(history.to_json()) == history
            gates["gate"].set()
            await handle.result()
            assert not (await handle.fetch_history()).pending

    asyncio.run(main())


# Limits


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
