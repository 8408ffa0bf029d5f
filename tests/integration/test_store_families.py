"""Runs that start, end and succeed each other, as every store keeps them."""

from __future__ import annotations

import asyncio

import pytest
from durable_core import history as h
from durable_core.stores import Child, InboxRow, NewRun, Outcome, Post
from msgspec.structs import replace
from support import rows
from support.rows import claim, new_row, opened_store

ACCEPTED, REFUSED = Outcome.ACCEPTED, Outcome.REFUSED
LARGE = b"x" * 10_000


@pytest.fixture(params=["sqlite", "memory"])
def on(request, tmp_path):
    """Return what runs code on a fresh store."""

    def run(code):
        async def main():
            async with opened_store(request.param, tmp_path / "store.db") as store:
                return await code(store)

        return asyncio.run(main())

    return run


def start_of(run_id):
    """Return the bytes of a start record."""
    record = h.Start(
        namespace="default",
        workflow_id=run_id,
        run_id=run_id,
        workflow_type="Flow",
        task_queue="queue",
        time=1.0,
        args=h.Payload(data=b"[]"),
        args_digest="",
        seed="5eed",
        effect_scope=run_id,
        lineage=run_id,
    )
    return h.Packer(run_id).pack(record)


def activation(number):
    return h.Packer("").pack(h.Activation(number=number, time=2.0, fence=1))


def first(run_id, worker, *, workflow_id=None, **more):
    """Return the append that creates a run, with records that can be read."""
    start = (new_row(run_id, workflow_id=workflow_id), start_of(run_id))
    made = rows.first(run_id, worker, workflow_id=workflow_id, **more)
    return replace(made, start=start, data=activation(0))


def step(run_id, worker, number, **more):
    return replace(rows.step(run_id, worker, number, **more), data=activation(number))


def row_of(run_id, workflow_id=None, **changes):
    return replace(new_row(run_id, workflow_id=workflow_id), first=run_id, **changes)


def sent(request):
    return InboxRow(request=request, arrived=1.0, data=h.Packer.pack_whole(h.TimerFired(seq=1)))


def child(run_id, workflow_id=None, *, parent="p", policy="terminate", reuse="always"):
    return Child(
        row=row_of(run_id, workflow_id, parent=parent, parent_seq=1, policy=policy),
        start=start_of(run_id),
        items={f"{run_id} item": b"1"},
        reuse=reuse,
        started=sent(f"started {run_id}"),
        refused=sent(f"refused {run_id}"),
    )


async def requests(store, run_id):
    """Return how many events wait for a run."""
    return len((await store.load(new_row(run_id))).inbox)


async def status(store, run_id):
    return (await store.find("default", "", run_id)).status


def test_a_child_is_there_or_its_parent_hears_that_its_id_is_in_use(on):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("p", worker))
        await store.create(row_of("other", "taken"), start_of("other"), {})
        children = [child("a"), child("b", "taken"), child("c", "workflow-a")]
        assert await store.append(step("p", worker, 1, children=children)) is ACCEPTED
        found = await store.find("default", "workflow-a")
        assert (found.run_id, found.parent, found.parent_seq) == ("a", "p", 1)
        assert (found.policy, found.first, found.status) == ("terminate", "a", "running")
        assert await store.read_items("a", ["a item"]) == {"a item": b"1"}
        assert await store.find("default", "", "b") is None
        assert await store.find("default", "", "c") is None
        assert await requests(store, "p") == 3
        assert store.changed()

    on(code)


@pytest.mark.parametrize("reuse", ["always", "failed", "never"])
def test_the_id_of_a_child_may_be_one_that_was_used_before_as_its_policy_says(on, reuse):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("p", worker))
        await store.append(first("done", worker, workflow_id="w"))
        await store.append(step("done", worker, 1, status="completed"))
        await store.append(step("p", worker, 1, children=[child("a", "w", reuse=reuse)]))
        assert (await store.find("default", "", "a") is not None) == (reuse == "always")

    on(code)


def test_a_refused_append_starts_no_child_and_revives_none(on):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("p", worker))
        await store.append(first("f", worker))
        await store.append(step("f", worker, 1, status="failed"))
        refused = step("p", worker, 7, children=[child("a")], revives=["f"])
        assert await store.append(refused) is REFUSED
        assert await store.find("default", "", "a") is None
        assert await status(store, "f") == "failed"

    on(code)


@pytest.mark.parametrize("end", ["append", "terminate"])
def test_the_end_of_a_run_does_to_its_children_what_their_policies_say(on, end):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("p", worker))
        policies = ("terminate", "abandon", "request_cancel")
        children = [child(policy, policy=policy) for policy in policies]
        assert await store.append(step("p", worker, 1, children=children)) is ACCEPTED
        # One of them is owned, and has a child and an event of its own.
        assert await store.append(claim("terminate", worker, fence=0)) is ACCEPTED
        grandchild = child("grandchild", parent="terminate")
        begun = step("terminate", worker, 0, children=[grandchild])
        assert await store.append(begun) is ACCEPTED
        read = [n for run, n, _ in (await store.arrivals(worker)).inbox if run == "p"]
        if end == "append":
            ended = step("p", worker, 2, status="completed", taken=read)
            assert await store.append(ended) is ACCEPTED
        else:
            assert await store.terminate("p", time=2.0, data=lambda *_: b"end") is ACCEPTED

        assert await status(store, "abandon") == await status(store, "request_cancel") == "running"
        (asked,) = (await store.load(new_row("request_cancel"))).inbox
        event = h.event_from(asked[1])
        assert isinstance(event, h.CancelRequested)
        assert event.reason == "its parent, run 'workflow-p', ended"
        assert await requests(store, "abandon") == 0
        for run in ("terminate", "grandchild"):
            row = await store.find("default", "", run)
            assert (row.status, row.owner, row.closed) == ("terminated", None, 2.0)
            loaded = await store.load(row)
            last = h.activation_from(loaded.activations[-1])
            assert (last.number, last.fence) == (row.next_number - 1, row.fence)
            assert isinstance(last.commands[0], h.TerminateRun)

        # Its owner is refused from then on, and what it had not read is kept.
        assert await store.append(step("terminate", worker, 1)) is REFUSED
        assert await requests(store, "terminate") == 1

    on(code)


def test_the_end_of_a_terminated_child_is_told_to_its_parent_if_that_is_open(on):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("p", worker))
        for run in ("a", "b"):
            row = row_of(run, parent="p" if run == "a" else "gone", parent_seq=1)
            await store.create(row, start_of(run), {})
            told = sent(f"ended {run}")
            assert await store.terminate(run, time=2.0, data=lambda *_: b"x", told=told) is ACCEPTED

        assert await requests(store, "p") == 1

    on(code)


def test_what_a_run_has_not_read_is_for_its_successor_in_order_and_whole(on):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("p", worker, workflow_id="w"))
        texts = [b"1", LARGE, b"3"]
        for n, text in enumerate(texts):
            packer = h.Packer("p")
            event = h.SignalReceived(name="s", args=h.Payload(data=text), request=str(n))
            row = InboxRow(request=str(n), arrived=1.0, data=packer.pack(event))
            await store.send("p", row, lineage="p", items=packer.items)

        # What answers a command of the run is for no other.
        for event in (
            h.RunTold(seq=1),
            h.ChildEnded(seq=1),
            h.ActivityCompleted(seq=1, result=h.Payload(data=b"1")),
            h.RetryAsked(request="x", activity=1),
        ):
            row = InboxRow(request=repr(event), arrived=1.0, data=h.Packer.pack_whole(event))
            await store.send("p", row, lineage="p", items={})

        read = (await store.arrivals(worker)).inbox[0][1]
        successor = NewRun(row=row_of("q", "w"), start=start_of("q"), items={"i": b"1"})
        successor = replace(successor, row=replace(successor.row, first="p"))
        last = step("p", worker, 1, status="continued_as_new", taken=[read], successor=successor)
        assert await store.append(last) is ACCEPTED
        old, new = await store.find("default", "", "p"), await store.find("default", "w")
        assert (old.status, old.successor, old.owner) == ("continued_as_new", "q", None)
        assert (new.run_id, new.status, new.first) == ("q", "running", "p")
        assert await requests(store, "p") == 0
        waiting = [h.event_from(data) for _, data in (await store.load(new)).inbox]
        assert [e.args.data for e in waiting] == texts[1:]
        assert await store.read_items("q", ["i"]) == {"i": b"1"}
        # It is not opened again, its chain is found by its first run.
        assert await store.revive("p", reopen=True) is REFUSED
        assert await store.append(claim("q", worker, fence=0)) is ACCEPTED
        posts = [
            Post(
                namespace="default",
                workflow_id="w",
                run_id=run,
                exact=exact,
                event=sent(f"to {run} {exact}"),
            )
            for run in ("p", "q", "other")
            for exact in (False, True)
        ]
        await store.append(first("t", worker, posts=posts))
        # To the first of its chain, and twice to itself.
        assert await requests(store, "q") == 2 + 3
        read = [n for run, n, _ in (await store.arrivals(worker)).inbox if run == "q"]
        failed = step("q", worker, 0, status="failed", taken=read)
        assert await store.append(failed) is ACCEPTED
        assert await store.append(step("t", worker, 1, revives=["p"])) is ACCEPTED
        assert await status(store, "q") == "running"

    on(code)


def test_chains_are_revived_where_they_ended_without_a_result(on):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("p", worker))
        for run, end in (("a", "completed"), ("b", "failed"), ("c", "terminated"), ("d", "failed")):
            await store.append(first(run, worker))
            row = new_row(run)
            if end == "terminated":
                await store.terminate(run, time=2.0, data=lambda *_: b"end")
            else:
                await store.append(step(run, worker, 1, status=end))

            assert row.status == "running"

        # The id of one is in use again.
        await store.create(row_of("e", "workflow-d"), start_of("e"), {})
        revives = ["a", "b", "c", "d", "nobody"]
        assert await store.append(step("p", worker, 1, revives=revives)) is ACCEPTED
        found = [await status(store, run) for run in ("a", "b", "c", "d")]
        assert found == ["completed", "running", "running", "failed"]

    on(code)


def takes_over(run_id, workflow_id, of, **changes):
    """Return the run that takes the place of the last of a chain."""
    row = row_of(run_id, workflow_id, **changes)
    return NewRun(row=replace(row, first=of), start=start_of(run_id), items={})


@pytest.mark.parametrize("whose", ["own", "other"])
def test_no_child_takes_the_id_of_a_run_that_goes_on_in_the_same_commit(on, whose):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("p", worker, workflow_id="w"))
        await store.append(first("other", worker))
        wanted = [child("c", "w", parent="p" if whose == "own" else "other", policy="abandon")]
        own, others = (wanted, []) if whose == "own" else ([], wanted)
        status = "continued_as_new"
        successor = takes_over("q", "w", "p")
        goes_on = step("p", worker, 1, status=status, successor=successor, children=own)
        starts = step("other", worker, 1, children=others)
        assert await asyncio.gather(store.append(goes_on), store.append(starts)) == [ACCEPTED] * 2
        assert (await store.find("default", "w")).run_id == "q"
        assert await store.find("default", "", "c") is None

    on(code)


def test_a_pause_holds_for_the_run_that_takes_the_place(on):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("p", worker, workflow_id="w"))
        assert await store.pause("p", '{"time":1.0}') is ACCEPTED
        successor = takes_over("q", "w", "p")
        await store.append(step("p", worker, 1, status="continued_as_new", successor=successor))
        assert (await store.find("default", "w")).paused == '{"time":1.0}'
        assert (await store.find("default", "", "p")).paused is None
        assert await store.append(claim("q", worker, fence=0)) is REFUSED

    on(code)


def test_a_chain_is_found_though_its_first_run_was_purged_and_all_began_at_once(on):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("t", worker))
        await store.append(first("z", worker, workflow_id="w"))
        # Their ids are in another order than the runs.
        for old, new in (("z", "y"), ("y", "x")):
            if old != "z":
                await store.append(claim(old, worker, fence=0))

            last = step(old, worker, 1 if old == "z" else 0, status="continued_as_new")
            await store.append(replace(last, successor=takes_over(new, "w", "z")))

        await store.append(claim("x", worker, fence=0))
        failed = step("x", worker, 0, status="failed")
        assert await store.append(replace(failed, time=50.0)) is ACCEPTED
        assert (await store.find("default", "w")).run_id == "x"
        assert await store.purge("default", "queue", 10.0, limit=9) == 2
        assert (await store.find_last("default", "z")).run_id == "x"
        assert await store.find_last("default", "w") is None
        assert await store.append(step("t", worker, 1, revives=["z"])) is ACCEPTED
        assert await status(store, "x") == "running"

    on(code)
