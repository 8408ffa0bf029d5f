"""Workers that end in the middle of things: nothing is lost, done twice, or waited for in vain."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from datetime import timedelta

import apsw
import pytest
from durable_core import Client, Worker, activity, embedded, execute_workflow, workflow
from durable_core import exceptions as ex
from durable_core.common import RetryPolicy
from durable_core.stores.sqlite._store import SqliteStore
from durable_core.stores.sqlite._writer import Writer
from support.waiting import eventually

QUEUE = "queue"


class Disk:
    """What the writer meets: slow, or full, when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.full = False


@pytest.fixture
def disk(monkeypatch):
    found, commit = Disk(), Writer._try_commit

    def writing(self, *args):
        time.sleep(found.seconds)
        if found.full:
            raise apsw.FullError("database or disk is full")

        return commit(self, *args)

    monkeypatch.setattr(Writer, "_try_commit", writing)
    return found


class Scene:
    began: list[object] = []  # noqa: RUF012  # emptied before each test
    gate: asyncio.Event


@pytest.fixture(autouse=True)
def _forget():
    Scene.began.clear()


@activity.defn(retry_policy=RetryPolicy(maximum_attempts=1))
async def pay(who: str = "") -> str:
    """Hangs the first time."""
    Scene.began.append(who)
    if len(Scene.began) == 1:
        await asyncio.Event().wait()

    return "paid"


@workflow.defn
async def pays(who: str = "") -> str:
    return await pay(who)


@workflow.defn
class Sleeper:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self, seconds: float) -> list[str]:
        await asyncio.sleep(seconds)
        return self.seen

    @workflow.signal
    def poke(self, what: str) -> None:
        self.seen.append(what)

    @workflow.query
    def poked(self) -> int:
        return len(self.seen)


async def start(client: Client, *workflows, **options) -> Worker:
    worker = Worker(client, task_queue=QUEUE, workflows=workflows, **options)
    await worker.start(takes_runs=True)
    return worker


def test_a_timer_that_fires_during_a_commit_fires_for_the_next_owner(store_url, disk):
    async def main():
        async with await Client.connect(store_url) as client:
            worker = await start(client, Sleeper)
            handle = await client.start_workflow(Sleeper.run, 0.2, id="w", task_queue=QUEUE)
            disk.seconds = 0.4
            signal = asyncio.ensure_future(handle.signal(Sleeper.poke, "a"))
            await asyncio.sleep(0.3)
            await worker.shutdown()
            disk.seconds = 0.0
            await signal
            async with Worker(client, task_queue=QUEUE, workflows=[Sleeper]):
                return await asyncio.wait_for(handle.result(), 5)

    assert asyncio.run(main()) == ["a"]


def test_a_signal_that_is_handed_over_is_accepted(store_url, disk):
    async def main():
        async with await Client.connect(store_url) as client:
            worker = await start(client, Sleeper)
            handle = await client.start_workflow(Sleeper.run, 1.0, id="w", task_queue=QUEUE)
            disk.seconds = 0.1
            first = asyncio.ensure_future(handle.signal(Sleeper.poke, "first"))
            await asyncio.sleep(0.05)
            second = asyncio.ensure_future(handle.signal(Sleeper.poke, "second"))
            await asyncio.sleep(0.02)
            sent = 0
            send = client.store.send

            def counting(*args, **options):
                nonlocal sent
                sent += 1
                return send(*args, **options)

            client.store.send = counting
            await worker.shutdown()
            disk.seconds = 0.0
            await asyncio.gather(first, second)
            assert sent == 0, "what is in the inbox need not be sent again"
            async with Worker(client, task_queue=QUEUE, workflows=[Sleeper]):
                return await handle.result()

    assert asyncio.run(main()) == ["first", "second"]


def test_a_claim_that_a_shutdown_meets_costs_no_attempt(store_url, disk):
    async def main():
        async with await Client.connect(store_url) as client:
            first = await start(client, pays, activities=[pay])
            handle = await client.start_workflow(pays, id="w", task_queue=QUEUE)
            await eventually(lambda: Scene.began, "the body to begin")
            await first.shutdown()
            second = await start(client, pays, activities=[pay])
            disk.seconds = 0.2
            await eventually(lambda: second._owned, "the run to be claimed")
            await asyncio.sleep(0.05)
            await second.shutdown()
            disk.seconds = 0.0
            row = await client.store.find("default", "w")
            assert (row.owner, row.takeovers) == (None, 0)
            async with Worker(client, task_queue=QUEUE, workflows=[pays], activities=[pay]):
                return await asyncio.wait_for(handle.result(), 5)

    assert asyncio.run(main()) == "paid"
    assert len(Scene.began) == 2


def test_a_query_that_meets_a_claim_is_answered_after_it(store_url, disk):
    async def main():
        async with await Client.connect(store_url) as client:
            first = await start(client, Sleeper)
            handle = await client.start_workflow(Sleeper.run, 60, id="w", task_queue=QUEUE)
            await handle.signal(Sleeper.poke, "a")
            await first.shutdown()
            second = await start(client, Sleeper)
            row = await client.store.find("default", "w")
            disk.seconds = 0.2
            # Nothing is due, so no activation follows the claim.
            taking = asyncio.create_task(second.take(row))
            await eventually(lambda: second._owned, "the run to be claimed")
            answer = await asyncio.wait_for(handle.query(Sleeper.poked), 5)
            disk.seconds = 0.0
            await taking
            await second.shutdown()
            return answer

    assert asyncio.run(main()) == 1


def test_attempts_that_an_eviction_meets_are_counted(store_url):
    seen: dict[str, list[int]] = {}
    policy = RetryPolicy(
        initial_interval=timedelta(seconds=0.3), backoff_coefficient=1.0, maximum_attempts=3
    )

    @activity.defn(retry_policy=policy)
    async def fails(who: str) -> None:
        seen.setdefault(who, []).append(activity.info().attempt)
        raise ConnectionError("down")

    @workflow.defn
    async def asks(who: str) -> None:
        await fails(who)

    async def main():
        async with await Client.connect(store_url) as client:
            worker = await start(client, asks, activities=[fails], max_cached_workflows=1)
            handles = [
                await client.start_workflow(asks, who, id=who, task_queue=QUEUE) for who in "abc"
            ]
            for handle in handles:
                with pytest.raises(ex.WorkflowFailureError):
                    await asyncio.wait_for(handle.result(), 10)

            await worker.shutdown()

    asyncio.run(main())
    assert seen == {who: [1, 2, 3] for who in "abc"}


class Panic(BaseException):
    """As libraries in other languages raise it."""


@pytest.mark.parametrize("error", [Panic("unwrap"), BaseExceptionGroup("", [Panic("unwrap")])])
def test_a_body_that_panics_has_failed(store_url, error):
    @activity.defn(retry_policy=RetryPolicy(maximum_attempts=1))
    async def panics() -> None:
        raise error

    @workflow.defn
    async def asks() -> None:
        await panics()

    async def main():
        with pytest.raises(ex.WorkflowFailureError) as raised:
            await asyncio.wait_for(execute_workflow(asks, id="w", url=store_url), 10)

        return raised.value.cause

    failure = asyncio.run(main())
    assert "unwrap" in repr(getattr(failure, "exceptions", failure))


def test_a_body_that_exits_leaves_its_run_to_the_next_call_on_the_same_loop(store_url):
    calls = []

    @activity.defn
    async def exits() -> str:
        calls.append(1)
        if len(calls) == 1:
            sys.exit(3)

        return "ok"

    @workflow.defn
    async def asks() -> str:
        return await exits()

    def call() -> asyncio.Task[str]:
        task = loop.create_task(execute_workflow(asks, id="w", url=store_url))
        loop.run_until_complete(asyncio.wait([task], timeout=10))
        return task

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(SystemExit):
            call()

        (first,) = [t for t in asyncio.all_tasks(loop) if "execute_workflow" in repr(t)]
        assert call().result() == "ok"
        assert "SystemExit or Ctrl-C; the run is kept" in str(first.exception())
        loop.run_until_complete(embedded.close())
    finally:
        loop.close()


def test_a_store_that_cannot_be_written_at_the_end_is_closed_all_the_same(store_url, disk):
    async def first():
        run = asyncio.ensure_future(execute_workflow(pays, id="w", url=store_url))
        await eventually(lambda: Scene.began, "the body to begin")
        disk.full = True
        with pytest.raises(ex.StoreError, match="is full"):
            await embedded.close()

        await asyncio.gather(run, return_exceptions=True)

    before = threading.active_count()
    asyncio.run(first())
    disk.full = False
    assert threading.active_count() <= before

    async def second():
        with pytest.raises(ex.WorkflowFailureError):  # the attempt counts as lost
            await asyncio.wait_for(execute_workflow(pays, id="w", url=store_url), 10)

    asyncio.run(second())


def test_a_worker_that_cannot_write_its_end_ends(store_url, disk):
    async def main():
        client = await Client.connect(store_url)
        worker = Worker(client, task_queue=QUEUE, workflows=[pays], activities=[pay])
        running = asyncio.create_task(worker.run())
        await eventually(lambda: worker._membership is not None, "the worker to start")
        disk.full = True
        with pytest.raises(ex.StoreError):
            await worker.shutdown()

        await asyncio.wait_for(running, 5)
        disk.full = False
        await client.close()

    asyncio.run(main())


def test_a_run_that_is_called_while_its_loop_closes_is_not_begun(store_url, disk, monkeypatch):
    find = SqliteStore.find

    async def slow_find(self, *args):
        row = await find(self, *args)
        await asyncio.sleep(0.1)
        return row

    async def main():
        await embedded._loops.of_running_loop(store_url)
        monkeypatch.setattr(SqliteStore, "find", slow_find)
        disk.seconds = 0.1
        run = asyncio.ensure_future(execute_workflow(pays, "late", id="w", url=store_url))
        await asyncio.sleep(0.03)
        await embedded.close()
        disk.seconds = 0.0
        with pytest.raises(ex.StoreClosedError):
            await run

    asyncio.run(main())
    assert Scene.began == []


@pytest.mark.parametrize("many", [33])
def test_bodies_in_threads_that_want_threads_do_not_wait_for_each_other(store_url, many):
    @activity.defn
    def outer(n: int) -> int:
        async def agent() -> int:
            return await activity.to_thread(lambda: n)

        return asyncio.run(agent())

    @workflow.defn
    async def fan() -> int:
        return sum(
            await asyncio.gather(*(workflow.execute_activity(outer, 1) for _ in range(many)))
        )

    async def main():
        return await asyncio.wait_for(execute_workflow(fan, id="w", url=store_url), 20)

    assert asyncio.run(main()) == many


def test_a_run_that_is_purged_while_somebody_reads_it_is_not_found(store_url, monkeypatch):
    @workflow.defn
    async def quick() -> None:
        return None

    load = SqliteStore.load

    async def main():
        async with await Client.connect(store_url) as client:
            async with Worker(client, task_queue=QUEUE, workflows=[quick]):
                await client.execute_workflow(quick, id="w", task_queue=QUEUE)

            async def purged_first(self, row):
                await self.purge("default", QUEUE, time.time() + 9, limit=9)
                return await load(self, row)

            monkeypatch.setattr(SqliteStore, "load", purged_first)
            with pytest.raises(ex.WorkflowNotFoundError, match="was purged"):
                await client.get_workflow_handle("w").result()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("variable", "said", "named"),
    [
        (
            "DURABLE_MAX_CACHED_WORKFLOWS",
            "many",
            "'many' is no whole number: give one, such as 1000",
        ),
        ("DURABLE_RETENTION_DAYS", "a month", "'a month' is no number of days"),
    ],
)
def test_a_variable_that_means_nothing_is_named_and_leaves_nothing_open(
    variable, said, named, store_url, monkeypatch
):
    monkeypatch.setenv(variable, said)

    async def main():
        for _ in range(3):
            with pytest.raises(ValueError, match=named):
                await execute_workflow(pays, id="w", url=store_url)

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() <= before + 1, "that of asyncio itself"


def test_loops_that_are_closed_without_a_word_leave_no_threads_of_bodies(store_url):
    @activity.defn
    def work(n: int) -> int:
        return n

    @workflow.defn
    async def works() -> int:
        return await workflow.execute_activity(work, 1)

    def names() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("durable-activity")]

    before = names()
    for n in range(4):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(execute_workflow(works, id=f"w{n}", url=store_url)) == 1
        for task in asyncio.all_tasks(loop):
            task.cancel()

        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    asyncio.run(execute_workflow(works, id="last", url=store_url))
    deadline = time.monotonic() + 10
    while names() != before and time.monotonic() < deadline:
        time.sleep(0.01)

    assert names() == before
