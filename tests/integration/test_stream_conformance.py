"""What every store promises of streams: the same calls, the same answers."""

from __future__ import annotations

import asyncio

import pytest
from durable_core.history import Packer
from durable_core.stores import Outcome, StreamChunk, StreamRow
from durable_core.stores.sqlite import SqliteStore
from msgspec.structs import replace
from support.rows import claim, first, new_row, new_start, on, opened, step

ACCEPTED, REFUSED = Outcome.ACCEPTED, Outcome.REFUSED


def said(text, name="tokens", *, seq=1, attempt=1, fence=1):
    """Return a chunk of an activity."""
    return StreamChunk(
        name=name, kind="chunk", fence=fence, time=2.0, seq=seq, attempt=attempt, data=text.encode()
    )


def noted(text, number, name="tokens", kind="chunk"):
    """Return a chunk of the run's code."""
    return StreamChunk(name=name, kind=kind, fence=1, time=2.0, number=number, data=text.encode())


def reset(seq, name="tokens", number=-1):
    return StreamChunk(name=name, kind="reset", fence=1, time=2.0, seq=seq, number=number)


async def begun(store, *runs):
    worker = await store.register_worker("me")
    for run in runs or ("r",):
        assert await store.append(first(run, worker)) is ACCEPTED

    return worker


async def read(store, run="r", name="tokens", offset=0, limit=1000):
    page = await store.read_stream(run, name, offset=offset, limit=limit)
    return [(c.offset, c.data.decode()) for c in page.chunks]


def test_chunks_get_offsets_without_gaps_in_the_order_of_their_appends(store):
    async def code(store):
        worker = await begun(store)
        page = await store.read_stream("r", "tokens", offset=0, limit=10)
        assert (page.status, page.row, list(page.chunks)) == ("running", None, [])
        assert page.mark == ("running", 0, False)
        one = [said("a"), said("x", "other"), said("b")]
        two = [said("c"), noted("y", 1, "other"), said("d")]
        await asyncio.gather(
            store.append(step("r", worker, None, chunks=one)),
            store.append(step("r", worker, 1, chunks=two)),
        )
        assert await read(store) == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
        assert await read(store, name="other") == [(0, "x"), (1, "y")]
        assert await read(store, offset=2) == [(2, "c"), (3, "d")]
        assert await read(store, offset=1, limit=2) == [(1, "b"), (2, "c")]
        assert await read(store, offset=4) == await read(store, offset=9) == []

    on(store, code)


def test_a_chunk_comes_back_with_all_its_tags(store):
    async def code(store):
        worker = await begun(store)
        wrote = [
            said("a", seq=7, attempt=3),
            noted("b", 4),
            reset(7),
            reset(5, number=2),
            noted("", 5, kind="end"),
        ]
        await store.append(step("r", worker, None, chunks=wrote))
        page = await store.read_stream("r", "tokens", offset=0, limit=10)
        assert list(page.chunks) == [replace(c, offset=i) for i, c in enumerate(wrote)]

    on(store, code)


@pytest.mark.parametrize("why", ["fence", "dead", "number", "owner"])
def test_chunks_of_a_refused_append_are_not_there(store, why):
    async def code(store):
        worker = await begun(store, "r", "s")
        other = await store.register_worker("other")
        await store.append(step("r", worker, None, chunks=[said("a")]))
        if why == "dead":
            await store.release_worker(worker)

        refused = step(
            "r",
            other if why == "owner" else worker,
            7 if why == "number" else None,
            fence=9 if why == "fence" else 1,
            chunks=[said("b"), said("x", "new")],
        )
        fine = step("s", worker, None, chunks=[said("c")])
        outcomes = await asyncio.gather(store.append(refused), store.append(fine))
        assert outcomes == [REFUSED, REFUSED if why == "dead" else ACCEPTED]
        assert await read(store) == [(0, "a")]
        assert await read(store, name="new") == []
        assert await read(store, "s") == ([] if why == "dead" else [(0, "c")])

    on(store, code)


def test_many_runs_of_one_commit_keep_their_streams_apart(store):
    async def code(store):
        runs = [f"r{n}" for n in range(50)]
        worker = await begun(store, *runs)
        for n in range(3):
            appends = [
                step(run, worker, None, chunks=[said(f"{run} {n}"), said(f"{run} {n}+")])
                for run in runs
            ]
            assert set(await asyncio.gather(*map(store.append, appends))) == {ACCEPTED}

        for run in runs:
            expected = [f"{run} {n}{more}" for n in range(3) for more in ("", "+")]
            assert await read(store, run) == list(enumerate(expected))

    on(store, code)


def test_the_row_of_a_stream_says_how_far_it_is_and_who_wrote_last(store):
    async def code(store):
        worker = await begun(store)
        await store.append(step("r", worker, None, chunks=[said("abc", seq=3), reset(9)]))
        await store.append(step("r", worker, 1, chunks=[noted("d", 1), noted("z", 1, "log")]))
        await store.append(step("r", worker, None, chunks=[noted("", 1, kind="end")]))
        expected = [
            StreamRow("log", 1, 1, ended=-1, seq=0, number=1),
            StreamRow("tokens", 4, 4, ended=1, seq=3, number=1),
        ]
        assert list(await store.streams("r")) == expected
        assert await store.streams("none") == []
        # What is void reaches an end only if that is set aside, too.
        for void, ended in ((reset(3), 1), (reset(2, number=2), 1), (reset(2, number=1), -1)):
            await store.append(step("r", worker, None, chunks=[void]))
            (row,) = [row for row in await store.streams("r") if row.name == "tokens"]
            assert row.ended == ended
            assert (row.seq, row.number) == (3, 1)

        assert row.length == 7

    on(store, code)


def test_whoever_takes_a_run_over_finds_its_streams(tmp_path):
    async def code():
        async with opened(tmp_path / "s.db") as store:
            worker = await store.register_worker("me")
            row = new_row("r")
            await store.create(row, Packer("r").pack(new_start()), {})
            await store.append(claim("r", worker, fence=0))
            await store.append(step("r", worker, None, chunks=[said("a")]))
            loaded = await store.load(row)
            assert list(loaded.streams) == [StreamRow("tokens", 1, 1, ended=-1, seq=1)]

    asyncio.run(code())


def test_marks_tell_of_several_streams_at_once(store):
    async def code(store):
        worker = await begun(store, "r", "s")
        wanted = [("r", "tokens"), ("s", "tokens"), ("none", "tokens"), ("s", "none")]
        before = list(await store.stream_marks(wanted))
        assert before == [("running", 0, False)] * 2 + [("", 0, False), ("running", 0, False)]
        await store.append(step("r", worker, None, chunks=[said("a")]))
        end = [noted("", 1, kind="end")]
        await store.append(step("s", worker, 1, status="completed", chunks=end))
        assert list(await store.stream_marks(wanted)) == [
            ("running", 1, False),
            ("completed", 1, True),
            ("", 0, False),
            ("completed", 0, False),
        ]
        for run in ("r", "s"):
            page = await store.read_stream(run, "tokens", offset=0, limit=1)
            assert page.mark == (await store.stream_marks([(run, "tokens")]))[0]

    on(store, code)


def test_a_page_holds_about_a_mebibyte(store):
    async def code(store):
        worker = await begun(store)
        large = "x" * 300_000
        await store.append(step("r", worker, None, chunks=[said(large) for _ in range(10)]))
        offset, pages = 0, []
        while page := await read(store, offset=offset):
            pages.append(len(page))
            offset += len(page)

        assert pages == [4, 4, 2]
        assert await read(store, offset=3, limit=1) == [(3, large)]

    on(store, code)


def test_what_adds_chunks_is_told_to_those_who_listen_and_to_other_stores(store, tmp_path):
    async def code(store):
        told = []
        store.listen(told.append)
        worker = await begun(store, "r", "s")
        await store.append(step("r", worker, 1))
        assert told == []
        await store.append(step("s", worker, None, chunks=[said("a")]))
        await store.append(step("r", worker, None, fence=9, chunks=[said("a")]))
        await asyncio.sleep(0)
        assert told == ["s"]
        if isinstance(store, SqliteStore):
            async with opened(tmp_path / "store.db") as other:
                other.changed()
                assert not other.changed()
                await store.append(step("s", worker, None, chunks=[said("b")]))
                assert other.changed()

    on(store, code)


def test_streams_of_runs_that_have_ended_are_purged_and_say_so(store):
    async def code(store):
        worker = await begun(store, "open", "old", "new")
        for run in ("open", "old", "new"):
            wrote = [said("a"), said("b"), said("x", "other")]
            await store.append(step(run, worker, None, chunks=wrote))

        await store.append(step("old", worker, 1, status="completed"))
        late = replace(step("new", worker, 1, status="failed"), time=50.0)
        await store.append(late)
        for queue, expected in (("another", 0), ("queue", 2), ("queue", 0)):
            assert await store.purge_streams("default", queue, 40.0, limit=10) == expected

        page = await store.read_stream("old", "tokens", offset=0, limit=10)
        assert (page.row.kept, page.row.length, list(page.chunks)) == (2, 2, [])
        assert await read(store, "new") == await read(store, "open") == [(0, "a"), (1, "b")]
        # One that is taken up again goes on behind what is gone.
        again = replace(claim("old", worker, fence=1), reopen=True)
        assert await store.append(again) is REFUSED
        assert await store.purge_streams("default", "queue", 60.0, limit=1) == 1
        assert await store.purge_streams("default", "queue", 60.0, limit=5) == 1
        again = replace(claim("new", worker, fence=1), reopen=True, chunks=[said("c")])
        assert await store.append(again) is ACCEPTED
        assert await read(store, "new", offset=2) == [(2, "c")]
        assert await read(store, "new") == [(2, "c")]

    on(store, code)


def test_the_streams_of_a_run_are_purged_with_it(store):
    async def code(store):
        worker = await begun(store, "r", "s")
        for run in ("r", "s"):
            await store.append(step(run, worker, None, chunks=[said("a")]))

        await store.append(step("r", worker, 1, status="completed"))
        assert await store.purge("default", "queue", 10.0, limit=10) == 1
        page = await store.read_stream("r", "tokens", offset=0, limit=10)
        assert (page.status, page.row) == ("", None)
        assert await store.streams("r") == []
        assert await read(store, "s") == [(0, "a")]

    on(store, code)
