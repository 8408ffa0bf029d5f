"""What a worker activates in one pass of its loop, and the time limit of an attempt."""

from __future__ import annotations

import asyncio
import contextvars
import time
from functools import partial

import pytest
from durable_core.engine import _guard
from durable_core.worker._activations import Activations
from durable_core.worker._deadline import Deadline

real_time = time.time


def test_all_of_one_pass_are_activated_together_and_what_they_ask_for_in_the_next():
    seen = []

    async def main():
        activations = Activations()

        def activate(name, *then):
            seen.append((name, time.time is real_time))
            for each in then:
                activations.soon(partial(activate, each))

        asyncio.get_running_loop().call_soon(seen.append, "pass")
        activations.soon(lambda: activate("a", "c"))
        activations.soon(lambda: activate("b"))
        asyncio.get_running_loop().call_soon(seen.append, "other")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == ["pass", ("a", False), ("b", False), "other", ("c", False)]
    assert time.time is real_time


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_in_the_middle_keeps_the_others(error):
    seen = []

    def fail():
        raise error

    loop = asyncio.new_event_loop()
    try:

        async def main():
            activations = Activations()
            activations.soon(fail)
            activations.soon(lambda: seen.append("next"))
            await asyncio.sleep(3)

        task = loop.create_task(main())
        with pytest.raises(error):
            loop.run_until_complete(task)

        assert time.time is real_time
        loop.call_later(0.01, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()

    assert seen == ["next"]


def test_the_stand_ins_stay_while_somebody_holds_them_and_no_longer():
    with _guard.held():
        assert time.time is not real_time
        outer = _guard.enter(_guard.Guard(5.0, "seed", 1))
        with _guard.held():
            assert time.time() == 5.0
            inner = _guard.enter(_guard.Guard(6.0, "seed", 2))
            assert time.time() == 6.0
            _guard.leave(inner)
            assert time.time() == 5.0

        _guard.leave(outer)
        assert time.time is not real_time
        assert time.time() > 1e9

    assert time.time is real_time


def test_each_is_activated_in_the_context_of_who_asked():
    asked = contextvars.ContextVar("asked")
    seen = []

    async def main():
        activations = Activations()

        def ask(name):
            asked.set(name)
            activations.soon(lambda: seen.append((name, asked.get())))

        for name in ("a", "b"):
            contextvars.copy_context().run(ask, name)

        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == [("a", "a"), ("b", "b")]


# The time limit of an attempt


def limited(seconds, body):
    """Run a body under a limit; return what came of it and whether the limit had expired."""

    async def main():
        deadline = Deadline(seconds)
        try:
            with deadline:
                return await body(), deadline.expired
        except BaseException as error:
            return type(error), deadline.expired

    return asyncio.run(main())


def test_a_body_that_is_too_slow_meets_a_timeout():
    assert limited(0.01, lambda: asyncio.sleep(30)) == (TimeoutError, True)


@pytest.mark.parametrize("seconds", [None, 30])
def test_a_body_in_time_meets_none(seconds):
    assert limited(seconds, lambda: asyncio.sleep(0, "done")) == ("done", False)


def test_a_timeout_of_the_body_itself_is_not_that_of_the_limit():
    async def body():
        raise TimeoutError

    assert limited(30, body) == (TimeoutError, False)


def test_a_body_that_ends_although_it_was_told_to_stop_has_its_result():
    async def body():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return "late"

    assert limited(0.01, body) == ("late", True)


def test_a_body_that_answers_the_limit_with_a_timeout_of_its_own_met_the_limit():
    async def body():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise TimeoutError from None

    assert limited(0.01, body) == (TimeoutError, True)


def test_a_cancellation_from_outside_comes_before_the_limit():
    async def main():
        deadline = Deadline(0.01)

        async def run():
            with deadline:
                await asyncio.sleep(30)

        task = asyncio.create_task(run())
        await asyncio.sleep(0)
        # Both in one pass.
        asyncio.get_running_loop().call_later(0.01, task.cancel)
        time.sleep(0.03)  # noqa: ASYNC251
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_task_is_no_longer_cancelling_after_its_limit():
    async def main():
        try:
            with Deadline(0.01):
                await asyncio.sleep(30)
        except TimeoutError:
            return asyncio.current_task().cancelling()

    assert asyncio.run(main()) == 0
