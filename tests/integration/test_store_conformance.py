"""What every store promises, asked of each: the same calls, the same answers."""

from __future__ import annotations

import asyncio
import itertools
from unittest.mock import ANY

import pytest
from durable_core.exceptions import StoreClosedError
from durable_core.history import Failure, Packer, TimerFired
from durable_core.stores import InboxRow, Outcome, PendingRow, Post, ReplyRow
from durable_core.stores._stalls import Instance, may_try, stall_of
from msgspec.structs import replace
from support.rows import claim, first, new_row, new_start, on, step

ACCEPTED, REFUSED, IN_USE = Outcome.ACCEPTED, Outcome.REFUSED, Outcome.ID_IN_USE
START = Packer("r").pack(new_start())
EVENT = Packer("").pack(TimerFired(seq=1))
ME = Instance("me", "instance-1", 100.0, "build-1")
NOW = 1000.0


async def create(store, run_id, *, reuse="always", **changes):
    row = replace(new_row(run_id), **changes)
    return await store.create(row, START, {}, reuse=reuse)


async def claimable(store, *, types=("Flow",), by=ME, now=NOW, limit=100):
    rows = await store.claimable(
        "default", "queue", workflow_types=types, by=by, now=now, limit=limit
    )
    return [row.run_id for row in rows]


def sent(request):
    return InboxRow(request=request, arrived=1.0, data=EVENT)


# What runs tell each other


def post(workflow_id, request, run_id=""):
    """Return a post whose answers tell by their request what became of it."""
    told, missed = sent(f"told {request}"), sent(f"missed {request}")
    return Post(
        namespace="default",
        workflow_id=workflow_id,
        run_id=run_id,
        event=sent(request),
        told=told,
        missed=missed,
    )


async def unread(store, run_id):
    """Return how many events wait for a run that nobody owns."""
    return len((await store.load(new_row(run_id))).inbox)


async def arrived(store, worker):
    """Return the runs of a worker for which events wait, once for each."""
    return [run for run, _, _ in (await store.arrivals(worker)).inbox]


def test_a_post_is_for_the_open_run_of_an_id_and_its_sender_hears_of_it(store):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("from", worker))
        await create(store, "to", workflow_id="w")
        posts = [post("w", "a"), post("w", "b", "to"), post("w", "c", "other"), post("v", "d")]
        assert await store.append(step("from", worker, 1, posts=posts)) is ACCEPTED
        assert await unread(store, "to") == 2
        assert await arrived(store, worker) == ["from"] * 4
        assert store.changed()

    on(store, code)


@pytest.mark.parametrize("why", ["fence", "dead", "number"])
def test_a_refused_append_posts_nothing(store, why):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("from", worker))
        await create(store, "to", workflow_id="w")
        if why == "dead":
            await store.release_worker(worker)

        refused = step(
            "from",
            worker,
            7 if why == "number" else 1,
            fence=9 if why == "fence" else 1,
            posts=[post("w", "a")],
        )
        assert await store.append(refused) is REFUSED
        assert await unread(store, "to") == 0
        assert await arrived(store, worker) == []

    on(store, code)


def test_a_run_that_ends_posts_and_hears_nothing_and_one_that_has_ended_gets_nothing(store):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("from", worker))
        await store.append(first("to", worker, workflow_id="w"))
        end = step("from", worker, 1, status="completed", posts=[post("w", "a"), post("v", "b")])
        assert await store.append(end) is ACCEPTED
        ((run, number, _),) = (await store.arrivals(worker)).inbox
        assert run == "to"
        taken = step("to", worker, 1, status="completed", taken=[number])
        await store.append(first("late", worker))
        late = step("late", worker, 1, posts=[post("w", "c")])
        # Of one commit, in which the other run ends.
        assert await asyncio.gather(store.append(taken), store.append(late)) == [ACCEPTED] * 2
        assert await arrived(store, worker) == ["late"]

    on(store, code)


def test_a_post_that_was_made_before_is_not_there_twice(store):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("from", worker))
        await create(store, "to", workflow_id="w")
        for number in (1, 2):
            await store.append(step("from", worker, number, posts=[post("w", "a")]))

        assert await unread(store, "to") == 1

    on(store, code)


# Runs that stand still


def test_nobody_claims_a_paused_run_and_its_owner_learns_of_the_pause(store):
    async def code(store):
        worker = await store.register_worker("me")
        await create(store, "free")
        await create(store, "bound", bound=True)
        await store.append(first("mine", worker))
        for run in ("free", "bound", "mine"):
            assert await store.pause(run, "why") is ACCEPTED
            assert await store.pause(run, "again") is REFUSED

        assert await claimable(store) == []
        assert await store.orphans("default", "Flow", limit=10) == []
        assert await store.next_wake("default", "queue") is None
        assert await store.waiting_types("default", "queue") == set()
        assert (await store.arrivals(worker)).paused == {"mine"}
        assert (await store.find("default", "", "mine")).paused == "why"
        assert await store.append(claim("free", worker, fence=0)) is REFUSED
        # Its owner may finish what is under way, and let it go.
        assert await store.append(step("mine", worker, 1)) is ACCEPTED
        assert await store.append(step("mine", worker, None, release=True)) is ACCEPTED
        assert await store.append(claim("mine", worker, fence=1)) is REFUSED
        for run in ("free", "mine"):
            assert await store.unpause(run, sent(f"unpause {run}")) is ACCEPTED
            assert await store.unpause(run, sent("again")) is REFUSED

        assert sorted(await claimable(store)) == ["free", "mine"]
        assert await unread(store, "free") == 1
        assert await store.append(claim("mine", worker, fence=1)) is ACCEPTED
        assert len((await store.arrivals(worker)).inbox) == 1

    on(store, code)


def test_a_pause_ends_with_its_run(store):
    async def code(store):
        worker = await store.register_worker("me")
        for run in ("ended", "terminated"):
            await store.append(first(run, worker))
            await store.pause(run, "why")

        assert await store.append(step("ended", worker, 1, status="completed")) is ACCEPTED
        await store.terminate("terminated", time=2.0, data=lambda *_: b"")
        for run in ("ended", "terminated"):
            assert (await store.find("default", "", run)).paused is None
            assert await store.pause(run, "why") is REFUSED
            assert await store.unpause(run, sent("x")) is REFUSED

    on(store, code)


# Ids


@pytest.mark.parametrize(
    ("status", "always", "failed", "never"),
    [
        ("running", IN_USE, IN_USE, IN_USE),
        ("completed", ACCEPTED, IN_USE, IN_USE),
        ("failed", ACCEPTED, ACCEPTED, IN_USE),
        ("canceled", ACCEPTED, ACCEPTED, IN_USE),
    ],
)
@pytest.mark.parametrize("how", ["create", "append"])
def test_an_id_is_free_or_in_use_by_what_became_of_its_run(
    store, how, status, always, failed, never
):
    async def code(store):
        worker = await store.register_worker("me")
        answers = []
        for n, reuse in enumerate(("always", "failed", "never")):
            id = f"w{n}"
            assert await store.append(first(f"old{n}", worker, workflow_id=id)) is ACCEPTED
            if status != "running":
                assert await store.append(step(f"old{n}", worker, 1, status=status)) is ACCEPTED

            if how == "create":
                answers.append(await create(store, f"new{n}", workflow_id=id, reuse=reuse))
            else:
                append = first(f"new{n}", worker, workflow_id=id, reuse=reuse)
                answers.append(await store.append(append))

        return answers

    assert on(store, code) == [always, failed, never]


# Sending, ending, reviving


def test_an_event_is_put_into_the_inbox_of_an_open_run_once(store):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("r", worker))
        for request, wanted in (("a", ACCEPTED), ("b", ACCEPTED), ("a", ACCEPTED)):
            answer = await store.send("r", sent(request), lineage="r", items={"x": b"1"})
            assert answer is wanted

        arrivals = await store.arrivals(worker)
        assert [run for run, _, _ in arrivals.inbox] == ["r", "r"]
        assert set(arrivals.owned) == {"r"}
        assert dict(await store.read_items("r", ["x"])) == {"x": b"1"}
        # Its end must not pass over them.
        assert await store.append(step("r", worker, 1, status="completed")) is REFUSED
        numbers = [number for _, number, _ in arrivals.inbox]
        done = step("r", worker, 1, status="completed", taken=numbers)
        assert await store.append(done) is ACCEPTED
        assert await store.send("r", sent("c"), lineage="r", items={}) is REFUSED
        assert await store.send("nobody", sent("c"), lineage="r", items={}) is REFUSED
        assert (await store.arrivals(worker)).owned == set()

    on(store, code)


def test_a_run_is_created_with_what_waits_for_it(store):
    async def code(store):
        assert await store.create(new_row("r"), START, {"x": b"1"}, inbox=[sent("a")]) is ACCEPTED
        again = replace(new_row("s"), workflow_id="workflow-r")
        assert await store.create(again, START, {}, inbox=[sent("b")]) is IN_USE
        loaded = await store.load(await store.find("default", "workflow-r"))
        assert [data for _, data in loaded.inbox] == [EVENT]
        assert dict(await store.read_items("r", ["x"])) == {"x": b"1"}

    on(store, code)


def test_what_became_of_an_update_is_kept_and_its_end_never_changes(store):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("r", worker, replies=[ReplyRow("a", "accepted")]))
        assert await store.read_reply("r", "a") == ReplyRow("a", "accepted")
        assert await store.read_reply("r", "b") is None
        assert await store.read_reply("nobody", "a") is None
        # Without an activation, too.
        replies = [ReplyRow("a", "completed", b"1"), ReplyRow("b", "rejected", b"no")]
        assert await store.append(step("r", worker, None, replies=replies)) is ACCEPTED
        later = [ReplyRow("a", "completed", b"2"), ReplyRow("b", "accepted")]
        assert await store.append(step("r", worker, 1, replies=later)) is ACCEPTED
        assert await store.read_reply("r", "a") == ReplyRow("a", "completed", b"1")
        assert await store.read_reply("r", "b") == ReplyRow("b", "rejected", b"no")
        await create(store, "s")
        told = [ReplyRow("a", "accepted"), ReplyRow("b", "rejected", b"no")]
        assert await store.append(replace(claim("s", worker, fence=0), replies=told)) is ACCEPTED
        assert (await store.load(await store.find("default", "workflow-s"))).rejected == ["b"]
        # What has a reply is accepted and waits for nothing.
        for request in ("a", "b", "c"):
            assert await store.send("r", sent(request), lineage="r", items={}) is ACCEPTED

        assert [n for _, n, _ in (await store.arrivals(worker)).inbox] == [ANY]
        # A refused append tells nothing.
        stale = step("r", worker, 1, replies=[ReplyRow("d", "accepted")])
        assert await store.append(stale) is REFUSED
        assert await store.read_reply("r", "d") is None
        numbers = [number for _, number, _ in (await store.arrivals(worker)).inbox]
        done = step("r", worker, 2, status="completed", taken=numbers)
        assert await store.append(done) is ACCEPTED
        assert (await store.read_reply("r", "a")).stage == "completed"
        assert await store.purge("default", "queue", 1e9, limit=9) == 1
        assert await store.read_reply("r", "a") is None

    on(store, code)


def test_a_terminated_run_takes_nothing_more_from_its_owner(store):
    async def code(store):
        worker = await store.register_worker("me")
        pending = [PendingRow(seq=1, kind="activity", data=b"")]
        await store.append(first("r", worker, pending=pending))
        await store.send("r", sent("a"), lineage="r", items={})
        seen = []

        def data(number, fence):
            seen.append((number, fence))
            return b"end"

        assert await store.terminate("r", time=5.0, data=data) is ACCEPTED
        assert seen == [(1, 2)]
        row = await store.find("default", "workflow-r")
        assert (row.status, row.closed, row.owner, row.next_number) == ("terminated", 5.0, None, 2)
        assert await store.append(step("r", worker, 1)) is REFUSED
        assert await store.append(step("r", worker, 2)) is REFUSED
        assert await store.terminate("r", time=6.0, data=data) is REFUSED

    on(store, code)


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_run_that_ended_without_a_result_can_be_opened_again(store, status):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("r", worker))
        await store.append(step("r", worker, 1, status=status))
        assert await store.append(claim("r", worker, fence=1)) is REFUSED
        assert await store.revive("r", reopen=False) is REFUSED
        assert await claimable(store) == []
        assert await store.revive("r", reopen=True) is ACCEPTED
        assert await claimable(store) == ["r"]
        assert await store.append(claim("r", worker, fence=1)) is ACCEPTED
        assert await store.append(step("r", worker, 2, fence=2)) is ACCEPTED

    on(store, code)


def test_a_claim_may_open_a_run_again_unless_it_completed_or_its_id_is_taken(store):
    async def code(store):
        worker = await store.register_worker("me")
        for run, status in (("good", "failed"), ("done", "completed"), ("taken", "failed")):
            await store.append(first(run, worker))
            await store.append(step(run, worker, 1, status=status))

        await create(store, "other", workflow_id="workflow-taken")
        answers = [
            await store.append(replace(claim(run, worker, fence=1), reopen=True))
            for run in ("good", "done", "taken")
        ]
        assert answers == [ACCEPTED, REFUSED, REFUSED]
        assert await store.revive("taken", reopen=True) is REFUSED
        assert await store.revive("done", reopen=True) is REFUSED

    on(store, code)


# What may be taken


def test_a_released_run_waits_for_its_time_or_for_an_event(store):
    async def code(store):
        worker = await store.register_worker("me")
        for run, wake in (("early", NOW - 1), ("late", NOW + 50), ("later", NOW + 90)):
            await store.append(first(run, worker))
            released = step(run, worker, None, release=True, wake=wake)
            assert await store.append(released) is ACCEPTED

        assert await claimable(store) == ["early"]
        await store.append(claim("early", worker, fence=1))
        assert await store.next_wake("default", "queue") == NOW + 50
        await store.send("later", sent("a"), lineage="later", items={})
        assert await claimable(store) == ["later"]
        assert await claimable(store, now=NOW + 60) == ["late", "later"]

    on(store, code)


def stall(time=500.0, by=ME, before=None):
    return stall_of(Failure(type="E", message="no"), 1, by, time, before)


STALLS = [
    # The worker that stalled it rests, and does not.
    (stall(NOW - 0.5), ME),
    (stall(NOW - 5), ME),
    (stall(NOW - 0.5, before=stall(NOW - 2)), ME),
    # Others: started before the stall, after it, and with other code.
    (stall(NOW - 0.5), Instance("b", "instance-2", NOW - 10, "build-1")),
    (stall(NOW - 0.5), Instance("b", "instance-2", NOW - 0.1, "build-1")),
    (stall(NOW - 0.5), Instance("b", "instance-2", NOW - 10, "build-2")),
    (stall(NOW - 0.5), Instance("b", "instance-2", NOW - 10, "")),
]


@pytest.mark.parametrize(("stalled", "by"), STALLS, ids=itertools.count())
def test_who_may_try_a_stalled_run_is_the_same_in_sql_as_in_words(store, stalled, by):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("r", worker))
        await store.append(step("r", worker, None, release=True, stall=stalled, wake=1e15))
        found = await claimable(store, by=by)
        assert found == (["r"] if may_try(stalled, by, NOW) else [])
        assert await store.revive("r", reopen=False) is ACCEPTED
        assert await claimable(store, by=by) == ["r"]

    on(store, code)


def test_runs_that_nobody_here_may_take_hide_no_others(store):
    """However many there are, they are older, and the store is asked for only a few at a time."""

    async def code(store):
        worker = await store.register_worker("me")
        for n in range(3):
            await create(store, f"stranger{n}", workflow_type="Unknown")
            await store.append(first(f"mine{n}", worker))
            await store.append(first(f"stalled{n}", worker))
            rests = step(f"stalled{n}", worker, None, release=True, stall=stall(NOW), wake=1e15)
            await store.append(rests)

        await create(store, "new", started=9.0)
        assert await claimable(store, limit=2) == ["new"]
        assert set(await store.waiting_types("default", "queue")) == {"Unknown", "Flow"}

    on(store, code)


def test_runs_of_a_dead_worker_may_be_taken_and_bound_ones_only_by_those_who_ask_for_them(store):
    async def code(store):
        worker, other = [await store.register_worker(n) for n in ("me", "other")]
        await store.append(first("r", other))
        bound = first("b", other)
        bound.start = (replace(bound.start[0], bound=True), START)
        await store.append(bound)
        assert await claimable(store) == []
        assert await store.orphans("default", "Flow", limit=9) == []
        await store.release_worker(other)
        assert await claimable(store) == ["r"]
        assert [r.run_id for r in await store.orphans("default", "Flow", limit=9)] == ["b"]
        assert await store.append(claim("r", worker, fence=1)) is ACCEPTED
        assert await claimable(store) == []

    on(store, code)


def test_runs_that_lost_their_process_are_listed_page_by_page(store):
    async def code(store):
        other = await store.register_worker("other")
        for run_id, started in (("a", 2.0), ("b", 1.0), ("d", 3.0), ("c", 3.0)):
            bound = first(run_id, other)
            bound.start = (replace(bound.start[0], bound=True, started=started), START)
            await store.append(bound)

        await store.release_worker(other)
        seen, last = [], None
        while rows := await store.orphans("default", "Flow", limit=3, after=last):
            seen += [row.run_id for row in rows]
            last = rows[-1]

        assert seen == ["b", "a", "c", "d"]

    on(store, code)


def test_runs_that_ended_are_forgotten_the_oldest_first_and_nothing_else(store):
    async def code(store):
        for run_id, status, time in (
            ("a", "completed", 3.0),
            ("b", "failed", 2.0),
            ("c", "canceled", 9.0),
            ("open", "running", 1.0),
        ):
            worker = await store.register_worker("me")
            item = {f"{run_id}-item": b"x"}
            new = replace(first(run_id, worker), status=status, time=time, items=item)
            assert await store.append(new) is ACCEPTED

        assert await store.purge("other", "queue", 5.0, limit=9) == 0
        assert await store.purge("default", "other", 5.0, limit=9) == 0
        assert await store.purge("default", "queue", 5.0, limit=1) == 1
        kept = await store.newest("default", workflow_type=None, status=None, limit=9)
        assert {row.run_id for row in kept} == {"a", "c", "open"}
        assert await store.purge("default", "queue", 5.0, limit=9) == 1
        assert await store.find("default", "a") is None
        assert [await store.read_items(r, [f"{r}-item"]) for r in ("a", "c", "open")] == [
            {},
            {"c-item": b"x"},
            {"open-item": b"x"},
        ]
        assert await create(store, "a") is ACCEPTED, "its id is free again"
        assert await store.purge("default", "queue", 5.0, limit=9) == 0

    on(store, code)


# The store itself


def test_changes_are_noticed_once(store):
    async def code(store):
        store.changed()
        assert not store.changed()
        await create(store, "r")
        assert store.changed()
        assert not store.changed()

    on(store, code)


def test_a_sound_store_says_so_and_who_lives(store):
    async def code(store):
        await store.register_worker("me")
        health = await store.check()
        assert (list(health.problems), list(health.workers)) == ([], ["me"])

    on(store, code)


def test_a_closed_store_refuses(store):
    async def code(store):
        await store.close()
        with pytest.raises(StoreClosedError):
            await create(store, "r")

    on(store, code)
