from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from durable_core import workflow
from durable_core.adapter import Unit, current_engine
from durable_core.exceptions import (
    ActivityError,
    DecodeError,
    NonDeterminismError,
)
from durable_core.history import (
    CancelActivity,
    CancelTimer,
    ScheduleActivity,
    StartTimer,
    Taken,
    TimerFired,
)
from support import engine_flows
from support.engine_flows import FLOWS, echo, fail, slow
from support.engine_runs import Driver, flow, live, new_start

ORDERS = ["first", "last", "together", "1", "2", "3"]


# Every way of waiting


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", FLOWS)
def test_every_prefix_replays_to_the_same_commands_and_result(name, order):
    driver = Driver(FLOWS[name][0]).run_to_end(order)

    driver.check_replays()


@pytest.mark.parametrize("name", [n for n, (_, expected) in FLOWS.items() if expected is not None])
def test_asyncio_does_what_it_does_elsewhere(name):
    target, expected = FLOWS[name]

    assert live(target).result == expected


@pytest.mark.parametrize(
    ("order", "expected"), [("first", ["a", "b", "c"]), ("last", ["c", "b", "a"])]
)
@pytest.mark.parametrize("name", ["as_completed", "wait_first_completed"])
def test_results_that_came_in_another_order_come_in_that_order_on_replay(name, order, expected):
    async def by_wait():
        waiting, seen = {asyncio.create_task(engine_flows.call(v)) for v in "abc"}, []
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            seen.extend(t.result() for t in done)

        return seen

    target = FLOWS[name][0] if name == "as_completed" else flow(by_wait)
    driver = Driver(target).run_to_end(order)

    assert driver.result == expected
    assert driver.replay().result == expected


def test_as_completed_over_coroutines_starts_them_in_the_order_in_which_they_were_given():
    async def code():
        calls = [engine_flows.call(n) for n in range(60)]
        return [await f for f in asyncio.as_completed(calls)]

    driver = Driver(flow(code))
    first = driver.begin()
    driver.close()

    assert [json.loads(c.args.data) for c in first.commands] == [[n] for n in range(60)]


def test_results_of_one_activation_arrive_in_the_order_of_its_events():
    async def code():
        seen = []

        async def one(value):
            seen.append(await engine_flows.call(value))

        await asyncio.gather(*(one(n) for n in range(4)))
        return seen

    driver = Driver(flow(code))
    driver.begin()
    driver.activate(*[driver.completed(seq, f"result {seq}") for seq in (3, 1, 4, 2)])

    assert driver.result == ["result 3", "result 1", "result 4", "result 2"]
    driver.check_replays()


def run_elsewhere(lines: list[str], hash_seed: str) -> list[dict]:
    tests = Path(engine_flows.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "support.engine_flows"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(tests)},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_every_record_replays_in_another_process_with_another_hash_seed(hash_seed):
    drivers = {(n, o): Driver(t).run_to_end(o) for n, (t, _) in FLOWS.items() for o in ("1", "2")}
    lines = [json.dumps(d.saved() | {"flow": name}) for (name, _), d in drivers.items()]

    found = run_elsewhere(lines, hash_seed)

    assert [f["outcome"] for f in found] == [d.outcome for d in drivers.values()]


def test_time_random_uuids_ids_and_hashes_are_equal_in_another_process():
    driver = live(engine_flows.witness)
    line = json.dumps(driver.saved() | {"flow": "witness"})

    (found,) = run_elsewhere([line], "99")

    assert found["outcome"] == driver.result
    assert found["fresh"] == driver.result


def test_another_seed_gives_other_random_numbers_uuids_and_hashes():
    target = engine_flows.witness
    one, other = (
        Driver(target, start=new_start("witness", seed=seed)).run_to_end().result
        for seed in ("aa", "bb")
    )

    assert one[0] == other[0]
    for i in (2, 3, 4, 6):
        assert one[i] != other[i]


def test_hashes_of_tasks_do_not_repeat_within_a_run():
    async def code():
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(2000)]
        return len({hash(t) for t in tasks})

    assert live(code).result == 2000


# Time


def test_now_is_aware_and_utc():
    async def code():
        assert workflow.now().utcoffset() == timedelta(0)

    live(code)


def test_a_result_behind_its_timeout_in_one_activation_is_too_late_on_every_python():
    driver = Driver(FLOWS["wait_for_in_time"][0])
    driver.begin()
    (timer,) = driver.run.timers
    driver.activate(TimerFired(seq=timer), driver.completed("echo", "a"))

    assert isinstance(driver.failure, TimeoutError)
    driver.check_replays()


def test_a_timer_says_when_it_is_due():
    async def code():
        await asyncio.sleep(90)

    driver = Driver(flow(code))
    (timer,) = driver.begin().commands
    driver.fire()

    assert timer == StartTimer(seq=1, delay=90, due=driver.start.time + 90, occurrence=1)
    assert driver.time == timer.due
    driver.check_replays()


def test_timers_made_and_cancelled_within_an_activation_leave_no_trace():
    async def code():
        for _ in range(3):
            async with asyncio.timeout(30):
                await asyncio.sleep(0)

        await asyncio.sleep(5)
        async with asyncio.timeout(60):
            await asyncio.sleep(0)

        await asyncio.sleep(7)

    driver = live(code)

    assert [(t.delay, t.occurrence) for t in driver.commands(StartTimer)] == [(5, 1), (7, 2)]
    assert driver.commands(CancelTimer) == []
    driver.check_replays()


def test_firing_a_timer_that_was_withdrawn_does_nothing():
    async def code():
        async with asyncio.timeout(30):
            await engine_flows.call(1)

        return await engine_flows.call(2)

    driver = Driver(flow(code))
    (timer,) = [c for c in driver.begin().commands if isinstance(c, StartTimer)]
    driver.complete("echo", 1)
    driver.activate(TimerFired(seq=timer.seq))
    driver.complete("echo", 2)

    assert driver.result == 2
    driver.check_replays()


# Cancellation


def test_an_activity_that_is_cancelled_in_the_activation_that_asks_for_it_leaves_both_commands():
    async def code():
        workflow.start_activity(slow, 1).cancel()
        await engine_flows.call(1)

    driver = Driver(flow(code))
    first = driver.begin()
    driver.complete("echo")

    assert [type(c) for c in first.commands] == [
        ScheduleActivity,
        CancelActivity,
        ScheduleActivity,
    ]
    driver.check_replays()


# Outcomes


def test_a_unit_of_an_adapter_raises_the_cause_itself():
    async def code():
        try:
            await current_engine().schedule(Unit(name="fail", body=fail, args=("broken",)))
        except ValueError as error:
            return str(error)

    assert live(code).result == "broken"


@pytest.mark.parametrize("error", [StopIteration("x"), asyncio.CancelledError("x")], ids=repr)
def test_what_cannot_travel_through_a_future_arrives_as_another_error(error):
    async def code():
        try:
            await engine_flows.call(1)
        except ActivityError as caught:
            return type(caught.cause).__name__

    driver = Driver(flow(code))
    driver.begin()
    driver.fail("echo", error)

    assert driver.result in {"ApplicationError", "CancelledError"}
    driver.check_replays()


def test_an_input_that_does_not_fit_says_which_argument_and_breaks_the_run():
    async def code(number: int): ...

    driver = Driver(flow(code), "text")

    with pytest.raises(DecodeError, match="the recorded argument 'number' of workflow 'Flow'"):
        driver.begin()

    driver.close()


def test_a_name_finds_the_registered_activity_and_result_type_decodes_its_result():
    async def code():
        found = await workflow.execute_activity("echo", 2.5, result_type=timedelta)
        return found / timedelta(seconds=1)

    driver = Driver(flow(code), activities=[echo])
    driver.begin()
    driver.complete("echo", timedelta(seconds=7))

    assert driver.result == 7


# Identity


def test_occurrences_are_counted_by_name_and_key_over_the_whole_run():
    async def code():
        engine = current_engine()
        for key in ("a", "b", "a", ""):
            await engine.schedule(Unit(name="echo", body=echo, args=(key,), key=key))

        await engine_flows.call("")

    driver = live(code)

    assert [(c.key, c.occurrence) for c in driver.commands(ScheduleActivity)] == [
        ("a", 1),
        ("b", 1),
        ("a", 2),
        ("", 1),
        ("", 2),
    ]


def test_numbers_of_commands_never_repeat_also_after_a_replay():
    for order in ORDERS:
        driver = Driver(FLOWS["race_of_timers_and_calls"][0]).run_to_end(order)
        for one in (driver, driver.replay(activations=1).run_to_end(order)):
            commands = [*one.commands(ScheduleActivity), *one.commands(StartTimer)]

            assert len({c.seq for c in commands}) == len(commands) > 1


def test_taking_over_runs_no_code():
    async def code():
        return await engine_flows.call(1)

    driver = Driver(flow(code))
    driver.begin()
    taken = Taken(worker="w", fence=2, python="cpython-3.11", time=driver.time)
    again = driver.replay()

    assert again.activate(taken).commands == ()
    again.complete("echo", 5)
    assert again.result == 5
    again.check_replays()


# Dropping


@pytest.mark.parametrize("name", FLOWS)
def test_a_run_can_be_dropped_at_any_moment_without_a_trace(name, caplog):
    full = Driver(FLOWS[name][0]).run_to_end("3")

    for length in range(len(full.record) + 1):
        driver = full.replay(activations=length)
        driver.close()
        driver.close()
        assert (driver.run.pending, driver.run.timers) == ({}, {})
        assert driver.record == full.record[:length]
        del driver

    # Whatever a dropped run left to the collector would warn now, and warnings are errors.
    gc.collect()
    assert caplog.records == []


def test_the_loop_outside_its_hooks_and_the_collector_are_put_back_also_after_a_bug():
    async def code():
        await engine_flows.call(1)
        raise KeyError("a bug")

    async def main():
        before = asyncio.get_running_loop(), sys.get_asyncgen_hooks(), gc.isenabled()
        driver = Driver(flow(code))
        driver.begin()
        with pytest.raises(KeyError):
            driver.complete("echo", 1)

        after = asyncio.get_running_loop(), sys.get_asyncgen_hooks(), gc.isenabled()
        driver.close()
        assert before == after
        assert current_engine() is None

    asyncio.run(main())


def test_a_run_that_could_not_be_replayed_can_be_dropped():
    async def other():
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(workflow.execute_activity(slow, 1))

    driver = live(FLOWS["task_group"][0])
    again = Driver(flow(other), start=driver.start)
    with pytest.raises(NonDeterminismError):
        again.run.replay(driver.activations[0])

    again.close()
    gc.collect()
    assert again.run.pending == {}
