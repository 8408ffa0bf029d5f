"""Signals, queries, conditions and workflows that are functions: what an engine's run does."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from dataclasses import dataclass
from datetime import timedelta

import pytest
from durable_core import activity, workflow
from durable_core.exceptions import (
    ApplicationError,
    NotSupported,
    ReadOnlyContextError,
    WorkflowQueryFailedError,
)
from durable_core.history import CancelRequested, Payload, SignalReceived
from durable_core.payloads import _json
from support.engine_runs import Driver, flow

_requests = iter(range(1_000_000))


@activity.defn
async def double(value: int) -> int:
    return 2 * value


@activity.defn
def double_in_a_thread(value: int) -> int:
    return 2 * value


def sent(name, *args):
    """A signal as it comes out of the inbox."""
    data = _json.encode(args, what="a signal")
    return SignalReceived(name=name, args=Payload(data=data), request=f"r{next(_requests)}")


def asked(driver, name, *args):
    return _json.decode(driver.run.query(name, _json.encode(args, what="a query")), object, what="")


@dataclass
class Line:
    item: str
    count: int


@workflow.defn
class Basket:
    @workflow.init
    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.lines: list[Line] = []
        self.doubled: list[int] = []
        self.closed = False

    @workflow.run
    async def run(self, owner: str) -> object:
        await workflow.wait_condition(lambda: self.closed)
        return [owner, self.owner, [line.item for line in self.lines], self.doubled]

    @workflow.signal
    def add(self, line: Line) -> None:
        self.lines.append(line)

    @workflow.signal(name="close")
    def close_it(self) -> None:
        self.closed = True

    @workflow.signal
    async def compute(self, value: int) -> None:
        self.doubled.append(await double(value))

    @workflow.query
    def count(self) -> int:
        return sum(line.count for line in self.lines)

    @workflow.query(name="of")
    def count_of(self, item: str) -> int:
        return sum(line.count for line in self.lines if line.item == item)

    @workflow.query
    def bad(self) -> None:
        raise ValueError("no")

    @workflow.query
    def meddles(self) -> None:
        asyncio.get_running_loop().create_task(asyncio.sleep(1))


def basket(*events):
    driver = Driver(Basket, "ann", activities=[double])
    driver.activate(*events, after=0.0)
    return driver


def test_signals_are_handled_in_order_and_typed():
    driver = basket()
    driver.activate(sent("add", Line("pear", 2)), sent("add", {"item": "fig", "count": 1}))
    driver.activate(sent("close"))

    assert driver.result == ["ann", "ann", ["pear", "fig"], []]
    driver.check_replays()


def test_a_signal_that_comes_with_the_start_finds_its_handler_and_the_input():
    driver = basket(sent("add", Line("pear", 2)), sent("close"))

    assert driver.result == ["ann", "ann", ["pear"], []]
    driver.check_replays()


def test_an_async_handler_is_recorded_like_the_rest_of_the_run():
    driver = basket()
    driver.activate(sent("compute", 4), sent("compute", 5))
    assert driver.pending == ["double", "double"]
    driver.complete(driver.seq("double"), 8)
    driver.complete(driver.seq("double"), 10)
    driver.activate(sent("close"))

    assert driver.result[-1] == [8, 10]
    driver.check_replays()


def test_a_query_sees_what_is_committed_and_its_arguments_are_typed():
    driver = basket()
    driver.activate(sent("add", Line("pear", 2)), sent("add", Line("fig", 3)))

    assert asked(driver, "count") == 5
    assert asked(driver, "of", "fig") == 3
    driver.check_replays()


def test_a_query_of_a_run_that_has_ended_is_answered():
    driver = basket(sent("add", Line("pear", 2)), sent("close"))

    assert asked(driver, "count") == 2
    assert asked(driver.replay(), "count") == 2


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("nothing", (), "has no query 'nothing'; it has 'bad', 'count', 'meddles', 'of'"),
        ("bad", (), "ValueError: no"),
        ("of", (), "takes 1 argument .item., got none"),
        ("of", ("fig", "pear"), "takes 1 argument .item., got 2"),
        ("of", (7,), "does not fit str"),
    ],
)
def test_a_query_that_cannot_be_answered_says_why(name, args, said):
    driver = basket()

    with pytest.raises(WorkflowQueryFailedError, match=said):
        asked(driver, name, *args)

    driver.activate(sent("close"))
    driver.check_replays()


def test_a_query_that_would_change_its_run_is_refused_and_leaves_it_as_it_was():
    driver = basket()

    with pytest.raises(WorkflowQueryFailedError) as raised:
        asked(driver, "meddles")

    assert isinstance(raised.value.cause, ReadOnlyContextError)
    driver.activate(sent("close"))
    driver.check_replays()


def test_what_a_query_draws_is_not_taken_from_the_run():
    @workflow.defn
    class Drawing:
        def __init__(self) -> None:
            self.go = False

        @workflow.run
        async def run(self) -> list[str]:
            await workflow.wait_condition(lambda: self.go)
            return [str(workflow.uuid4()), str(workflow.random().random())]

        @workflow.signal
        def begin(self) -> None:
            self.go = True

        @workflow.query
        def draw(self) -> str:
            return f"{workflow.uuid4()} {workflow.random().random()}"

    asking, silent = Driver(Drawing), Driver(Drawing)
    asking.begin()
    silent.begin()
    assert asked(asking, "draw") != asked(asking, "draw")
    for driver in (asking, silent):
        driver.activate(sent("begin"))

    assert asking.result == silent.result


@pytest.mark.parametrize("args", [(), (1,), ({"item": 3},), (Line("pear", 1), 2)])
def test_a_signal_that_does_not_fit_its_handler_is_dropped_and_told(args, caplog):
    driver = basket()
    with caplog.at_level(logging.ERROR, "durable_core.engine"):
        driver.activate(sent("add", *args), sent("add", Line("fig", 1)), sent("close"))

    assert driver.result == ["ann", "ann", ["fig"], []]
    assert "drops the signal 'add'" in caplog.text
    assert "durable show workflow-1" in caplog.text
    driver.check_replays()


def test_a_signal_without_a_handler_waits_for_one(caplog):
    async def code():
        got = []
        await asyncio.sleep(1)
        workflow.set_signal_handler("late", got.append)
        await workflow.wait_condition(lambda: len(got) == 3)
        return got

    driver = Driver(flow(code))
    driver.begin()
    driver.activate(sent("late", 1), sent("late", 2))
    assert "no handler" in caplog.text
    driver.fire()
    driver.activate(sent("late", 3))

    assert driver.result == [1, 2, 3]
    driver.check_replays()


def test_a_function_is_a_workflow_with_handlers_of_its_own():
    @workflow.defn(name="a function")
    async def order(item: Line, price: int = 3) -> int:
        state = {"paid": 0}

        async def pay(amount: int) -> None:
            state["paid"] += await double(amount)

        workflow.set_signal_handler("pay", pay)
        workflow.set_query_handler("paid", lambda: state["paid"])
        assert workflow.instance() is None
        await workflow.wait_condition(lambda: state["paid"] >= item.count * price)
        return state["paid"]

    driver = Driver(order, Line("pear", 2), activities=[double])
    driver.begin()
    driver.activate(sent("pay", 2))
    driver.complete("double", 4)
    assert asked(driver, "paid") == 4
    driver.activate(sent("pay", 1))
    driver.complete("double", 2)

    assert driver.result == 6
    driver.check_replays()


def test_a_failure_in_a_handler_fails_the_run_and_a_bug_breaks_it():
    @workflow.defn
    class Fragile:
        @workflow.run
        async def run(self) -> None:
            await workflow.wait_condition(lambda: False)

        @workflow.signal
        async def fail(self) -> None:
            await asyncio.sleep(0)
            raise ApplicationError("no stock", type="Stock")

        @workflow.signal
        async def err(self) -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError("a bug")

    driver = Driver(Fragile)
    driver.begin()
    driver.activate(sent("fail"))
    assert driver.failure.type == "Stock"
    driver.check_replays()

    driver = Driver(Fragile)
    driver.begin()
    with pytest.raises(ZeroDivisionError):
        driver.activate(sent("err"))


def test_unfinished_handlers_can_be_waited_for():
    @workflow.defn
    class Patient:
        @workflow.run
        async def run(self) -> list[bool]:
            seen = [workflow.all_handlers_finished()]
            await asyncio.sleep(1)
            seen.append(workflow.all_handlers_finished())
            await workflow.wait_condition(workflow.all_handlers_finished)
            return [*seen, workflow.all_handlers_finished()]

        @workflow.signal
        async def work(self) -> None:
            await double(1)

    driver = Driver(Patient, activities=[double])
    driver.begin()
    driver.activate(sent("work"))
    driver.fire()
    driver.complete("double", 2)

    assert driver.result == [True, False, True]
    driver.check_replays()


# Conditions


def test_a_condition_with_a_timeout_is_a_recorded_timer():
    async def code():
        begun = workflow.time()
        try:
            await workflow.wait_condition(lambda: False, timeout=timedelta(hours=1))
        except TimeoutError:
            return [workflow.time() - begun, workflow.time_ns() == int(workflow.time() * 1e9)]

    driver = Driver(flow(code)).run_to_end()

    assert driver.result == [3600.0, True]
    driver.check_replays()


def test_a_condition_that_holds_already_does_not_wait():
    async def code():
        await workflow.wait_condition(lambda: True, timeout=5)
        return "at once"

    driver = Driver(flow(code)).run_to_end()

    assert driver.result == "at once"
    assert len(driver.record) == 1


def test_conditions_are_looked_at_until_none_holds_and_wake_in_the_order_of_waiting():
    async def code():
        order, level = [], 0

        async def step(n):
            nonlocal level
            await workflow.wait_condition(lambda: level >= n)
            order.append(n)
            level += 1

        async with asyncio.TaskGroup() as group:
            for n in (3, 1, 2, 0):
                group.create_task(step(n))

        return order

    driver = Driver(flow(code)).run_to_end()

    assert driver.result == [0, 1, 2, 3]
    driver.check_replays()


def test_what_a_condition_raises_reaches_whoever_waits():
    async def code():
        try:
            await workflow.wait_condition(lambda: bool(1 / 0) if flag else False)
        except ZeroDivisionError:
            return "raised"

    flag = False

    async def twice():
        nonlocal flag
        waiting = asyncio.ensure_future(code())
        await asyncio.sleep(1)
        flag = True
        result = await waiting
        flag = False
        return result

    driver = Driver(flow(twice)).run_to_end()

    assert driver.result == "raised"
    driver.check_replays()


def test_a_condition_that_is_given_up_is_not_looked_at_any_more():
    async def code():
        looked = 0

        def look():
            nonlocal looked
            looked += 1
            return False

        task = asyncio.ensure_future(workflow.wait_condition(look))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(1)
        before = looked
        await asyncio.sleep(1)
        return [before > 0, looked == before, task.cancelled()]

    driver = Driver(flow(code)).run_to_end()

    assert driver.result == [True, True, True]


@pytest.mark.parametrize("timeout", [-1, timedelta(seconds=-0.5)])
def test_nobody_waits_for_a_negative_time(timeout):
    async def code():
        try:
            await workflow.wait_condition(lambda: False, timeout=timeout)
        except ValueError as error:
            return str(error)

    assert f"cannot wait for {timeout}" in Driver(flow(code)).run_to_end().result


# Direct calls of activities


def test_an_async_activity_called_directly_is_recorded_and_raises_what_it_raised():
    async def code():
        found = [await double(2), await double(value=3)]
        try:
            await double(4)
        except ValueError as error:
            found.append(str(error))

        return found

    driver = Driver(flow(code), activities=[double])
    driver.begin()
    driver.complete("double", 4)
    driver.complete("double", 6)
    driver.fail("double", ValueError("no fours"))

    assert driver.result == [4, 6, "no fours"]
    driver.check_replays()


def test_an_activity_called_outside_a_workflow_is_the_function_it_was():
    assert asyncio.run(double(4)) == 8
    assert double_in_a_thread(4) == 8


def test_a_plain_activity_called_directly_names_the_way_to_call_it():
    async def code():
        try:
            double_in_a_thread(2)
        except NotSupported as error:
            return str(error)

    result = Driver(flow(code)).run_to_end().result

    assert "await workflow.execute_activity(double_in_a_thread, …)" in result


def test_a_method_called_directly_runs_on_its_object():
    class Bank:
        def __init__(self, rate):
            self.rate = rate

        @activity.defn(name="bank.convert")
        async def convert(self, cents: int) -> int:
            return cents * self.rate

    bank = Bank(3)

    async def code():
        return await bank.convert(7)

    driver = Driver(flow(code)).run_to_end()

    assert driver.result == 21
    assert driver.commands(type(driver.activations[0].commands[0]))[0].name == "bank.convert"
    driver.check_replays()


# Cancellation from outside


def test_a_cancelled_run_ends_as_cancelled_and_knows_why():
    async def code():
        try:
            await asyncio.sleep(100)
        finally:
            await double(1)
            assert workflow.cancellation_reason() == "late"

    driver = Driver(flow(code), activities=[double])
    driver.begin()
    driver.activate(CancelRequested(request="c", reason="late"))
    assert driver.run.closed is None
    driver.complete("double", 2)

    assert driver.run.status == "canceled"
    driver.check_replays()


def test_a_run_may_go_on_though_its_cancellation_was_asked_for():
    async def code():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            return "stays"

    driver = Driver(flow(code))
    driver.begin()
    driver.activate(CancelRequested(request="c"))

    assert driver.result == "stays"
    driver.check_replays()


def test_a_run_that_is_cancelled_before_it_began_never_runs():
    ran = []

    async def code():
        ran.append(1)

    driver = Driver(flow(code))
    driver.activate(CancelRequested(request="c"), after=0.0)

    assert driver.run.status == "canceled"
    assert ran == []
    driver.check_replays()


# Dropping a run


def test_what_a_dropped_run_has_set_in_its_context_is_reset_in_that_context():
    variable = contextvars.ContextVar("variable", default="outer")
    seen = []

    async def code():
        token = variable.set("inner")
        try:
            await asyncio.sleep(100)
        finally:
            variable.reset(token)
            seen.append(variable.get())

    driver = Driver(flow(code))
    driver.begin()
    driver.close()

    assert seen == ["outer"]
