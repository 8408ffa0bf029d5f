"""Random writes, owners and readers of streams, against a model made of lists."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from durable_core.stores import Outcome, StreamChunk
from durable_core.stores.memory import MemoryStore
from durable_core.stores.sqlite import SqliteStore
from durable_core.streams import Collected, StreamItem
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.rows import claim, first, step

NAMES = ("a", "b")
TEXTS = st.binary(max_size=9)


@st.composite
def chunks(draw, fence):
    """Return a chunk of anybody, a reset or an end."""
    kind = draw(st.sampled_from(["chunk", "chunk", "chunk", "reset", "end"]))
    seq = draw(st.integers(0, 3))
    return StreamChunk(
        name=draw(st.sampled_from(NAMES)),
        kind=kind,
        fence=fence,
        time=1.0,
        seq=seq,
        attempt=draw(st.integers(1, 3)) if seq else 0,
        number=draw(st.integers(0, 5)) if not seq or kind != "chunk" else -1,
        data=draw(TEXTS) if kind == "chunk" else b"",
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(chunks(1), max_size=5)),
        st.tuples(st.just("zombie"), st.lists(chunks(1), max_size=3)),
        st.tuples(st.just("claim"), st.lists(chunks(1), max_size=3)),
        st.tuples(st.just("read"), st.tuples(st.integers(0, 20), st.integers(1, 9))),
        st.tuples(st.just("together"), st.lists(chunks(1), min_size=2, max_size=6)),
    ),
    max_size=25,
)


def ended_in(there):
    """Return in which activation a stream was ended: the last end decides, if it is not void."""
    ends = [i for i, c in enumerate(there) if c.kind == "end"]
    if not ends:
        return -1

    number, later = there[ends[-1]].number, there[ends[-1] :]
    void = any(c.kind == "reset" and 0 <= c.number <= number for c in later)
    return -1 if void else number


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
@settings(max_examples=40)
@given(steps=STEPS)
def test_a_store_keeps_what_its_owners_wrote_and_nothing_else(kind, steps):
    async def main(folder):
        store = MemoryStore() if kind == "memory" else await SqliteStore.open(folder / "store.db")
        try:
            await run(store)
        finally:
            await store.close()

    async def run(store):
        workers = [await store.register_worker("one")]
        await store.append(first("r", workers[0]))
        fence = 1
        model = {name: [] for name in NAMES}

        def expect(wrote):
            for chunk in wrote:
                there = model[chunk.name]
                there.append(replace(chunk, offset=len(there)))

        for what, given_ in steps:
            worker = workers[-1]
            if what == "read":
                offset, limit = given_
                for name in NAMES:
                    page = await store.read_stream("r", name, offset=offset, limit=limit)
                    assert list(page.chunks) == model[name][offset : offset + limit]
            elif what == "write":
                append = step("r", worker, None, fence=fence, chunks=given_)
                assert await store.append(append) is Outcome.ACCEPTED
                expect(given_)
            elif what == "together":
                parts = [given_[:1], given_[1:]]
                appends = [step("r", worker, None, fence=fence, chunks=p) for p in parts]
                assert set(await asyncio.gather(*map(store.append, appends))) == {Outcome.ACCEPTED}
                expect(given_)
            elif what == "claim":
                # The owner before is dead, and does not know it.
                await store.release_worker(worker)
                workers.append(await store.register_worker("another"))
                taken = replace(claim("r", workers[-1], fence=fence), chunks=given_)
                assert await store.append(taken) is Outcome.ACCEPTED
                fence += 1
                expect(given_)
            elif len(workers) > 1:
                late = step("r", workers[-2], None, fence=fence - 1, chunks=given_)
                assert await store.append(late) is Outcome.REFUSED

        for row in await store.streams("r"):
            there = model[row.name]
            assert row.length == len(there)
            assert row.size == sum(len(c.data) for c in there)
            assert row.ended == ended_in(there)
            wrote = [c for c in there if c.kind != "reset"]
            assert row.seq == max([0, *(c.seq for c in wrote)])
            assert row.number == max([-1, *(c.number for c in wrote)])
            (mark,) = await store.stream_marks([("r", row.name)])
            assert mark == ("running", row.length, row.ended >= 0)

        assert [row.name for row in await store.streams("r")] == [n for n in NAMES if model[n]]

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))


WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("activity"), st.integers(1, 4)),
        st.tuples(st.just("code"), st.just(0)),
        st.tuples(st.just("fails"), st.integers(1, 4)),
        st.tuples(st.just("back"), st.integers(0, 4)),
    ),
    max_size=40,
)


@given(writes=WRITES, cut=st.integers(0, 40))
def test_what_is_collected_is_what_a_simple_model_keeps(writes, cut):
    """Writers with a list each, which a reset empties; activations go on with every write."""
    items, model, activation = [], [], 0
    for what, number in writes:
        offset, activation = len(items), activation + 1
        if what == "activity":
            items.append(StreamItem(offset, "chunk", offset, activity_id=str(number), attempt=1))
            model.append((offset, number, None))
        elif what == "code":
            items.append(StreamItem(offset, "chunk", offset, activation=activation))
            model.append((offset, 0, activation))
        elif what == "fails":
            items.append(StreamItem(offset, "reset", None, activity_id=str(number), attempt=1))
            model = [w for w in model if w[1] != number]
        else:
            to = max(activation - number, 0)
            items.append(StreamItem(offset, "reset", None, since=(to, 3), again=(number,)))
            model = [
                w for w in model if (w[2] < to if w[2] is not None else w[1] < 3 and w[1] != number)
            ]

    shown = Collected()
    for item in items:
        before = list(shown.values)
        dropped = shown.add(item)
        assert dropped == (not set(before) <= set(shown.values))

    assert list(shown.values) == [offset for offset, _, _ in model]
    # A reader that goes on elsewhere with what it had.
    first_, cut = Collected(), min(cut, len(items))
    for item in items[:cut]:
        first_.add(item)

    second = Collected(list(first_.chunks))
    for item in items[cut:]:
        second.add(item)

    assert second == shown
