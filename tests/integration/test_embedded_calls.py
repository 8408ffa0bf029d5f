"""Durable runs from plain code: one process after the other, one loop after the other."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import durable_core
import pytest
from durable_core import Client, activity, embedded, execute_workflow, workflow
from durable_core import exceptions as ex
from support.ledger import Ledger
from support.waiting import eventually, until

APP = """
import asyncio, os, sys, time
from dataclasses import dataclass
from durable_core import activity, execute_workflow, workflow
from support import ledger

@dataclass
class Order:
    id: str
    {field}

@activity.defn
async def step(order: Order, number: int) -> int:
    ledger.from_environment().write(number)
    if number == 2 and "hold" in sys.argv:
        print("holding", flush=True)
        await asyncio.Event().wait()
    return number * 10

@workflow.defn
class Sum:
    @workflow.run
    async def run(self, order: Order) -> int:
        return sum([await workflow.execute_activity(step, args=[order, n]) for n in (1, 2, 3)])

print("result", asyncio.run(execute_workflow(Sum.run, Order("a"), id="sum")))
"""
PLAIN = APP.format(field="")

HOLDING = """
import asyncio, sys
from datetime import timedelta
from durable_core import activity, execute_workflow, workflow
from durable_core.common import RetryPolicy

@activity.defn(retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.2), backoff_coefficient=1))
async def hold() -> str:
    print("holding", flush=True)
    if "hold" in sys.argv:
        await asyncio.Event().wait()
    return "done"

@workflow.defn
async def held() -> str:
    return await hold()

print("result", asyncio.run(execute_workflow(held, id="w")))
"""


place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")
calls: list[object] = []
gates: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _forget():
    calls.clear()
    gates.clear()
    yield
    assert embedded._loops._loops == {}, "every loop of a test has closed what it opened"


@activity.defn
async def twice(number: int) -> int:
    calls.append(number)
    if "twice" in gates:
        await gates["twice"].wait()

    return 2 * number


@activity.defn
def twice_in_a_thread(number: int) -> int:
    calls.append(number)
    return 2 * number


@activity.defn
async def where() -> str:
    return place.get()


@activity.defn
def where_in_a_thread() -> str:
    return place.get()


@workflow.defn
class Doubled:
    @workflow.run
    async def run(self, number: int) -> int:
        first = await workflow.execute_activity(twice, number)
        return await workflow.execute_activity(twice_in_a_thread, first)


@workflow.defn
class Failing:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(twice, 1)
        raise ex.ApplicationError("sold out", type="SoldOut")


@workflow.defn
class Places:
    @workflow.run
    async def run(self) -> list[str]:
        return [
            place.get(),
            await workflow.execute_activity(where),
            await workflow.execute_activity(where_in_a_thread),
        ]


@workflow.defn
class Buggy:
    fixed = False

    @workflow.run
    async def run(self) -> int:
        number = await workflow.execute_activity(twice, 21)
        if not self.fixed:
            raise KeyError("a bug")

        return number


@dataclass
class Order:
    id: str
    cents: int


@workflow.defn
class Ordered:
    @workflow.run
    async def run(self, order: Order) -> str:
        return f"{order.id} for {order.cents}"


@workflow.defn
class Counted:
    @workflow.run
    async def run(self, numbers: dict[str, int]) -> int:
        return sum(numbers.values())


# Calling again


def test_a_run_that_is_killed_again_and_again_goes_on_whenever_it_is_called(processes, store_url):
    for n in range(8):
        process = processes.start(HOLDING, "hold", DURABLE_URL=store_url)
        until(lambda p=process: "holding" in p.output, "the body to begin")
        said = "hold was under way" in process.output
        assert said == (n > 2), "a wait is said, lest it look like a hang"
        process.kill()

    last = processes.run(HOLDING, DURABLE_URL=store_url).checked().output
    assert "run 'w': hold was under way 8 times when its process ended, and is tried again" in last
    assert last.endswith("result done\n")


def test_a_run_gives_its_result(store_url):
    assert asyncio.run(execute_workflow(Doubled.run, 5, id="five", url=store_url)) == 20
    assert calls == [5, 10]


def test_the_same_id_again_gives_the_recorded_result_and_runs_nothing(store_url):
    for _ in range(3):
        assert asyncio.run(execute_workflow(Doubled.run, 5, id="five", url=store_url)) == 20

    assert calls == [5, 10]


def test_the_same_id_again_after_a_failure_raises_it_again_and_runs_nothing(store_url):
    for _ in range(2):
        with pytest.raises(ex.WorkflowFailureError, match="run 'f' failed: .*sold out") as caught:
            asyncio.run(execute_workflow(Failing, id="f", url=store_url))

        assert isinstance(caught.value.cause, ex.ApplicationError)
        assert caught.value.cause.type == "SoldOut"

    assert calls == [1]


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_an_id_of_other_input_is_refused_with_the_place_and_the_remedy(closed, store_url):
    async def main():
        gates["twice"] = asyncio.Event()
        first = asyncio.create_task(execute_workflow(Doubled.run, 5, id="x", url=store_url))
        await eventually(lambda: calls, "the first call to run")
        if closed:
            gates["twice"].set()
            await first

        with pytest.raises(ex.WorkflowAlreadyStartedError) as caught:
            await execute_workflow(Doubled.run, 6, id="x", url=store_url)

        gates["twice"].set()
        assert await first == 20
        return caught.value

    error = asyncio.run(main())
    for part in ("'x'", "other input", "$[0]: recorded 5, now 6", "one id per input", "'x/2'"):
        assert part in str(error)

    assert error.workflow_id == "x"


def test_an_id_of_another_workflow_is_refused(store_url):
    asyncio.run(execute_workflow(Doubled.run, 5, id="x", url=store_url))

    with pytest.raises(ex.WorkflowAlreadyStartedError, match="'Doubled', not of 'Failing'"):
        asyncio.run(execute_workflow(Failing, id="x", url=store_url))


def test_equal_input_may_be_spelt_differently(store_url):
    for order in ({"cents": 1, "id": 2}, {"id": 2, "cents": 1}):
        assert asyncio.run(execute_workflow(Counted.run, order, id="o", url=store_url)) == 3


def test_large_input_is_compared_too(store_url):
    big = "x" * 100_000
    asyncio.run(execute_workflow(Ordered.run, Order(big, 1), id="o", url=store_url))
    asyncio.run(execute_workflow(Ordered.run, Order(big, 1), id="o", url=store_url))

    with pytest.raises(ex.WorkflowAlreadyStartedError, match="other input"):
        asyncio.run(execute_workflow(Ordered.run, Order(big, 2), id="o", url=store_url))


def test_a_field_that_was_added_with_a_default_makes_no_other_input(processes, store_url, tmp_path):
    surroundings = {"DURABLE_URL": store_url, "LEDGER": tmp_path / "ledger"}
    first = processes.start(PLAIN, "hold", **surroundings)
    until(lambda: "holding" in first.output or not first.running, "the second step")
    assert first.kill().killed
    new_code = APP.format(field='currency: str = "EUR"')

    assert processes.run(new_code, **surroundings).checked().output == "result 60\n"
    assert Ledger(tmp_path / "ledger").counts() == {"step/1": 1, "step/2": 2, "step/3": 1}


def test_calls_with_one_id_at_the_same_time_are_one_run(store_url):
    async def main():
        return await asyncio.gather(
            *(execute_workflow(Doubled.run, 5, id="five", url=store_url) for _ in range(20))
        )

    assert asyncio.run(main()) == [20] * 20
    assert calls == [5, 10]


def test_a_run_that_ended_between_looking_and_starting_is_not_started_again(store_url):
    async def main():
        first = await embedded.run(Doubled.run, (5,), id="five", url=store_url)
        (opening,) = embedded._loops._loops[asyncio.get_running_loop()].values()
        store = opening.result().client.store
        find, looked = store.find, []

        async def too_early(*args):
            looked.append(args)
            return await find(*args) if len(looked) > 1 else None

        store.find = too_early
        second = await embedded.run(Doubled.run, (5,), id="five", url=store_url)
        assert (second.run_id, second.result) == (first.run_id, b"20")
        assert len(looked) == 2

    asyncio.run(main())
    assert calls == [5, 10]


def test_calls_with_many_ids_at_the_same_time_are_many_runs(store_url):
    async def main():
        return await asyncio.gather(
            *(execute_workflow(Doubled.run, n, id=f"n{n}", url=store_url) for n in range(100))
        )

    assert asyncio.run(main()) == [4 * n for n in range(100)]


def test_a_caller_that_gives_up_leaves_the_run_to_the_others(store_url):
    async def main():
        gates["twice"] = asyncio.Event()
        first, second = (
            asyncio.create_task(execute_workflow(Doubled.run, 5, id="x", url=store_url))
            for _ in range(2)
        )
        await eventually(lambda: calls, "the run to begin")
        first.cancel()
        gates["twice"].set()
        assert await second == 20
        assert first.cancelled()

    asyncio.run(main())
    assert calls == [5, 10]


def test_a_caller_that_gives_up_while_the_store_is_opened_does_not_take_others_along(store_url):
    async def main():
        first, second = (
            asyncio.create_task(execute_workflow(Doubled.run, 5, id=id, url=store_url))
            for id in ("x", "y")
        )
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 20
        assert first.cancelled()

    asyncio.run(main())


def test_a_store_that_cannot_be_opened_is_an_error_for_all_and_can_be_tried_again(store_path):
    store_path.write_bytes(b"no database " * 100)
    url = f"sqlite:///{store_path}"

    async def main():
        found = await asyncio.gather(
            *(execute_workflow(Doubled.run, 5, id="x", url=url) for _ in range(2)),
            return_exceptions=True,
        )
        assert [type(e) for e in found] == [ex.StoreCorruptError] * 2
        store_path.unlink()
        assert await execute_workflow(Doubled.run, 5, id="x", url=url) == 20

    asyncio.run(main())


def test_a_run_without_an_id_gets_one(store_url):
    async def main():
        first = await embedded.run(Doubled.run, (5,), url=store_url)
        second = await embedded.run(Doubled.run, (5,), url=store_url)
        assert first.workflow_id != second.workflow_id
        again = await embedded.run(Doubled.run, (5,), id=first.workflow_id, url=store_url)
        assert (again.run_id, again.result) == (first.run_id, b"20")

    asyncio.run(main())
    assert len(calls) == 4


# Bugs


def test_the_caller_gets_a_bug_as_it_is_and_fixed_code_goes_on_from_the_record(
    store_url, monkeypatch
):
    for _ in range(2):
        with pytest.raises(KeyError, match="a bug"):
            asyncio.run(execute_workflow(Buggy.run, id="b", url=store_url))

    assert calls == [21]
    monkeypatch.setattr(Buggy, "fixed", True)
    assert asyncio.run(execute_workflow(Buggy.run, id="b", url=store_url)) == 42
    assert calls == [21]


def test_all_who_wait_for_a_run_get_its_bug(store_url):
    async def main():
        return await asyncio.gather(
            *(execute_workflow(Buggy.run, id="b", url=store_url) for _ in range(3)),
            return_exceptions=True,
        )

    assert [repr(e) for e in asyncio.run(main())] == ["KeyError('a bug')"] * 3
    assert calls == [21]


# Processes


def test_a_second_process_with_the_id_gets_the_result_of_the_first(processes, store_url, tmp_path):
    async def main():
        async with await Client.connect(store_url) as client:
            return await client.get_workflow_handle("sum").describe()

    surroundings = {"DURABLE_URL": store_url, "LEDGER": tmp_path / "ledger"}
    both = [processes.start(PLAIN, **surroundings) for _ in range(2)]

    assert [p.wait().checked().output for p in both] == ["result 60\n"] * 2
    assert Ledger(tmp_path / "ledger").counts() == {"step/1": 1, "step/2": 1, "step/3": 1}
    assert len({e.pid for e in Ledger(tmp_path / "ledger").effects()}) == 1
    assert asyncio.run(main()).status.value == "completed"


def test_a_second_process_goes_on_when_the_first_is_killed(processes, store_url, tmp_path):
    surroundings = {"DURABLE_URL": store_url, "LEDGER": tmp_path / "ledger"}
    first = processes.start(PLAIN, "hold", **surroundings)
    until(lambda: "holding" in first.output or not first.running, "the second step")
    second = processes.start(PLAIN, **surroundings)
    store_file = str(tmp_path / "store.db")
    until(lambda: store_file in open_files(second.pid), "the second process to open the store")
    assert first.kill().killed

    assert second.wait().checked().output == "result 60\n"
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.counts() == {"step/1": 1, "step/2": 2, "step/3": 1}
    assert [e.pid for e in ledger.effects()] == [first.pid] * 2 + [second.pid] * 2
    assert [e.attempt for e in ledger.effects()] == [1, 1, 2, 1]


def open_files(pid: int | str) -> set[str]:
    """Return what a process has open, as far as it stays open meanwhile."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(link))

    return found


# Loops


def test_one_loop_after_the_other_in_one_process(store_url):
    for number in range(5):
        url_result = asyncio.run(
            execute_workflow(Doubled.run, number, id=f"n{number}", url=store_url)
        )
        assert url_result == 4 * number


def test_a_run_that_the_first_loop_left_is_continued_by_the_next(store_url):
    async def leave():
        gates["twice"] = asyncio.Event()
        asyncio.ensure_future(execute_workflow(Doubled.run, 5, id="x", url=store_url))
        await eventually(lambda: calls, "the run to begin")

    asyncio.run(leave())
    gates.clear()
    assert asyncio.run(execute_workflow(Doubled.run, 5, id="x", url=store_url)) == 20
    assert calls == [5, 5, 10]


def test_a_run_of_a_loop_that_was_closed_without_ado_is_continued_by_the_next(store_url):
    async def leave():
        gates["twice"] = asyncio.Event()
        asyncio.ensure_future(execute_workflow(Doubled.run, 5, id="x", url=store_url))
        await eventually(lambda: calls, "the run to begin")

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()
    gates.clear()

    assert asyncio.run(execute_workflow(Doubled.run, 5, id="x", url=store_url)) == 20
    assert calls == [5, 5, 10]
    # asyncio logs each task that such a loop left behind when it is collected: now, not later.
    del loop
    gc.collect()


def test_loops_in_two_threads_share_a_store(store_url):
    results: dict[str, int] = {}

    def work(name: str) -> None:
        results[name] = asyncio.run(
            execute_workflow(Doubled.run, 5, id=f"own-{name}", url=store_url)
        )
        results[f"shared {name}"] = asyncio.run(
            execute_workflow(Doubled.run, 7, id="shared", url=store_url)
        )

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join(30)

    assert results == {"a": 20, "b": 20, "shared a": 28, "shared b": 28}
    assert calls.count(7) == 1


def test_two_stores_are_served_by_one_loop(tmp_path):
    async def main():
        urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
        return await asyncio.gather(
            *(execute_workflow(Doubled.run, 5, id="same", url=url) for url in urls)
        )

    assert asyncio.run(main()) == [20, 20]
    assert sorted(calls) == [5, 5, 10, 10]


def test_a_loop_ends_without_a_trace(store_url, tmp_path, recwarn, caplog):
    threads = set(threading.enumerate())
    for number in range(3):
        asyncio.run(execute_workflow(Doubled.run, number, id=f"n{number}", url=store_url))

    gc.collect()
    until(lambda: set(threading.enumerate()) <= threads, "the threads to end")
    assert [name for name in open_files("self") if str(tmp_path) in name] == []
    assert list((tmp_path / "store.db-workers").glob("*.lock")) == []
    assert [str(w.message) for w in recwarn] == []
    assert [r.message for r in caplog.records if r.levelname in {"WARNING", "ERROR"}] == []


def test_close_ends_everything_while_the_loop_goes_on(store_url, tmp_path):
    async def main():
        assert await execute_workflow(Doubled.run, 5, id="x", url=store_url) == 20
        await embedded.close()
        assert list((tmp_path / "store.db-workers").glob("*.lock")) == []
        assert await execute_workflow(Doubled.run, 6, id="y", url=store_url) == 24

    asyncio.run(main())


def test_a_program_that_is_interrupted_ends_in_order_and_goes_on_next_time(
    processes, store_url, tmp_path
):
    surroundings = {"DURABLE_URL": store_url, "LEDGER": tmp_path / "ledger"}
    first = processes.start(PLAIN, "hold", **surroundings)
    until(lambda: "holding" in first.output or not first.running, "the second step")
    first.send(signal.SIGINT)
    ended = first.wait()

    assert ended.code != 0
    assert "KeyboardInterrupt" in ended.output
    assert list((tmp_path / "store.db-workers").glob("*.lock")) == []
    assert processes.run(PLAIN, **surroundings).checked().output == "result 60\n"
    assert Ledger(tmp_path / "ledger").counts() == {"step/1": 1, "step/2": 2, "step/3": 1}


# Context


def test_code_and_bodies_see_the_context_of_the_caller(store_url):
    async def main():
        place.set("Berlin")
        return await execute_workflow(Places.run, id="p", url=store_url)

    assert asyncio.run(main()) == ["Berlin"] * 3


def test_runs_of_different_callers_see_each_their_own_context(store_url):
    async def call(name):
        place.set(name)
        return await execute_workflow(Places.run, id=name, url=store_url)

    async def main():
        return await asyncio.gather(*(call(name) for name in ("Rome", "Oslo")))

    assert asyncio.run(main()) == [["Rome"] * 3, ["Oslo"] * 3]


def test_bodies_run_on_the_loop_of_the_caller(store_url):
    loops = []

    @activity.defn(name="loop of the body")
    async def body() -> None:
        loops.append(asyncio.get_running_loop())

    @workflow.defn(name="Looked")
    class Looked:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity(body)

    async def main():
        await execute_workflow(Looked.run, id="l", url=store_url)
        return asyncio.get_running_loop()

    assert [asyncio.run(main())] == loops


# The default store


def test_without_a_url_the_default_store_is_used(tmp_path):
    assert asyncio.run(durable_core.execute_workflow(Doubled.run, 5, id="x")) == 20
    assert (tmp_path / ".durable" / "durable.db").exists()
