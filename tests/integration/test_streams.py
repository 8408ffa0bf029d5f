"""Streams: what activities and the code of runs write beside the history, and what of it counts."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from durable_core import activity, workflow
from durable_core.client import WorkflowHistory
from durable_core.exceptions import (
    CancelledError,
    EncodeError,
    NotInActivityError,
    NotInWorkflowError,
    StreamError,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowStalledError,
)
from durable_core.streams import Collected
from durable_core.worker import Replayer
from support import streaming
from support.streaming import (
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
    items_of,
    kinds_of,
    once,
    reporting,
    say,
    talkative,
    threaded,
)
from support.waiting import eventually


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""

    def serve(url, **options):
        return streaming.serving(url, **{"max_cached_workflows": request.param, **options})

    return serve


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
