"""Clients and workers: starting, waiting, looking, retrying, failing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from durable_core import Client, RetryPolicy, Worker, activity, workflow
from durable_core.client import WorkflowExecutionStatus
from durable_core.exceptions import (
    ActivityError,
    ApplicationError,
    RetryState,
    TimeoutError,  # noqa: A004  # the one that is meant
    TimeoutType,
    WorkflowAlreadyStartedError,
    WorkflowFailureError,
    WorkflowNotFoundError,
)
from support import crash_app
from support.crash_checks import APP
from support.ledger import Ledger
from support.rows import new_row
from support.waiting import eventually

QUEUE = "orders"
QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_attempts=3)


@dataclass
class Item:
    name: str
    cents: int


class OutOfStockError(Exception):
    def __init__(self, name, left):
        super().__init__(name, left)
        self.left = left


class Bodies:
    """What the activities below do, chosen by the test that runs them."""

    def __init__(self):
        self.renew()

    def renew(self):
        self.calls = []
        self.go = asyncio.Event()
        self.block = threading.Event()


bodies = Bodies()


@pytest.fixture(autouse=True)
def _fresh():
    bodies.renew()
    yield
    bodies.block.set()


@activity.defn
async def price(item: Item) -> int:
    return item.cents


@activity.defn
def price_in_a_thread(item: Item) -> int:
    assert threading.current_thread() is not threading.main_thread()
    return item.cents


@activity.defn
async def waits() -> str:
    bodies.calls.append("waits")
    await bodies.go.wait()
    return "waited"


@activity.defn
async def fails(error: str) -> None:
    bodies.calls.append(activity.info().attempt)
    match error:
        case "stock":
            raise OutOfStockError("apple", 3)
        case "type":
            raise TypeError("a wrong call")
        case "final":
            raise ApplicationError("no", {"why": 1}, type="Final", non_retryable=True)
        case "typed":
            raise ApplicationError("no", type="Typed")
        case "soon":
            raise ApplicationError("no", next_retry_delay=timedelta(milliseconds=1))
        case _:
            raise ConnectionError("no route")


@activity.defn
async def hangs() -> str:
    bodies.calls.append(activity.info().attempt)
    if activity.info().attempt == 1:
        await asyncio.Event().wait()

    return "the second attempt"


@activity.defn
def hangs_in_a_thread() -> str:
    bodies.calls.append(activity.info().attempt)
    if activity.info().attempt == 1:
        bodies.block.wait(30)

    return "the second attempt"


@workflow.defn
class Order:
    @workflow.run
    async def run(self, items: list[Item], discount: int) -> Item:
        prices = [await workflow.execute_activity(price, item) for item in items]
        prices += [await workflow.execute_activity(price_in_a_thread, items[0])]
        await asyncio.sleep(0.01)
        return Item("total", sum(prices) - discount)


@workflow.defn
class Waiting:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(waits)


@workflow.defn
class Calling:
    """Calls one activity with options of the test's choice."""

    @workflow.run
    async def run(self, name: str, args: list[str], options: str) -> object:
        return await workflow.execute_activity(name, args=args, **OPTIONS[options])


OPTIONS = {
    "quick": {"retry_policy": QUICK},
    "typed": {
        "retry_policy": RetryPolicy(
            initial_interval=timedelta(milliseconds=1),
            maximum_attempts=3,
            non_retryable_error_types=["Typed", "ConnectionError"],
        )
    },
    "slow": {"retry_policy": RetryPolicy(initial_interval=timedelta(hours=1), maximum_attempts=3)},
    "timeout": {
        "retry_policy": RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=2),
        "start_to_close_timeout": timedelta(seconds=0.2),
    },
}
WORKFLOWS = [Order, Waiting, Calling]
ACTIVITIES = [price, price_in_a_thread, waits, fails, hangs, hangs_in_a_thread]


@contextlib.asynccontextmanager
async def working(url, **options):
    """A client and a worker on the running loop."""
    options = {"workflows": WORKFLOWS, "activities": ACTIVITIES, **options}
    async with (
        await Client.connect(url, identity="client") as client,
        Worker(client, task_queue=QUEUE, **options),
    ):
        yield client


def call(url, name, *args, options="quick"):
    """Run `Calling` to its end; return its result or what it failed with, and its attempts."""

    async def main():
        async with working(url, identity="the worker") as client:
            handle = await client.start_workflow(
                Calling.run, args=[name, list(args), options], id="w", task_queue=QUEUE
            )
            try:
                outcome = await handle.result()
            except WorkflowFailureError as error:
                outcome = error.cause

            (entry,) = [
                e for e in (await handle.fetch_history()).timeline() if e.kind == "activity"
            ]
            return outcome, entry

    return asyncio.run(main())


# Starting, waiting and looking


def test_a_workflow_is_executed_and_its_result_has_its_type(store_url):
    async def main():
        async with working(store_url) as client:
            return await client.execute_workflow(
                Order.run,
                args=[[Item("apple", 50), Item("pear", 70)], 20],
                id="w",
                task_queue=QUEUE,
            )

    assert asyncio.run(main()) == Item("total", 150)


def test_the_result_of_a_run_that_is_loaded_here_is_not_asked_of_the_store(store_url, monkeypatch):
    async def main():
        async with working(store_url) as client:
            handle = await client.start_workflow(
                Order.run, args=[[Item("apple", 50)], 20], id="w", task_queue=QUEUE
            )
            monkeypatch.setattr(client.store, "find", None)
            result = await handle.result()
            monkeypatch.undo()
            assert await handle.result() == result == Item("total", 80)

    asyncio.run(main())


def test_a_caller_that_waits_long_for_another_process_looks_less_often(store_url):
    async def main():
        # Another client is to this one what another process is.
        async with await Client.connect(store_url) as client, working(store_url) as owner:
            handle = await owner.start_workflow(Waiting.run, id="r", task_queue=QUEUE)
            looks, changed = [], client.store.changed
            client.store.changed = lambda: looks.append(1) or changed()
            waiting = asyncio.create_task(client.get_workflow_handle("r").result())
            await asyncio.sleep(3)
            bodies.go.set()
            assert await waiting == await handle.result()
            return len(looks)

    # 600, if it looked every 5 ms; a slow machine makes fewer of them.
    assert 10 < asyncio.run(main()) < 200


def test_a_handle_describes_a_run_while_it_is_open_and_after_its_end(store_url):
    async def main():
        async with working(store_url) as client:
            handle = await client.start_workflow(Waiting.run, id="w", task_queue=QUEUE)
            open_ = await handle.describe()
            assert (open_.id, open_.workflow_type, open_.task_queue) == ("w", "Waiting", QUEUE)
            assert open_.status is WorkflowExecutionStatus.RUNNING
            assert open_.close_time is None
            assert open_.run_id == handle.run_id
            assert datetime.now(UTC) - open_.start_time < timedelta(minutes=1)
            bodies.go.set()
            assert await handle.result() == "waited"
            closed = await client.get_workflow_handle("w").describe()
            assert closed.status is WorkflowExecutionStatus.COMPLETED
            assert closed.close_time >= closed.start_time == open_.start_time
            assert closed.history_length == 2
            assert closed.stalled is None

    asyncio.run(main())


def test_runs_are_listed_newest_first_by_type_status_and_number(store_url):
    async def main():
        async with working(store_url) as client:
            order = [[Item("apple", 1)], 0]
            for i in range(3):
                await client.execute_workflow(Order.run, args=order, id=f"o{i}", task_queue=QUEUE)

            await client.start_workflow(Waiting.run, id="w", task_queue=QUEUE)

            async def ids(query=None, **more):
                return [e.id async for e in client.list_workflows(query, **more)]

            assert await ids() == ["w", "o2", "o1", "o0"]
            assert await ids(limit=2) == ["w", "o2"]
            assert await ids("WorkflowType = 'Order'") == ["o2", "o1", "o0"]
            assert await ids("ExecutionStatus = 'Running'") == ["w"]
            assert await ids("ExecutionStatus = 'Failed'") == []
            async with await Client.connect(store_url, namespace="elsewhere") as other:
                assert [e async for e in other.list_workflows()] == []

    asyncio.run(main())


def test_the_history_tells_what_happened_in_order(store_url):
    async def main():
        async with working(store_url) as client:
            await client.execute_workflow(
                Order.run, args=[[Item("apple", 50)], 0], id="w", task_queue=QUEUE
            )
            return await client.get_workflow_handle("w").fetch_history()

    history = asyncio.run(main())
    entries = history.timeline()
    assert [(e.kind, e.name, e.status) for e in entries] == [
        ("started", "Order", "started"),
        ("activity", "price", "completed"),
        ("activity", "price_in_a_thread", "completed"),
        ("timer", "", "fired"),
        ("closed", "", "completed"),
    ]
    assert entries[0].args == [[{"name": "apple", "cents": 50}], 0]
    assert entries[1].args == [{"name": "apple", "cents": 50}]
    assert entries[1].result == 50
    times = [e.time for e in entries]
    assert times == sorted(times)
    assert history.to_json_dict()["workflow_id"] == "w"


def test_a_run_that_does_not_exist_is_not_found(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = client.get_workflow_handle("nobody", run_id="none")
            for ask in (handle.describe, handle.result, handle.fetch_history):
                with pytest.raises(WorkflowNotFoundError, match=r"'nobody' and run id 'none'"):
                    await ask()

    asyncio.run(main())


@pytest.mark.parametrize("local", [True, False])
def test_a_second_start_with_an_open_id_is_refused_and_with_a_closed_one_is_a_new_run(
    local, store_url
):
    async def main():
        async with working(store_url) as client, await Client.connect(store_url) as other:
            starter = client if local else other
            first = await client.start_workflow(Waiting.run, id="w", task_queue=QUEUE)
            with pytest.raises(
                WorkflowAlreadyStartedError, match=r"'w' is open \(running\): use its handle"
            ) as e:
                await starter.start_workflow(Waiting.run, id="w", task_queue=QUEUE)

            assert e.value.workflow_id == "w"
            bodies.go.set()
            assert await first.result() == "waited"
            second = await starter.start_workflow(Waiting.run, id="w", task_queue=QUEUE)
            assert await second.result() == "waited"
            assert first.run_id != second.run_id
            assert (await client.get_workflow_handle("w").describe()).run_id == second.run_id
            assert (await first.describe()).run_id == first.run_id

    asyncio.run(main())


def test_many_workflows_run_at_once(store_url):
    async def main():
        async with working(store_url) as client, await Client.connect(store_url) as other:
            started = time.monotonic()
            results = await asyncio.gather(
                *(
                    (client if i % 2 else other).execute_workflow(
                        Order.run, args=[[Item("apple", i)], 0], id=f"w{i}", task_queue=QUEUE
                    )
                    for i in range(60)
                )
            )
            assert [r.cents for r in results] == [2 * i for i in range(60)]
            return time.monotonic() - started

    # One after the other they would sleep for longer than the poller takes to find them.
    assert asyncio.run(main()) < 15


def test_a_worker_of_another_process_executes_what_a_client_starts(processes, tmp_path, store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            handles = [
                await client.start_workflow("Mixed", 100, id=f"w{i}", task_queue=crash_app.QUEUE)
                for i in range(3)
            ]
            assert [await h.result() for h in handles] == [crash_app.EXPECTED] * 3

    ledger = Ledger(tmp_path / "ledger")
    processes.start(APP, "worker", DURABLE_URL=store_url, LEDGER=ledger.path)
    asyncio.run(main())
    assert set(ledger.counts("w1").values()) == {1}


def test_a_worker_leaves_other_queues_and_unknown_workflows_alone(store_url):
    async def main():
        async with working(store_url, workflows=[Order]) as client:
            await client.start_workflow(Waiting.run, id="unknown", task_queue=QUEUE)
            await client.start_workflow(Order.run, args=[[], 0], id="queue", task_queue="other")
            await client.execute_workflow(
                Order.run, args=[[Item("apple", 1)], 0], id="w", task_queue=QUEUE
            )
            for id in ("unknown", "queue"):
                described = await client.get_workflow_handle(id).describe()
                assert (described.history_length, described.stalled) == (0, None)

    asyncio.run(main())


class OneChange:
    """A store whose one run ends while somebody reads it, and while another waiter looks."""

    def __init__(self):
        self.reads = 0
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.changes = [False]

    def changed(self):
        return self.changes.pop() if len(self.changes) > 1 else self.changes[0]

    async def find(self, namespace, workflow_id, run_id=None):
        self.reads += 1
        self.reading.set()
        await self.go_on.wait()
        return new_row("r", workflow_id=workflow_id)


def test_a_change_that_another_waiter_sees_during_a_read_is_not_missed():
    async def main():
        store = OneChange()
        client = Client(store, namespace="default", identity="me")
        waiter = asyncio.create_task(client.get_workflow_handle("w").result())
        await store.reading.wait()
        other = asyncio.create_task(client.changes.wait(timeout=30, interval=0.001))
        store.changes.append(True)
        await other
        store.go_on.set()
        # Without a further change it would look again after a second.
        await eventually(lambda: store.reads > 1, "a second look", timeout=0.5)
        waiter.cancel()
        client.changes.close()

    asyncio.run(main())


# Retries and timeouts


def test_every_attempt_is_in_the_history_with_times_worker_and_failure(store_url):
    error, entry = call(store_url, "fails", "route")
    assert isinstance(error, ActivityError)
    assert (error.attempts, error.retry_state) == (3, RetryState.MAXIMUM_ATTEMPTS_REACHED)
    assert error.activity_type == "fails"
    assert isinstance(error.cause, ConnectionError)
    assert bodies.calls == [1, 2, 3]
    assert [a.number for a in entry.attempts] == [1, 2, 3]
    for attempt in entry.attempts:
        assert attempt.outcome == "failed"
        assert attempt.worker == "the worker"
        assert attempt.started <= attempt.ended
        assert attempt.failure.type == "ConnectionError"
        assert attempt.failure.message == "no route"
        assert "in fails" in attempt.failure.stack

    delays = [later.started - earlier.ended for earlier, later in pairwise(entry.attempts)]
    assert delays[0] >= 0.019
    assert delays[1] >= 0.039


def test_a_retry_is_logged_as_a_warning_with_its_delay(store_url, caplog):
    with caplog.at_level(logging.WARNING, "durable_core.worker"):
        call(store_url, "fails", "route")

    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [
        f"activity 'fails' of run 'w' failed (attempt {n}): ConnectionError: no route; next "
        "attempt in 0.0 s. See: durable show w"
        for n in (1, 2)
    ]


def test_an_exception_comes_back_as_itself(store_url):
    error, _ = call(store_url, "fails", "stock")
    assert type(error.cause) is OutOfStockError
    assert error.cause.args == ("apple", 3)
    assert error.cause.left == 3


def test_an_application_error_that_is_not_retryable_keeps_type_and_details(store_url):
    error, entry = call(store_url, "fails", "final", options="slow")
    assert isinstance(error.cause, ApplicationError)
    assert (error.cause.type, error.cause.details) == ("Final", ({"why": 1},))
    assert error.retry_state is RetryState.NON_RETRYABLE_FAILURE
    assert len(entry.attempts) == 1


@pytest.mark.parametrize(("error", "options"), [("typed", "typed"), ("route", "typed")])
def test_error_types_of_the_policy_are_not_retried(error, options, store_url):
    failure, _ = call(store_url, "fails", error, options=options)
    assert failure.retry_state is RetryState.NON_RETRYABLE_FAILURE
    assert bodies.calls == [1]


def test_a_type_error_is_not_retried(store_url):
    failure, _ = call(store_url, "fails", "type", options="slow")
    assert type(failure.cause) is TypeError
    assert bodies.calls == [1]


def test_an_error_may_choose_the_delay_of_the_next_attempt(store_url):
    failure, _ = call(store_url, "fails", "soon", options="slow")
    assert failure.attempts == 3
    assert bodies.calls == [1, 2, 3]


@pytest.mark.parametrize("name", ["hangs", "hangs_in_a_thread"])
def test_a_body_that_takes_too_long_times_out_and_is_tried_again(name, store_url):
    result, entry = call(store_url, name, options="timeout")
    assert result == "the second attempt"
    assert [a.outcome for a in entry.attempts] == ["timed_out", "completed"]
    assert "start-to-close timeout of 0.2 s" in entry.attempts[0].failure.message


def test_bodies_that_hang_in_threads_do_not_hold_up_others(store_url):
    async def main():
        async with working(store_url) as client:
            hanging = [
                await client.start_workflow(
                    Calling.run,
                    args=["hangs_in_a_thread", [], "quick"],
                    id=f"hangs-{i}",
                    task_queue=QUEUE,
                )
                for i in range(3)
            ]
            await eventually(lambda: len(bodies.calls) == 3, "the threads to hang")
            order = [[Item("apple", 1)], 0]
            await client.execute_workflow(Order.run, args=order, id="w", task_queue=QUEUE)
            bodies.block.set()
            assert [await h.result() for h in hanging] == ["the second attempt"] * 3

    asyncio.run(main())


def test_an_activity_that_always_times_out_fails_with_the_timeout(store_url):
    failure, _ = call(store_url, "waits", options="timeout")
    assert isinstance(failure.cause, TimeoutError)
    assert failure.cause.type is TimeoutType.START_TO_CLOSE
    assert bodies.calls == ["waits", "waits"]


# Failing


def test_a_failed_run_raises_its_cause_in_every_process(store_url):
    call(store_url, "fails", "final")

    async def main():
        async with await Client.connect(store_url) as client:
            handle = client.get_workflow_handle("w")
            with pytest.raises(WorkflowFailureError, match=r"run 'w' failed.*durable show w") as e:
                await handle.result()

            assert (await handle.describe()).status is WorkflowExecutionStatus.FAILED
            assert isinstance(e.value.cause, ActivityError)
            assert isinstance(e.value.cause.cause, ApplicationError)
            assert e.value.cause.cause.type == "Final"

    asyncio.run(main())
