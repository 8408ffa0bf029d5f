"""A worker owns runs on a lease: who lets it run out is refused, and finds that out before it acts."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from contextlib import asynccontextmanager
from datetime import timedelta

import apsw
import pytest
from durable_core import Client, Worker, activity, embedded, workflow
from durable_core.exceptions import StoreError
from durable_core.stores import Lease, Outcome
from durable_core.stores.memory import MemoryStore
from durable_core.stores.sqlite import SqliteStore, _leases
from support.rows import claim, first, rows, step
from support.waiting import eventually

ACCEPTED, REFUSED = Outcome.ACCEPTED, Outcome.REFUSED
SHORT = 0.3


@pytest.fixture(params=["sqlite", "memory"])
def stores(request, store_path):
    """Returns a context of two stores on the same rows, as two processes have them."""

    @asynccontextmanager
    async def opened():
        if request.param == "memory":
            found = [MemoryStore(request.node.name), MemoryStore(request.node.name)]
        else:
            found = [await SqliteStore.open(store_path), await SqliteStore.open(store_path)]

        try:
            yield found
        finally:
            for store in found:
                await store.close()

    return opened


def on(stores, code):
    async def main():
        async with stores() as (one, two):
            return await code(one, two)

    return asyncio.run(main())


async def found(store, run_id):
    row = await store.find("default", f"workflow-{run_id}")
    assert row is not None
    return row


async def out(lease):
    """Wait until a lease has run out."""
    await eventually(lambda: lease.until < _leases._clock.boottime(), "the lease to run out")


# What the store says


def test_a_worker_whose_lease_ran_out_is_dead_for_all_that_it_writes(stores):
    async def code(one, two):
        told = []
        lease = Lease(SHORT, lambda: told.append("lost"))
        worker = await one.register_worker("stopped", lease)
        for run in ("r", "s"):
            assert await one.append(first(run, worker)) is ACCEPTED

        assert lease.holds()
        lease.needed = False  # as if its process were stopped
        await out(lease)
        assert not lease.holds()
        assert not lease.lost
        assert not await two.owner_alive(await found(two, "r"))
        # Refused although nobody has taken the runs yet, and so is a new one.
        assert await one.append(step("r", worker, 1)) is REFUSED
        assert await one.append(first("new", worker)) is REFUSED
        assert await one.find("default", "workflow-new") is None
        assert not await one.renew_worker(worker)
        await eventually(lambda: told, "the worker to be told")
        assert told == ["lost"]
        assert lease.lost
        other = await two.register_worker("other")
        assert await two.append(claim("r", other, fence=1)) is ACCEPTED
        assert (await found(two, "r")).takeovers == 1
        again = await one.register_worker("stopped", Lease(SHORT))
        assert await one.append(claim("s", again, fence=1)) is ACCEPTED

    on(stores, code)


def test_a_lease_is_kept_while_the_event_loop_is_blocked(stores):
    async def code(one, two):
        lease = Lease(SHORT)
        worker = await one.register_worker("busy", lease)
        assert await one.append(first("r", worker)) is ACCEPTED
        time.sleep(4 * SHORT)  # noqa: ASYNC251  # that is the point
        assert lease.holds()
        assert await two.owner_alive(await found(two, "r"))
        assert await one.append(step("r", worker, 1)) is ACCEPTED

    on(stores, code)


def test_a_worker_without_runs_needs_no_lease_and_gets_one_with_its_first(stores):
    async def code(one, two):
        lease = Lease(SHORT)
        lease.needed = False
        worker = await one.register_worker("idle", lease)
        await out(lease)
        before = lease.until
        assert (await two.check()).workers == ["idle"]
        assert await one.append(first("r", worker)) is ACCEPTED
        assert lease.until > before + SHORT
        assert lease.holds()
        assert await two.owner_alive(await found(two, "r"))

    on(stores, code)


def test_a_lease_that_is_renewed_on_request_lasts_longer(stores):
    async def code(one, two):
        lease = Lease(SHORT)
        worker = await one.register_worker("late", lease)
        assert await one.append(first("r", worker)) is ACCEPTED
        lease.needed = False
        await out(lease)
        # Nobody looked in time.
        assert await one.renew_worker(worker)
        assert lease.holds()
        assert await two.owner_alive(await found(two, "r"))

    on(stores, code)


def test_a_lease_is_renewed_over_the_end_of_another_worker(stores):
    looked_at, released = threading.Event(), threading.Event()

    class Slow(Lease):
        """Is let go while the thread that renews leases looks at it."""

        @property
        def needed(self):
            looked_at.set()
            released.wait(0.2)
            return False

        @needed.setter
        def needed(self, value):
            pass

    async def code(one, two):
        leases = [Slow(SHORT), Lease(SHORT), Lease(SHORT)]
        slow, _, kept = [await one.register_worker("w", lease) for lease in leases]
        assert await one.append(first("r", kept)) is ACCEPTED
        looked_at.clear()
        await asyncio.to_thread(looked_at.wait)
        await one.release_worker(slow)
        released.set()
        await asyncio.sleep(2 * SHORT)
        assert leases[-1].holds()
        assert await two.owner_alive(await found(two, "r"))

    on(stores, code)


# SQLite alone


def test_a_worker_of_an_earlier_start_of_the_machine_is_dead_at_once(store_path):
    async def main():
        one, two = await SqliteStore.open(store_path), await SqliteStore.open(store_path)
        worker = await one.register_worker("before")
        await one.append(first("r", worker))
        assert await two.owner_alive(await found(two, "r"))
        rows(store_path, "UPDATE worker SET boot = 'another'")
        assert not await two.owner_alive(await found(two, "r"))
        assert await one.append(step("r", worker, 1)) is REFUSED
        await one.close()
        await two.close()

    asyncio.run(main())


def test_a_worker_that_renews_while_another_looks_is_not_marked_as_dead(store_path):
    async def main():
        one, two = await SqliteStore.open(store_path), await SqliteStore.open(store_path)
        lease = Lease(SHORT)
        worker = await one.register_worker("late", lease)
        await one.append(first("r", worker))
        lease.needed = False
        await out(lease)
        seen = rows(store_path, "SELECT lease_until FROM worker")[0][0]
        assert await one.renew_worker(worker)
        assert await two._bury(worker, lease_until=seen) == []
        assert await one.append(step("r", worker, 1)) is ACCEPTED
        await one.close()
        await two.close()

    asyncio.run(main())


def test_a_worker_that_waits_for_others_to_write_is_not_taken_for_dead(store_path):
    async def main():
        one, two = await SqliteStore.open(store_path), await SqliteStore.open(store_path)
        lease = Lease(SHORT)
        worker = await one.register_worker("crowded", lease)
        await one.append(first("r", worker))
        crowd = apsw.Connection(str(store_path))
        crowd.execute("BEGIN IMMEDIATE")
        waiting = one.append(step("r", worker, 1))
        await out(lease)
        assert not lease.holds()
        assert await asyncio.wait_for(two.owner_alive(await found(two, "r")), 10)
        crowd.execute("COMMIT")
        assert await waiting is ACCEPTED
        assert lease.holds()
        crowd.close()
        await one.close()
        await two.close()

    asyncio.run(main())


def test_a_worker_that_is_silent_beside_a_busy_one_keeps_its_lease(store_path):
    async def main():
        one, two = await SqliteStore.open(store_path), await SqliteStore.open(store_path)
        lease = Lease(SHORT)
        silent, busy = await one.register_worker("silent", lease), await one.register_worker("busy")
        for run, worker in (("r", silent), ("s", busy)):
            assert await one.append(first(run, worker)) is ACCEPTED

        # Each is a commit of its own, and there is always a next one to write.
        began, number = lease.until, 0
        steps = deque[asyncio.Future[Outcome]]()
        while _leases._clock.boottime() < began + SHORT or number < 100:
            number += 1
            steps.append(one.append(step("s", busy, number)))
            if len(steps) > 50:
                assert await steps.popleft() is ACCEPTED

        assert lease.holds()
        assert await two.owner_alive(await found(two, "r"))
        await asyncio.gather(*steps)
        await one.close()
        await two.close()

    asyncio.run(main())


def test_a_worker_that_leaves_while_its_lease_is_renewed_spoils_no_commit(store_path):
    class Leaving(dict):
        """Lets another thread remove a lease right after it was looked up."""

        def __contains__(self, worker):
            there = super().__contains__(worker)
            self.pop(worker, None)
            return there

    async def main():
        store = await SqliteStore.open(store_path)
        worker = await store.register_worker("me", Lease(SHORT))
        assert await store.append(first("r", worker)) is ACCEPTED
        renewed = store.renew_worker(worker)
        store._leases._held = Leaving(store._leases._held)
        assert await renewed
        assert await store.append(step("r", worker, 1)) is ACCEPTED
        await store.close()

    asyncio.run(main())


def test_renewals_cost_no_commit_at_work_and_none_at_rest(store_path, monkeypatch):
    alone = []
    renew_due = _leases.Leases.renew_due
    monkeypatch.setattr(
        _leases.Leases, "renew_due", lambda *given: alone.append(1) or renew_due(*given)
    )

    async def main():
        store = await SqliteStore.open(store_path)
        lease = Lease(3.0)
        worker = await store.register_worker("me", lease)
        await store.append(first("r", worker))
        began, number = lease.until, 1
        while lease.until == began:
            assert await store.append(step("r", worker, number)) is ACCEPTED
            number += 1
            await asyncio.sleep(0.01)

        assert alone == []
        lease.needed = False
        lease.length = 0.1
        assert await store.renew_worker(worker)
        store.changed()
        await asyncio.sleep(0.3)
        assert not store.changed()
        lease.needed = True
        assert await store.append(step("r", worker, number)) is ACCEPTED
        await eventually(lambda: len(alone) > 2, "renewals of their own")
        await store.close()

    asyncio.run(main())


# What a worker does

ran: list[tuple[str, int]] = []


@activity.defn
async def say(text: str) -> str:
    ran.append((text, activity.info().attempt))
    return text


@activity.defn
def say_in_thread(text: str) -> str:
    ran.append((text, activity.info().attempt))
    return text


@activity.defn
async def linger(text: str) -> str:
    ran.append((text, activity.info().attempt))
    await (held.wait() if activity.info().attempt == 1 else asyncio.sleep(0))
    return text


held: asyncio.Event


@workflow.defn
class Says:
    """Two steps and a timer between them; notes are counted by a signal."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.run
    async def run(self, first: str) -> list[str]:
        name = {"linger": linger, "thread": say_in_thread}.get(first, say)
        one = await workflow.execute_activity(name, first)
        await workflow.sleep(0.05)
        return [one, await workflow.execute_activity(say, "last"), *self.notes]

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _nothing_ran():
    ran.clear()


@asynccontextmanager
async def working(url, **options):
    global held  # noqa: PLW0603  # of the loop that the test runs on
    held = asyncio.Event()
    async with await Client.connect(url) as client:
        worker = Worker(
            client,
            task_queue="q",
            workflows=[Says],
            activities=[say, say_in_thread, linger],
            **options,
        )
        async with worker:
            yield client, worker


def forget(lease):
    """Let a lease be past, as after a stop of the process, and let nobody renew it by itself."""
    lease.needed = False
    lease.until = 0.0


def bury(store_path):
    """Mark every worker as dead, as another process does that finds its lease past."""
    rows(store_path, "UPDATE worker SET alive = 0 WHERE alive")


def test_a_worker_that_is_found_dead_drops_its_runs_and_goes_on_as_a_new_one(
    store_url, store_path, caplog
):
    caplog.set_level(logging.INFO)

    async def main():
        async with working(store_url, lease=timedelta(seconds=SHORT)) as (client, _):
            slow = await client.start_workflow(Says.run, "linger", id="slow", task_queue="q")
            await eventually(lambda: ran, "the body")
            bury(store_path)
            # In the middle of its next activation.
            await slow.signal(Says.note, "kept")
            assert await slow.result() == ["linger", "last", "kept"]
            history = await slow.fetch_history()
            (lingered,) = [e for e in history.timeline() if e.name == "linger"]
            assert lingered.status == "completed"

    asyncio.run(main())
    assert ran == [("linger", 1), ("linger", 2), ("last", 1)]
    assert rows(store_path, "SELECT count(*) FROM worker") == [(2,)]
    assert "was taken for dead" in caplog.text
    assert "has dropped its 1 runs" in caplog.text
    assert "goes on as a new worker" in caplog.text


def test_a_worker_whose_runs_are_with_others_when_it_wakes_up_knows_that_it_was_dead(
    store_url, store_path
):
    async def main():
        async with working(store_url) as (client, worker):
            handle = await client.start_workflow(Says.run, "linger", id="r", task_queue="q")
            await eventually(lambda: ran, "the body")
            other = await SqliteStore.open(store_path)
            forget(worker.membership._lease)
            bury(store_path)
            row = await other.find("default", "r")
            number = await other.register_worker("other")
            assert await other.append(claim(row.run_id, number, fence=row.fence)) is ACCEPTED
            await eventually(lambda: worker.membership.number > number, "it to join anew")
            # It may have found the run without an owner before, and be about to be refused.
            await eventually(lambda: not worker.loaded(row.run_id), "it to let the run go")
            await other.close()
            assert await handle.result() == ["linger", "last"]

    asyncio.run(main())


def test_a_run_that_is_started_by_a_dead_worker_is_started_by_the_new_one(store_url, store_path):
    async def main():
        async with working(store_url) as (client, _):
            bury(store_path)
            started = [
                client.execute_workflow(Says.run, f"{n}", id=f"{n}", task_queue="q")
                for n in range(5)
            ]
            assert await asyncio.gather(*started) == [[f"{n}", "last"] for n in range(5)]

    asyncio.run(main())
    assert sorted(text for text, _ in ran) == [*"01234", *["last"] * 5]


def test_a_start_that_was_written_before_its_worker_was_found_dead_is_not_in_its_own_way(
    store_url, monkeypatch
):
    async def main():
        async with working(store_url) as (client, worker):
            begin, begun = worker.begin, []

            def begin_and_lose(start, **options):
                begun.append(start.run_id)
                owned = begin(start, **options)
                if len(begun) == 1:
                    # The word of the worker's death overtakes that of the commit before it.
                    owned.lose()

                return owned

            monkeypatch.setattr(worker, "begin", begin_and_lose)
            handle = await client.start_workflow(Says.run, "say", id="r", task_queue="q")
            assert handle.run_id == begun[0]
            assert await handle.result() == ["say", "last"]
            assert [run.run_id async for run in client.list_workflows()] == [begun[0]]

    asyncio.run(main())


def test_a_run_from_plain_code_goes_on_after_its_worker_was_found_dead(store_url, store_path):
    async def main():
        global held  # noqa: PLW0603
        held = asyncio.Event()
        running = asyncio.create_task(
            embedded.execute_workflow(Says.run, "linger", id="r", url=store_url)
        )
        await eventually(lambda: ran, "the body")
        bury(store_path)
        held.set()
        assert await running == ["linger", "last"]
        assert await embedded.execute_workflow(Says.run, "x", id="s", url=store_url) == [
            "x",
            "last",
        ]

    asyncio.run(main())
    assert ran == [("linger", 1), ("linger", 2), ("last", 1), ("x", 1), ("last", 1)]


@pytest.mark.parametrize("first", ["say", "thread"])
@pytest.mark.parametrize("answer", ["renewed", "lost", "unknown"])
def test_no_body_starts_on_a_lease_that_is_past_before_the_store_was_asked(
    store_url, store_path, monkeypatch, first, answer
):
    async def main():
        async with working(store_url) as (client, worker):
            renew, asked, told = client.store.renew_worker, asyncio.Event(), asyncio.Event()

            async def renew_later(number):
                asked.set()
                await told.wait()
                if answer == "unknown" and not unknown:
                    unknown.append(number)
                    raise StoreError("the disk is away")

                return await renew(number)

            unknown = []
            monkeypatch.setattr(client.store, "renew_worker", renew_later)
            committed = worker.committed

            def stop(owned, activation):
                committed(owned, activation)
                if activation.number == 0:  # the process is stopped after its commit
                    forget(worker.membership._lease)

            monkeypatch.setattr(worker, "committed", stop)
            running = asyncio.create_task(
                client.execute_workflow(Says.run, first, id="r", task_queue="q")
            )
            await asked.wait()
            await asyncio.sleep(0.1)
            assert ran == []
            if answer == "lost":
                bury(store_path)

            told.set()
            assert await running == [first, "last"]

    asyncio.run(main())
    assert [text for text, _ in ran] == [first, "last"], ran


def test_no_timer_fires_on_a_lease_that_is_past_before_the_store_was_asked(store_url, monkeypatch):
    async def main():
        async with working(store_url) as (client, worker):
            renew, asked, told = client.store.renew_worker, asyncio.Event(), asyncio.Event()

            async def renew_later(number):
                asked.set()
                await told.wait()
                return await renew(number)

            monkeypatch.setattr(client.store, "renew_worker", renew_later)
            committed = worker.committed

            def stop(owned, activation):
                committed(owned, activation)
                if activation.number == 1:  # that starts the timer
                    forget(worker.membership._lease)

            monkeypatch.setattr(worker, "committed", stop)
            handle = await client.start_workflow(Says.run, "say", id="r", task_queue="q")
            await asked.wait()
            await asyncio.sleep(0.2)
            assert (await handle.describe()).history_length == 2
            told.set()
            assert await handle.result() == ["say", "last"]

    asyncio.run(main())


def test_a_lease_that_is_too_short_is_refused(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            with pytest.raises(ValueError, match=r"lease must be 0\.1 s or more, got 0:00:00\.05"):
                Worker(client, task_queue="q", lease=timedelta(milliseconds=50))

    asyncio.run(main())
