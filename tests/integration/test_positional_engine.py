"""The second engine: it replays by position, and says when something else is asked for."""

from __future__ import annotations

import asyncio

import pytest
from durable_core import adapter
from durable_core import exceptions as ex
from durable_core.adapter import RetryDecision, Unit, UnitOptions
from durable_core.common import RetryPolicy
from durable_core.testing import PositionalEngine

ran: list[object] = []


@pytest.fixture(autouse=True)
def _fresh():
    ran.clear()


async def body(value: int) -> int:
    ran.append(value)
    await asyncio.sleep(0.02 * (5 - value))
    if value < 0:
        raise ValueError(f"no {value}")

    return value * 2


def unit(value, key="", **options):
    return Unit(name="unit", body=body, args=(value,), key=key, options=UnitOptions(**options))


def call(value, **options):
    return adapter.current_engine().schedule(unit(value, **options))


def twice(code, *, other=None):
    """Run code live, then the same or other code on its record."""

    async def main():
        engine = PositionalEngine()
        live = await engine.run(code)
        ran_live = list(ran)
        ran.clear()
        again = await engine.run(other or code)
        return live, ran_live, again

    return asyncio.run(asyncio.wait_for(main(), 10))


def test_units_run_once_and_their_order_of_ending_is_kept():
    async def code():
        order = []

        async def one(n):
            await call(n)
            order.append(n)

        await asyncio.gather(*(one(n) for n in range(4)))
        await asyncio.sleep(0.01)
        return order, str(adapter.current_engine().uuid4())

    live, ran_live, again = twice(code)
    assert live[0] == [3, 2, 1, 0]
    assert sorted(ran_live) == [0, 1, 2, 3]
    assert ran == []
    assert again == live


def test_failures_and_retries_are_as_the_unit_says():
    async def code():
        quick = RetryPolicy(maximum_attempts=3)
        found = []
        for options in (
            {"retry_policy": RetryPolicy(maximum_attempts=1)},
            {"retry_policy": quick, "decide": lambda _: RetryDecision(retry=True, after=0)},
            {"retry_policy": quick, "decide": lambda _: RetryDecision(retry=False)},
        ):
            try:
                await call(-1, **options)
            except ValueError as error:
                found.append(str(error))

        return found

    live, ran_live, again = twice(code)
    assert live == again == ["no -1"] * 3
    assert len(ran_live) == 5


def test_other_commands_are_a_mismatch():
    async def code():
        return [await call(1), await call(2)]

    async def other():
        return [await call(1), await call(3)]

    async def fewer():
        return [await call(1)]

    for changed in (other, fewer):
        with pytest.raises(ex.NonDeterminismError, match="at position"):
            twice(code, other=changed)


def test_a_longer_code_goes_on_where_the_record_ends():
    async def main():
        engine = PositionalEngine()

        async def stops():
            await call(1)
            raise KeyError("a bug")

        with pytest.raises(KeyError):
            await engine.run(stops)

        ran.clear()

        async def fixed():
            return [await call(1), await call(2)]

        return await engine.run(fixed)

    assert asyncio.run(main()) == [2, 4]
    assert ran == [2]


def test_cancelling_a_unit_cancels_its_body():
    ended = []

    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("ended")

    async def code():
        engine = adapter.current_engine()
        try:
            async with asyncio.timeout(0.05):
                await engine.schedule(Unit(name="hangs", body=hangs))
        except TimeoutError:
            return "too late"

    live, _, again = twice(code)
    assert live == again == "too late"
    assert ended == ["ended"]


def test_code_waits_for_conditions_and_timers():
    async def code():
        engine, done = adapter.current_engine(), []

        async def one(n):
            done.append(await call(n))
            await asyncio.sleep(0.01)

        both = asyncio.gather(one(3), one(4))
        await engine.until(lambda: len(done) == 2)
        await both
        return done

    live, bodies, again = twice(code)
    assert live == again == [8, 6]
    assert bodies == [3, 4]
    assert not ran


def test_its_capabilities_say_what_it_is():
    async def code():
        found = adapter.current_engine().capabilities
        return [found.name, found.durable, found.identity_matching, found.resources]

    assert twice(code)[0] == ["positional", False, False, True]
