"""The table of harmless changes: what a workflow did, and what it does now; a replay minds none."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import logging
from dataclasses import dataclass, field
from datetime import timedelta

import pydantic
from durable_core import RetryPolicy, activity, workflow
from durable_core.adapter import Items, Unit, UnitOptions, current_engine
from durable_core.exceptions import ActivityError


@dataclass
class OrderV1:
    id: str


@dataclass
class OrderV2:
    id: str
    express: bool = False
    notes: list[str] = field(default_factory=list)


class QuoteV1(pydantic.BaseModel):
    cents: int


class QuoteV2(pydantic.BaseModel):
    cents: int
    currency: str = "EUR"


class Colour(enum.Enum):
    RED = "red"


@activity.defn
def check(value):
    return value


@activity.defn(name="check")
def check_pair(value: tuple[int, tuple[int, int]]): ...


@activity.defn
def other(value):
    return value


@activity.defn
def timed(at: dt.datetime) -> dt.datetime:
    return at


@activity.defn(name="timed")
def timed_by_text(at: str) -> str:
    return at


@activity.defn
def grouped(value: dict[str, set[int]]): ...


@activity.defn
def weigh(grams: float):
    return grams


@activity.defn
def tagged(tags: set[int]):
    return sorted(tags)


def version(annotation, name="book"):
    """Return the same activity with another annotation, as a new release of the code has it."""

    def book(order):
        return 1

    book.__annotations__ = {"order": annotation}
    return activity.defn(name=name)(book)


ORDER_V1, ORDER_V2 = version(OrderV1), version(OrderV2)
ORDERS_V1, ORDERS_V2 = version(dict[str, list[OrderV1]]), version(dict[str, list[OrderV2]])
QUOTE_V1, QUOTE_V2 = version(QuoteV1), version(QuoteV2)


def ask(fn, *args, **options):
    return workflow.execute_activity(fn, args=args, **options)


def unit(value=1, **options):
    options = {"name": "check", "body": check, "args": (value,)} | options
    return current_engine().schedule(Unit(**options))


CHANGES: list[type] = []


def harmless(cls: type) -> type:
    CHANGES.append(cls)
    return cls


@harmless
class NewFieldOfADataclass:
    async def old():
        await ask(ORDER_V1, OrderV1("a"))

    async def new():
        await ask(ORDER_V2, OrderV2("a"))


@harmless
class NewFieldOfANestedDataclass:
    async def old():
        await ask(ORDERS_V1, {"x": [OrderV1("a"), OrderV1("b")]})

    async def new():
        await ask(ORDERS_V2, {"x": [OrderV2("a"), OrderV2("b")]})


@harmless
class NewFieldOfAModel:
    async def old():
        await ask(QUOTE_V1, QuoteV1(cents=1))

    async def new():
        await ask(QUOTE_V2, QuoteV2(cents=1))


@harmless
class DefaultRemovedFromTheCall:
    async def old():
        await ask(ORDER_V2, OrderV2("a", express=False))

    async def new():
        await ask(ORDER_V2, OrderV2("a"))


@harmless
class MappingReordered:
    async def old():
        await ask(check, {"a": 1, "b": {"c": 2, "d": 3}})

    async def new():
        await ask(check, {"b": {"d": 3, "c": 2}, "a": 1})


@harmless
class SetIterationOrder:
    async def old():
        await ask(tagged, set([0, 8, 16]))  # noqa: C405  # the order of insertion matters

    async def new():
        await ask(tagged, set([16, 8, 0]))  # noqa: C405


@harmless
class SetInAnotherOrder:
    async def old():
        await ask(grouped, {"tags": set([0, 8, 16])})  # noqa: C405

    async def new():
        await ask(grouped, {"tags": set([16, 8, 0])})  # noqa: C405


@harmless
class ListBecameTuple:
    async def old():
        await ask(check, [1, [2, 3]])

    async def new():
        await ask(check_pair, (1, (2, 3)))


@harmless
class EnumInsteadOfItsValue:
    async def old():
        await ask(check, "red")

    async def new():
        await ask(check, Colour.RED)


@harmless
class DataclassInsteadOfAMapping:
    async def old():
        await ask(check, {"id": "a"})

    async def new():
        await ask(check, OrderV1("a"))


@harmless
class WholeNumberForAFloat:
    async def old():
        await ask(weigh, 1)

    async def new():
        await ask(weigh, 1.0)


@harmless
class SameFloatSpeltOtherwise:
    async def old():
        await ask(check, 1.0)

    async def new():
        await ask(check, 0.5 + 0.5)


@harmless
class NotANumber:
    async def old():
        await ask(check, float("nan"))

    async def new():
        await ask(check, float("inf") - float("inf"))


@harmless
class TimeInTheSameZoneSpeltOtherwise:
    async def old():
        await ask(timed_by_text, "2026-01-02T03:04:05+00:00")

    async def new():
        await ask(timed, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC))


@harmless
class TimeoutChanged:
    async def old():
        await ask(check, 1, start_to_close_timeout=timedelta(seconds=1))

    async def new():
        await ask(check, 1, start_to_close_timeout=timedelta(hours=1))


@harmless
class RetryPolicyChanged:
    async def old():
        await ask(check, 1)

    async def new():
        await ask(check, 1, retry_policy=RetryPolicy(maximum_attempts=7))


@harmless
class SummaryAndResultTypeChanged:
    async def old():
        await ask(check, 1, summary="before")

    async def new():
        await ask(check, 1, summary="after", result_type=float)


@harmless
class TextChanged:
    async def old():
        await unit(text={"prompt": "one", "history": Items(["a", "b"])})

    async def new():
        await unit(text={"prompt": "two", "history": Items(["x"])})


@harmless
class OptionsOfAUnitChanged:
    async def old():
        await unit()

    async def new():
        options = UnitOptions(
            start_to_close_timeout=None, cancellation="wait_cancellation_completed"
        )
        await unit(options=options, raise_cause=False, in_context=False)


@harmless
class OrderWithinOneActivation:
    async def old():
        await asyncio.gather(ask(check, 1), ask(other, 2), asyncio.sleep(5))

    async def new():
        await asyncio.gather(asyncio.sleep(5), ask(other, 2), ask(check, 1))


@harmless
class KeysReorderedWithinOneActivation:
    async def old():
        await asyncio.gather(unit(key="a"), unit(key="b"), unit(key="c"))

    async def new():
        await asyncio.gather(unit(key="c"), unit(key="a"), unit(key="b"))


@harmless
class TaskGroupInsteadOfGather:
    async def old():
        await asyncio.gather(ask(check, 1), ask(other, 2))

    async def new():
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(check, 1), name="first")
            group.create_task(ask(other, 2), name="second")


@harmless
class LocalVariablesAndHelpers:
    async def old():
        a = await ask(check, 1)
        await ask(other, a)

    async def new():
        async def helper(number):
            renamed = await ask(check, number)
            return await ask(other, renamed)

        await helper(1)


@harmless
class LoggingAndNotes:
    async def old():
        await ask(check, 1)

    async def new():
        logging.getLogger("app").warning("before")
        workflow.logger.info("asking")
        current_engine().annotate("note", {"a": 1})
        await ask(check, 1)


@harmless
class YieldingToTheLoop:
    async def old():
        await ask(check, 1)

    async def new():
        await asyncio.sleep(0)
        async with asyncio.timeout(99):
            await asyncio.sleep(0)

        await ask(check, 1)


@harmless
class RandomNumbersDrawn:
    async def old():
        await ask(check, 1)

    async def new():
        workflow.random().random()
        workflow.uuid4()
        await ask(check, 1)


@harmless
class FailureHandledOtherwise:
    async def old():
        try:
            await ask(check, 1)
        except ActivityError:
            await ask(other, 1)

    async def new():
        await ask(check, 1)


@harmless
class ResultChanged:
    async def old():
        return await ask(check, 1)

    async def new():
        return [await ask(check, 1), "more"]


@harmless
class TimerByAnotherCall:
    async def old():
        await asyncio.sleep(90)

    async def new():
        await workflow.sleep(timedelta(minutes=1.5))
