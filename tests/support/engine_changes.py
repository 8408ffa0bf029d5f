"""The table of changes: what a workflow did, what it does now, and what must be said of it.

Each class is one change. ``says`` holds the activation, what is expected, what is got, and the path
to a difference in the arguments; what is ``...`` is not looked at.
"""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass

from durable_core import activity, workflow
from durable_core.adapter import Unit, current_engine
from durable_core.exceptions import ApplicationError


@dataclass
class Line:
    name: str
    cents: int


@dataclass
class Order:
    id: str
    lines: list[Line]


# Where bodies run in threads, a test may hold back the end of this one.
GATE = threading.Event()
GATE.set()


@activity.defn
def charge(order):
    GATE.wait(20)
    return order


@activity.defn
def ship(order=None):
    return order


@activity.defn
def book(order: Order) -> Order:
    return order


@activity.defn
def check(value):
    return value


@activity.defn
def check_set(value: set[str]): ...


@activity.defn
def pay(amount: float, currency: str = "EUR"):
    return amount


def ask(fn, *args):
    return workflow.execute_activity(fn, args=args)


def keyed(key, value=1):
    return current_engine().schedule(Unit(name="charge", body=charge, args=(value,), key=key))


def order(cents=100, name="tea"):
    return Order("o-1", [Line("cup", 5), Line(name, cents)])


CHANGES: list[type] = []


def change(cls: type) -> type:
    CHANGES.append(cls)
    return cls


@change
class ActivitiesSwapped:
    async def old():
        await ask(charge, 1)
        await ask(ship)

    async def new():
        await ask(ship)
        await ask(charge, 1)

    says = (0, "activity 'charge' #1", "activity 'ship' #1", None)


@change
class ActivityRenamed:
    async def old():
        await ask(charge, 1)

    async def new():
        await ask(check, 1)

    says = (0, "activity 'charge' #1", "activity 'check' #1", None)


@change
class ArgumentChangedDeepInside:
    async def old():
        await ask(check, 1)
        await ask(book, order(cents=100))

    async def new():
        await ask(check, 1)
        await ask(book, order(cents=101))

    says = (
        1,
        "activity 'book' #1 with the recorded arguments",
        "activity 'book' #1 with other arguments",
        "$[0].lines[1].cents: recorded 100, now 101",
    )


@change
class ArgumentChangedWithoutAnnotation:
    async def old():
        await ask(check, {"a": [{"b": None}]})

    async def new():
        await ask(check, {"a": [{"b": 0}]})

    says = (0, ..., ..., "$[0].a[0].b: recorded null, now 0")


@change
class ArgumentAdded:
    async def old():
        await ask(pay, 1.0)

    async def new():
        await ask(pay, 1.0, "USD")

    says = (0, ..., ..., "$ (length 1 recorded, 2 now)")


@change
class KeyOfAMappingRemoved:
    async def old():
        await ask(check, {"a": None, "b": 1})

    async def new():
        await ask(check, {"b": 1})

    says = (0, ..., ..., "$[0].a (only recorded)")


@change
class ListReordered:
    async def old():
        await ask(check, ["a", "b"])

    async def new():
        await ask(check, ["b", "a"])

    says = (0, ..., ..., '$[0][0]: recorded "a", now "b"')


@change
class MemberOfASetChanged:
    async def old():
        await ask(check_set, {"a", "b", "c"})

    async def new():
        await ask(check_set, {"a", "b", "d"})

    says = (0, ..., ..., '$[0][2]: recorded "c", now "d"')


@change
class NumberBecameFloat:
    async def old():
        await ask(check, 1)

    async def new():
        await ask(check, 1.0)

    says = (0, ..., ..., "$[0]: recorded 1, now 1.0")


@change
class TrueBecameOne:
    async def old():
        await ask(check, True)

    async def new():
        await ask(check, 1)

    says = (0, ..., ..., "$[0]: recorded true, now 1")


@change
class ZeroBecameNegative:
    async def old():
        await ask(check, 0.0)

    async def new():
        await ask(check, -0.0)

    says = (0, ..., ..., "$[0]: recorded 0.0, now -0.0")


@change
class NothingBecameNotANumber:
    async def old():
        await ask(check, None)

    async def new():
        await ask(check, math.nan)

    says = (0, ..., ..., '$[0]: recorded null, now {"$float": "nan"}')


@change
class ArgumentsOfTwoCallsSwapped:
    async def old():
        await asyncio.gather(ask(charge, "a"), ask(charge, "b"))

    async def new():
        await asyncio.gather(ask(charge, "b"), ask(charge, "a"))

    says = (0, ..., "activity 'charge' #1 with other arguments", '$[0]: recorded "a", now "b"')


@change
class ActivityAddedInFront:
    async def old():
        await ask(charge, 1)

    async def new():
        await ask(check, 1)
        await ask(charge, 1)

    says = (0, "activity 'charge' #1", "activity 'check' #1", None)


@change
class ActivityAddedBeside:
    async def old():
        await ask(charge, 1)

    async def new():
        await asyncio.gather(ask(charge, 1), ask(check, 1))

    says = (0, None, "activity 'check' #1", None)


@change
class ActivityAddedAtTheEnd:
    async def old():
        await ask(charge, 1)

    async def new():
        await ask(charge, 1)
        await ask(ship)

    says = (1, "completion of the run", "activity 'ship' #1", None)


@change
class SameActivityOnceMore:
    async def old():
        for _ in range(2):
            await ask(check, 1)

    async def new():
        for _ in range(3):
            await ask(check, 1)

    says = (2, "completion of the run", "activity 'check' #3", None)


@change
class ActivityRemovedInFront:
    async def old():
        await ask(check, 1)
        await ask(charge, 1)

    async def new():
        await ask(charge, 1)

    says = (0, "activity 'check' #1", "activity 'charge' #1", None)


@change
class ActivityRemovedAtTheEnd:
    async def old():
        await ask(charge, 1)
        await ask(ship)

    async def new():
        await ask(charge, 1)

    says = (1, "activity 'ship' #1", "completion of the run", None)


@change
class ActivityRemovedBeside:
    async def old():
        await asyncio.gather(ask(charge, 1), ask(check, 1))

    async def new():
        await asyncio.gather(ask(charge, 1))

    says = (0, "activity 'check' #1", None, None)


@change
class ManyActivitiesRemoved:
    async def old():
        await asyncio.gather(ask(charge, 1), *(ask(check, n) for n in range(5)))

    async def new():
        await ask(charge, 1)

    left = "activity 'check' #1, activity 'check' #2, activity 'check' #3 and 2 more"
    says = (0, left, None, None)


@change
class MovedToTheOtherBranch:
    async def old():
        if await ask(check, True):
            await ask(charge, 1)

    async def new():
        if not await ask(check, True):
            await ask(charge, 1)

    says = (1, "activity 'charge' #1", "completion of the run", None)


@change
class KeyChanged:
    async def old():
        await keyed("a")

    async def new():
        await keyed("b")

    says = (0, "activity 'charge' key 'a' #1", "activity 'charge' key 'b' #1", None)


@change
class KeyUsedTwice:
    async def old():
        await asyncio.gather(keyed("a"), keyed("b"))

    async def new():
        await asyncio.gather(keyed("a"), keyed("a"))

    says = (0, "activity 'charge' key 'b' #1", "activity 'charge' key 'a' #2", None)


@change
class TimerLonger:
    async def old():
        await asyncio.sleep(60)

    async def new():
        await asyncio.sleep(61)

    says = (0, "timer of 60 s #1", "timer of 61 s #1", None)


@change
class TimerAdded:
    async def old():
        await ask(charge, 1)
        await ask(ship)

    async def new():
        await ask(charge, 1)
        await asyncio.sleep(5)
        await ask(ship)

    says = (1, "activity 'ship' #1", "timer of 5 s #1", None)


@change
class TimerRemoved:
    async def old():
        await asyncio.sleep(5)
        await ask(ship)

    async def new():
        await ask(ship)

    says = (0, "timer of 5 s #1", "activity 'ship' #1", None)


@change
class TimeoutAdded:
    async def old():
        await ask(ship)

    async def new():
        async with asyncio.timeout(30):
            await ask(ship)

    says = (0, None, "timer of 30 s #1", None)


@change
class TimeoutRemoved:
    async def old():
        async with asyncio.timeout(30):
            await ask(ship)

    async def new():
        await ask(ship)

    says = (0, "timer of 30 s #1", None, None)


@change
class TimerInsteadOfAnActivity:
    async def old():
        await ask(ship)

    async def new():
        await asyncio.sleep(1)

    says = (0, "activity 'ship' #1", "timer of 1 s #1", None)


@change
class CancelledInsteadOfAwaited:
    async def old():
        handle = workflow.start_activity(charge, 1)
        await ask(ship)
        await handle

    async def new():
        handle = workflow.start_activity(charge, 1)
        await ask(ship)
        handle.cancel()

    order = "last"
    says = (1, None, "cancellation of activity 1", None)


@change
class AwaitedInsteadOfCancelled:
    async def old():
        handle = workflow.start_activity(charge, 1)
        await ask(ship)
        handle.cancel()
        await ask(check, 1)

    async def new():
        handle = workflow.start_activity(charge, 1)
        await ask(ship)
        await handle

    order = "last"
    says = (1, "activity 'check' #1, cancellation of activity 1", None, None)


@change
class TimerNoLongerCancelled:
    async def old():
        task = asyncio.create_task(asyncio.sleep(60))
        await ask(ship)
        task.cancel()
        await ask(check, 1)

    async def new():
        task = asyncio.create_task(asyncio.sleep(60))
        await ask(ship)
        await ask(check, 1)
        task.cancel()

    says = (1, "cancellation of timer 2", None, None)


@change
class FailsInsteadOfCompleting:
    async def old():
        await ask(ship)

    async def new():
        await ask(ship)
        raise ApplicationError("no")

    says = (1, "completion of the run", "failure of the run", None)


@change
class CompletesInsteadOfFailing:
    async def old():
        await ask(ship)
        raise ApplicationError("no")

    async def new():
        await ask(ship)

    says = (1, "failure of the run", "completion of the run", None)


@change
class CompletesAtOnce:
    async def old():
        await ask(ship)

    async def new():
        pass

    says = (0, "activity 'ship' #1", "completion of the run", None)


@change
class OneAfterTheOtherInsteadOfSideBySide:
    async def old():
        await asyncio.gather(ask(charge, 1), ask(ship))

    async def new():
        await ask(charge, 1)
        await ask(ship)

    says = (0, "activity 'ship' #1", None, None)


@change
class SideBySideInsteadOfOneAfterTheOther:
    async def old():
        await ask(charge, 1)
        await ask(ship)

    async def new():
        await asyncio.gather(ask(charge, 1), ask(ship))

    says = (0, None, "activity 'ship' #1", None)


@change
class WaitsForSomethingElse:
    async def old():
        first, second = workflow.start_activity(charge, 1), workflow.start_activity(ship)
        await first
        await ask(check, 1)
        await second

    async def new():
        first, second = workflow.start_activity(charge, 1), workflow.start_activity(ship)
        await second
        await ask(check, 1)
        await first

    says = (1, "activity 'check' #1", None, None)
