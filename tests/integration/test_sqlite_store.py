"""The SQLite store: what it promises to workers, and what makes its commits durable."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref

import apsw
import pytest
from durable_core import _faults
from durable_core.exceptions import StoreClosedError, StoreError
from durable_core.history import Activation, Packer, TimerFired, event_from
from durable_core.stores import InboxRow, Outcome, PendingRow
from durable_core.stores._stalls import Instance
from durable_core.stores.sqlite import _open
from durable_core.stores.sqlite._writer import Call, Writer
from support.rows import HOLD, WRITE, claim, first, new_row, new_start, opened, owner_of, rows, step

BY = Instance("me", "instance", 0.0)
ACCEPTED, REFUSED, IN_USE = Outcome.ACCEPTED, Outcome.REFUSED, Outcome.ID_IN_USE
EVENT = Packer("").pack(TimerFired(seq=1))


class Commits:
    """Stands in the place of the writer's fault points and counts the commits of a process."""

    def __init__(self, monkeypatch):
        self.count = 0
        monkeypatch.setattr(_faults, "reach", self)

    def __call__(self, point):
        self.count += point == "store.commit.after"


def test_a_store_without_work_holds_nothing_of_its_last_write(store_path):
    class Large:
        """What a write was made of: up to 64 MiB."""

        def __call__(self, connection):
            return None

    async def main():
        async with opened(store_path) as store:
            large = Large()
            gone = weakref.ref(large)
            await store._writer.submit(Call(large))
            del large
            # The writer answers before it looks for more to do.
            deadline = time.monotonic() + 5
            while gone() is not None and time.monotonic() < deadline:
                await asyncio.sleep(0.01)

            assert gone() is None

    asyncio.run(main())


# Group commit


def test_appends_of_many_runs_become_few_commits(store_path, monkeypatch):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            commits = Commits(monkeypatch)
            started = await asyncio.gather(
                *(store.append(first(f"r{i}", worker)) for i in range(200))
            )
            moved = await asyncio.gather(
                *(store.append(step(f"r{i}", worker, 1)) for i in range(200))
            )
            assert {*started, *moved} == {ACCEPTED}
            return commits.count

    assert asyncio.run(main()) <= 8
    assert rows(store_path, "SELECT number, count(*) FROM activation GROUP BY 1") == [
        (0, 200),
        (1, 200),
    ]


def test_what_one_pass_of_the_loop_appends_is_one_commit(store_path, monkeypatch):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            commits = Commits(monkeypatch)
            made = [store.append(first(f"r{i}", worker)) for i in range(40)]
            # A thread that had heard of the first would commit it meanwhile.
            time.sleep(0.05)  # noqa: ASYNC251
            assert {*await asyncio.gather(*made)} == {ACCEPTED}
            return commits.count

    assert asyncio.run(main()) == 1


def test_a_store_waits_for_another_one_of_its_process_without_polling(store_path, monkeypatch):
    tried = []
    original = Writer._try_commit

    def counting(self, *args):
        tried.append(self)
        return original(self, *args)

    monkeypatch.setattr(Writer, "_try_commit", counting)

    async def main():
        async with opened(store_path) as one, opened(store_path) as other:
            begun = threading.Event()

            def hold(_):
                begun.set()
                time.sleep(0.3)

            held = one._writer.submit(Call(hold))
            assert await asyncio.to_thread(begun.wait, 10)
            tried.clear()
            await asyncio.gather(held, other._writer.submit(Call(lambda _: None)))
            return tried.count(other._writer)

    assert asyncio.run(main()) == 1


def test_appends_of_one_run_that_wait_together_are_kept_in_order(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            appends = [first("r", worker), *(step("r", worker, n) for n in range(1, 50))]
            return await asyncio.gather(*(store.append(a) for a in appends))

    assert asyncio.run(main()) == [ACCEPTED] * 50
    assert rows(store_path, "SELECT count(*), max(number) FROM activation") == [(50, 49)]


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(lambda w: step("bad", w, 1, fence=7), id="wrong fence"),
        pytest.param(lambda w: step("bad", w, 5), id="number too high"),
        pytest.param(lambda w: step("bad", w, 0), id="number that exists"),
        pytest.param(lambda w: step("bad", w + 100, 1), id="not the owner"),
        pytest.param(lambda w: step("closed", w, 1), id="closed run"),
        pytest.param(lambda w: step("unknown", w, 1), id="no such run"),
    ],
)
def test_a_refused_member_of_a_commit_drops_out_alone(store_path, monkeypatch, refused):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            for run in ("good-1", "good-2", "bad", "closed"):
                await store.append(first(run, worker))

            closing = step("closed", worker, 1, status="completed")
            assert await store.append(closing) is ACCEPTED
            bad = refused(worker)
            if bad.run_id == "closed":
                bad.number = 2

            bad.items = {"address": b"item"}
            bad.pending = [PendingRow(seq=9, kind="timer", due=1.0)]
            bad.inbox = [InboxRow(request="x", arrived=1.0, data=EVENT)]
            commits = Commits(monkeypatch)
            outcomes = await asyncio.gather(
                store.append(step("good-1", worker, 1)),
                store.append(bad),
                store.append(step("good-2", worker, 1)),
            )
            return outcomes, commits.count

    outcomes, commits = asyncio.run(main())
    assert outcomes == [ACCEPTED, REFUSED, ACCEPTED]
    assert commits <= 2
    written = rows(store_path, "SELECT run FROM activation WHERE number = 1 AND run LIKE 'good%'")
    assert sorted(written) == [("good-1",), ("good-2",)]
    for table in ("item", "pending", "inbox"):
        assert rows(store_path, f"SELECT * FROM {table}") == [], table


def test_what_is_acknowledged_survives_a_kill_right_after(processes, store_path):
    script = WRITE.replace("    await store.close()", "    import os; os.kill(os.getpid(), 9)")
    assert processes.run(script, store_path, "killed", 30).killed
    assert rows(store_path, "SELECT count(*) FROM activation") == [(30,)]
    assert rows(store_path, "SELECT next_number FROM run") == [(30,)]


def test_a_commit_that_was_durable_and_then_failed_is_found_and_not_repeated(
    store_path, monkeypatch
):
    connect = _open.connect

    class Cut:
        """A connection whose next COMMIT is durable, and fails afterwards."""

        def __init__(self, connection):
            self.connection = connection
            self.armed = False

        def __getattr__(self, name):
            return getattr(self.connection, name)

        def __enter__(self):
            return self.connection.__enter__()

        def __exit__(self, *error):
            return self.connection.__exit__(*error)

        def execute(self, sql, *bindings):
            done = self.connection.execute(sql, *bindings)
            if sql == "COMMIT" and self.armed:
                self.armed = False
                raise apsw.IOError("the disk answered too late")

            return done

    made = []

    def cut(path):
        made.append(Cut(connect(path)))
        return made[-1]

    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await store.append(first("r", worker))
            for connection in made:
                connection.armed = True

            assert await store.append(step("r", worker, 1)) is ACCEPTED
            assert await store.append(step("r", worker, 2)) is ACCEPTED

    monkeypatch.setattr(_open, "connect", cut)
    asyncio.run(main())
    assert rows(store_path, "SELECT count(*) FROM activation") == [(3,)]


def test_a_failed_commit_keeps_nothing_and_the_same_append_succeeds_later(store_path, monkeypatch):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await store.append(first("r", worker))
            full = True

            def reach(point):
                if point == "store.commit.before" and full:
                    raise apsw.FullError("database or disk is full")

            monkeypatch.setattr(_faults, "reach", reach)
            append = step("r", worker, 1, items={"a": b"item"})
            with pytest.raises(StoreError, match=r"disk of .*store\.db is full.*Free space"):
                await store.append(append)

            assert rows(store_path, "SELECT count(*) FROM item") == [(0,)]
            full = False
            assert await store.append(append) is ACCEPTED

    asyncio.run(main())
    assert rows(store_path, "SELECT count(*) FROM activation") == [(2,)]


def test_a_closed_store_refuses_writes(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")

        with pytest.raises(StoreClosedError, match=str(store_path)):
            await store.append(first("r", worker))

    asyncio.run(main())


# Ownership


def test_a_run_can_be_claimed_from_nobody(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            assert await store.create(new_row("r"), b"start", {}) is ACCEPTED
            assert await store.append(claim("r", worker, fence=0)) is ACCEPTED
            row = await store.find("default", "workflow-r")
            assert (row.owner, row.fence, row.takeovers) == (worker, 1, 0)

    asyncio.run(main())


def test_a_run_cannot_be_claimed_from_a_living_worker(store_path):
    async def main():
        async with opened(store_path) as store:
            one, two = await store.register_worker("1"), await store.register_worker("2")
            await store.append(first("r", one))
            assert await store.append(claim("r", two, fence=1)) is REFUSED
            assert await store.append(step("r", one, 1)) is ACCEPTED

    asyncio.run(main())


def test_the_owner_itself_can_claim_its_run_again(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await store.append(first("r", worker))
            assert await store.append(claim("r", worker, fence=1)) is ACCEPTED
            # What was frozen under the fence before cannot arrive any more.
            assert await store.append(step("r", worker, 1, fence=1)) is REFUSED
            assert await store.append(step("r", worker, 1, fence=2)) is ACCEPTED

    asyncio.run(main())


def test_a_run_of_a_killed_worker_can_be_claimed_and_counts_as_taken_over(processes, store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            row = await store.find("default", "workflow-r")
            assert await store.owner_alive(row)
            assert (
                await store.claimable(
                    "default", "queue", workflow_types=["Flow"], by=BY, now=time.time(), limit=9
                )
                == []
            )
            assert await store.append(claim("r", worker, fence=1)) is REFUSED
            other.kill()
            assert not await store.owner_alive(row)
            found = await store.claimable(
                "default", "queue", workflow_types=["Flow"], by=BY, now=time.time(), limit=9
            )
            assert [r.run_id for r in found] == ["r"]
            assert await store.append(claim("r", worker, fence=1)) is ACCEPTED
            row = await store.find("default", "workflow-r")
            assert (row.owner, row.fence, row.takeovers) == (worker, 2, 1)
            await store.append(step("r", worker, 1, fence=2))
            assert (await store.find("default", "workflow-r")).takeovers == 0

    other = processes.start(HOLD, store_path, "r")
    owner_of(other)
    asyncio.run(main())


def test_a_run_of_a_worker_that_ended_in_order_is_claimed_without_counting(store_path):
    async def main():
        async with opened(store_path) as store:
            one, two = await store.register_worker("1"), await store.register_worker("2")
            await store.append(first("r", one))
            await store.release_worker(one)
            assert await store.append(claim("r", two, fence=1)) is ACCEPTED
            assert (await store.find("default", "workflow-r")).takeovers == 0

    asyncio.run(main())


def test_a_closed_run_cannot_be_claimed(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await store.append(first("r", worker))
            await store.append(step("r", worker, 1, status="completed"))
            assert await store.append(claim("r", worker, fence=1)) is REFUSED
            assert (
                await store.claimable(
                    "default", "queue", workflow_types=["Flow"], by=BY, now=time.time(), limit=9
                )
                == []
            )

    asyncio.run(main())


def test_one_of_two_racing_claims_wins(store_path):
    async def main():
        async with opened(store_path) as a, opened(store_path) as b:
            one, two = await a.register_worker("1"), await b.register_worker("2")
            runs = [f"r{i}" for i in range(40)]
            for run in runs:
                await a.create(new_row(run), b"start", {})

            ours = [a.append(claim(run, one, fence=0)) for run in runs]
            theirs = [b.append(claim(run, two, fence=0)) for run in reversed(runs)]
            ours, theirs = await asyncio.gather(*ours), await asyncio.gather(*theirs)
            for mine, other in zip(ours, reversed(theirs), strict=True):
                assert {mine, other} == {ACCEPTED, REFUSED}

    asyncio.run(main())
    owners = rows(store_path, "SELECT count(*) FROM run WHERE owner IS NOT NULL AND fence = 1")
    assert owners == [(40,)]


# Workflow ids


def test_an_open_workflow_id_is_in_use_and_the_second_start_leaves_nothing(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            outcomes = await asyncio.gather(
                store.append(first("r1", worker, workflow_id="w")),
                store.append(first("r2", worker, workflow_id="w", items={"a": b"item"})),
                store.create(new_row("r3", workflow_id="w"), b"start", {"a": b"item"}),
                store.append(first("r4", worker, workflow_id="another")),
            )
            assert outcomes == [ACCEPTED, IN_USE, IN_USE, ACCEPTED]

    asyncio.run(main())
    for table, column in (("run", "id"), ("start", "run"), ("activation", "run")):
        assert rows(store_path, f"SELECT {column} FROM {table} ORDER BY 1") == [("r1",), ("r4",)]

    assert rows(store_path, "SELECT * FROM item") == []


def test_a_closed_workflow_id_can_be_started_again_and_the_open_run_is_found(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await store.append(first("r1", worker, workflow_id="w"))
            await store.append(step("r1", worker, 1, status="failed"))
            assert await store.append(first("r2", worker, workflow_id="w")) is ACCEPTED
            assert (await store.find("default", "w")).run_id == "r2"
            assert (await store.find("default", "w", "r1")).status == "failed"
            assert await store.find("default", "x", "r1") is None
            assert await store.find("elsewhere", "w") is None

    asyncio.run(main())


# The inbox


def test_unread_events_refuse_the_end_of_a_run_until_it_takes_them(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await store.append(first("r", worker))
            sent = [InboxRow(request=q, arrived=1.0, data=EVENT) for q in ("a", "b", "a")]
            assert await store.append(step("r", worker, None, inbox=sent)) is ACCEPTED
            ids = [i for (i,) in rows(store_path, "SELECT id FROM inbox ORDER BY id")]
            assert len(ids) == 2, "an event that is sent twice arrives once"
            ends = [
                step("r", worker, 1, status="completed"),
                step("r", worker, 1, status="failed", taken=ids[:1]),
            ]
            assert [await store.append(end) for end in ends] == [REFUSED, REFUSED]
            end = step("r", worker, 1, status="completed", taken=ids)
            assert await store.append(end) is ACCEPTED

    asyncio.run(main())
    assert rows(store_path, "SELECT status, closed, owner FROM run") == [("completed", 2.0, None)]
    assert rows(store_path, "SELECT * FROM inbox") == []


def test_a_run_is_loaded_with_its_steps_and_its_inbox_in_order_of_arrival(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            begin = first("r", worker)
            begin.data = Packer("").pack(Activation(number=0, time=1.0, fence=1))
            begin.start = (begin.start[0], Packer("").pack(new_start()))
            await store.append(begin)
            for seq in (5, 3, 9):
                data = Packer("").pack(TimerFired(seq=seq))
                event = InboxRow(request=f"q{seq}", arrived=1.0, data=data)
                await store.append(step("r", worker, None, inbox=[event]))

            loaded = await store.load(await store.find("default", "workflow-r"))
            assert loaded.start == begin.start[1]
            assert loaded.activations == [begin.data]
            return [event_from(data).seq for _, data in loaded.inbox]

    assert asyncio.run(main()) == [5, 3, 9]


# Items


def test_items_are_stored_once_per_lineage(store_path):
    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await asyncio.gather(
                store.append(first("r1", worker, items={"a": b"one", "b": b"two"})),
                store.append(first("r2", worker, items={"a": b"one"})),
            )
            await store.append(step("r1", worker, 1, items={"a": b"one", "c": b"three"}))
            return await store.read_items("r1", ["a", "b", "c", "missing"])

    assert asyncio.run(main()) == {"a": b"one", "b": b"two", "c": b"three"}
    assert rows(store_path, "SELECT lineage, address FROM item ORDER BY 1, 2") == [
        ("r1", "a"),
        ("r1", "b"),
        ("r1", "c"),
        ("r2", "a"),
    ]


def test_bytes_of_any_kind_come_back_as_they_were(store_path):
    values = {"empty": b"", "zero": b"\0" * 5, "all": bytes(range(256)) * 40, "ümlaut": b"\xff"}

    async def main():
        async with opened(store_path) as store:
            worker = await store.register_worker("me")
            await store.append(first("r", worker, items=values))
            return await store.read_items("r", list(values))

    assert asyncio.run(main()) == values
