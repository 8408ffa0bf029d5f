"""What every store promises of requests to people, asked of each."""

from __future__ import annotations

import asyncio

import pytest
from durable_core.history import Packer, TimerFired
from durable_core.stores import InboxRow, Outcome, PendingRow, RequestFilter, RequestRow
from support.rows import first, on, step

ACCEPTED, REFUSED = Outcome.ACCEPTED, Outcome.REFUSED
EVENT = Packer("").pack(TimerFired(seq=1))


def question(seq, since=1.0, kind="refund"):
    return PendingRow(seq, "request", kind, "k", None, b"asked", since)


def answer_to(seq):
    return InboxRow(request=f"answer:{seq}", arrived=1.0, data=EVENT)


async def listed(store, namespace="default", after=None, limit=100, **which):
    found = await store.requests(namespace, RequestFilter(**which), after=after, limit=limit)
    return [(r.run_id, r.seq) for r in found]


def test_of_the_answers_to_an_open_request_one_is_accepted(store):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("r", worker, pending=[question(3), PendingRow(4, "timer")]))
        store.changed()
        outcomes = await asyncio.gather(*(store.answer("r", 3, answer_to(3)) for _ in range(3)))
        assert sorted(o.value for o in outcomes) == ["accepted", "refused", "refused"]
        assert store.changed()
        for run, seq in (("r", 4), ("r", 5), ("other", 3)):
            assert await store.answer(run, seq, answer_to(seq)) is REFUSED

        ((_, number, _),) = (await store.arrivals(worker)).inbox
        assert await store.append(step("r", worker, 1, taken=[number], resolved=[3])) is ACCEPTED
        assert await store.answer("r", 3, answer_to(3)) is REFUSED

    on(store, code)


def test_an_append_that_withdraws_a_request_is_refused_while_its_answer_is_unread(store):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("r", worker, pending=[question(3), question(4), question(5)]))
        assert await store.answer("r", 3, answer_to(3)) is ACCEPTED
        for withdrawn in ([3], [4, 3]):
            refused = step("r", worker, 1, resolved=withdrawn, withdrawn=withdrawn)
            assert await store.append(refused) is REFUSED

        assert await listed(store) == [("r", 4), ("r", 5)]
        assert await store.append(step("r", worker, 1, resolved=[4], withdrawn=[4])) is ACCEPTED
        assert await store.answer("r", 4, answer_to(4)) is REFUSED
        ((_, number, _),) = (await store.arrivals(worker)).inbox
        end = step("r", worker, 2, status="completed", resolved=[3, 5], taken=[number])
        assert await store.append(end) is ACCEPTED
        assert await store.answer("r", 5, answer_to(5)) is REFUSED

    on(store, code)


@pytest.mark.parametrize("how", ["terminated", "completed"])
def test_a_run_that_has_ended_takes_no_answer_and_asks_nothing(store, how):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("r", worker, pending=[question(3)]))
        if how == "terminated":
            await store.terminate("r", time=2.0, data=lambda *_: b"end")
        else:
            assert await store.append(step("r", worker, 1, status="completed")) is ACCEPTED

        assert await store.answer("r", 3, answer_to(3)) is REFUSED
        assert await listed(store) == []

    on(store, code)


def test_open_requests_are_listed_by_their_time_and_from_a_place_on(store):
    async def code(store):
        worker = await store.register_worker("me")
        for run, since in (("b", 2.0), ("a", 2.0), ("c", 1.0)):
            asked = [question(1, since), question(2, since + 1, kind="other")]
            await store.append(first(run, worker, pending=asked))

        everything = [("c", 1), ("a", 1), ("b", 1), ("c", 2), ("a", 2), ("b", 2)]
        assert await listed(store) == everything
        assert await listed(store, limit=2) == everything[:2]
        rows = await store.requests("default", RequestFilter(), after=None, limit=100)
        for n, row in enumerate(rows):
            place = (row.since, row.run_id, row.seq)
            assert await listed(store, after=place) == everything[n + 1 :]

        assert rows[0] == RequestRow("c", "workflow-c", "Flow", "c", 1, 1.0, b"asked")
        assert await listed(store, kind="other") == everything[3:]
        assert await listed(store, run_id="a") == [("a", 1), ("a", 2)]
        assert await listed(store, workflow_id="workflow-a", kind="refund") == [("a", 1)]
        assert await listed(store, workflow_type="Else") == []
        assert await listed(store, namespace="other") == []
        # What is known of one changes in place.
        again = PendingRow(1, "request", "refund", "k", None, b"reminded", 1.0)
        await store.append(step("c", worker, 1, pending=[again]))
        found = await store.requests("default", RequestFilter(), after=None, limit=1)
        assert found[0].data == b"reminded"

    on(store, code)
