"""How far a dropped run is closed: whatever its cleanup waits for, and however."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest
from durable_core.adapter import outside
from support.engine_asking import answer, begun, call


class Waiting:
    """What waits for a coroutine by an `__await__` of its own."""

    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


async def with_undo(passed):
    try:
        await call("a")
    finally:
        passed.append("undo")
        try:
            await Waiting(call("undo"))
        finally:
            try:
                await call("undo more")
            finally:
                passed.append("all")


async def by_anext(passed):
    async def numbers():
        await with_undo(passed)
        yield 1

    await anext(numbers(), None)


async def by_await(passed):
    await Waiting(with_undo(passed))


async def by_a_generator_left_open(passed):
    async def numbers():
        try:
            yield 1
        finally:
            await with_undo(passed)

    async for _ in numbers():
        break

    await call("b")


async def by_a_generator_that_goes_on(passed):
    async def numbers():
        try:
            await call("a")
        except BaseException:
            yield 1

    try:
        async for _ in numbers():
            await call("b")
    finally:
        await with_undo(passed)


async def by_generators_that_cleanup_began(passed):
    async def outer():
        try:
            yield 1
        finally:
            async for _ in inner():
                break

    async def inner():
        try:
            yield 1
        finally:
            await with_undo(passed)

    async for _ in outer():
        break

    await call("b")


async def by_a_generator_whose_cleanup_raises(passed):
    async def numbers():
        try:
            yield 1
        finally:
            try:
                await with_undo(passed)
            finally:
                raise RuntimeError("in cleanup")

    async for _ in numbers():
        break

    await call("b")


@pytest.mark.parametrize(
    "code",
    [
        by_anext,
        by_await,
        by_a_generator_left_open,
        by_a_generator_that_goes_on,
        by_generators_that_cleanup_began,
        by_a_generator_whose_cleanup_raises,
    ],
)
def test_dropping_a_run_goes_through_cleanup_that_is_reached(code, monkeypatch):
    unraisable, passed = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda u: unraisable.append(u.exc_value))

    begun(lambda: code(passed)).run.close()
    assert passed == ["undo", "all"]
    gc.collect()
    assert unraisable == []


def test_dropping_a_run_whose_generators_begin_more_for_ever_gives_up():
    async def code():
        async def endless():
            try:
                yield 1
            finally:
                async for _ in endless():
                    break

        async for _ in endless():
            break

        await call("a")

    begun(code).run.close()
    gc.collect()


def test_a_run_can_be_dropped_while_a_task_of_it_runs():
    drivers, closed = [], []

    async def code():
        async def child():
            try:
                await call("a")
            finally:
                closed.append(asyncio.current_task().get_name())

        asyncio.create_task(child(), name="child")
        await call("b")
        outside(drivers[0].run.close)
        return asyncio.current_task().get_name()

    drivers.append(begun(code))
    answer(drivers[0], "b")

    assert closed == ["child"]
    assert drivers[0].result == "workflow"
