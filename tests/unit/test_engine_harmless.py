"""Changes of a workflow that replay must not mind, and how a mismatch behaves.

The table of changes is in `support.engine_harmless`.
"""

from __future__ import annotations

import asyncio

import pytest
from durable_core import activity, workflow
from durable_core.activity._defn import definition_of
from durable_core.engine import python_version
from durable_core.exceptions import NonDeterminismError
from durable_core.history import Taken
from support.engine_harmless import (
    CHANGES,
    ORDER_V1,
    OrderV1,
    OrderV2,
    ask,
    check,
    other,
    version,
)
from support.engine_runs import Driver, flow, new_start


@pytest.mark.parametrize("order", ["first", "last", "together"])
@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.__name__)
def test_a_harmless_change_is_no_mismatch(case, order):
    driver = Driver(flow(case.old)).run_to_end(order)

    again = driver.replay(flow(case.new))

    assert again.run.status == "completed"
    assert again.run.next_number == len(driver.activations)


def test_a_set_in_another_order_beside_a_new_field_is_no_mismatch():
    def both(fn):
        return activity.defn(name="both")(fn)

    def old_body(tags: set[int], order: OrderV1): ...
    def new_body(tags: set[int], order: OrderV2): ...

    old_activity, new_activity = both(old_body), both(new_body)

    async def old():
        await ask(old_activity, set([0, 8]), OrderV1("a"))  # noqa: C405

    async def new():
        await ask(new_activity, set([8, 0]), OrderV2("a"))  # noqa: C405

    Driver(flow(old)).run_to_end().replay(flow(new))


# How a mismatch behaves


async def one():
    await ask(check, 1)


async def two():
    await ask(other, 1)


def mismatch(old, new, *, python=""):
    driver = Driver(flow(old), start=new_start("Flow", python=python)).run_to_end()
    with pytest.raises(NonDeterminismError) as caught:
        driver.replay(flow(new))

    return str(caught.value)


def test_another_minor_version_of_python_is_named_first():
    message = mismatch(one, two, python="cpython-3.9")

    assert message.startswith(
        f"this run was recorded on cpython-3.9 and is replayed on {python_version()}"
    )


@pytest.mark.parametrize("python", ["", python_version()])
def test_the_same_or_an_unknown_python_is_not_named(python):
    assert "recorded on" not in mismatch(one, two, python=python)


@pytest.mark.parametrize(("last", "named"), [("cpython-3.9", True), (python_version(), False)])
def test_the_python_that_counts_is_that_of_the_last_owner(last, named):
    async def old():
        await ask(check, 1)
        await ask(check, 2)

    async def new():
        await ask(check, 1)
        await ask(other, 2)

    first = "cpython-3.9" if last == python_version() else python_version()
    driver = Driver(flow(old), start=new_start("Flow", python=first))
    driver.begin()
    driver.activate(Taken(worker="w", fence=2, python=last, time=driver.time))
    driver.run_to_end()

    with pytest.raises(NonDeterminismError) as caught:
        driver.replay(flow(new))

    assert str(caught.value).startswith("this run was recorded on") is named


def test_a_mismatch_cannot_be_caught_by_workflow_code():
    async def new():
        for _ in range(3):
            try:
                await ask(other, 1)
            except Exception:
                continue

        await ask(check, 1)

    assert "got activity 'other' #1" in mismatch(one, new)


def test_the_line_is_the_one_that_asks():
    async def new():
        await ask(check, 1)
        await workflow.execute_activity(other, 1)

    driver = Driver(flow(one)).run_to_end()
    with pytest.raises(NonDeterminismError) as caught:
        driver.replay(flow(new))

    line = new.__code__.co_firstlineno + 2
    assert caught.value.location == f"{__file__}:{line} in new"


def test_the_line_is_the_one_that_waits_if_the_code_asks_for_too_little():
    async def waits():
        await asyncio.gather(asyncio.Event().wait())

    driver = Driver(flow(one)).run_to_end()
    with pytest.raises(NonDeterminismError) as caught:
        driver.replay(flow(waits))

    line = waits.__code__.co_firstlineno + 1
    assert caught.value.location == f"{__file__}:{line} in waits"


def test_a_type_that_no_longer_fits_the_record_is_a_mismatch_that_says_so():
    target = version(int)

    async def old():
        await ask(ORDER_V1, OrderV1("a"))

    async def new():
        await ask(target, 5)

    assert "argument 1 of activity 'book' does not fit int" in mismatch(old, new)


def test_code_that_goes_on_after_the_record_continues_live():
    async def new():
        await ask(check, 1)
        return await ask(other, 2)

    driver = Driver(flow(one))
    driver.begin()
    again = driver.replay(flow(new)).run_to_end()

    assert again.result == 2
    again.check_replays()


def test_a_definition_may_move_as_long_as_its_name_stays():
    renamed = activity.defn(name="check")(lambda value: value)
    assert definition_of(renamed).name == "check"

    async def new():
        await ask(renamed, 1)

    assert Driver(flow(one)).run_to_end().replay(flow(new)).run.status == "completed"
