"""Workflows that ask people, and what serves them."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from dataclasses import dataclass
from typing import Any

from durable_core import Client, RetryPolicy, Worker, activity, workflow
from durable_core.exceptions import DecodeError

QUEUE = "asks"

# What activities did since the last worker was started.
ran: list[str] = []


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Refund:
    cents: int
    reason: str = ""


@dataclass
class Even:
    """Refuses what its JSON form allows."""

    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")


@activity.defn
async def mail(text: str) -> None:
    ran.append(text)
    if text == "fail":
        raise RuntimeError("no mail server")

    if text == "hang":
        try:
            await asyncio.Event().wait()
        finally:
            ran.append("hung")


@workflow.defn
async def approval(question: Any) -> list[Any]:
    """Ask for yes or no."""
    answer = await workflow.request("refund", question, summary="a refund")
    return [answer.value, answer.by, answer.note, answer.time.timestamp()]


@workflow.defn
async def amount(cents: int) -> list[Any]:
    answer = await workflow.request("amount", {"cents": cents}, Refund)
    assert isinstance(answer.value, Refund)
    return [answer.value.cents, answer.value.reason, answer.by]


@workflow.defn
async def in_time(seconds: float) -> str:
    """Say what became of a request that has a timeout."""
    try:
        answer = await workflow.request("number", None, int, timeout=seconds)
    except TimeoutError as error:
        return f"late: {error}"

    return f"answered {answer.value}"


@workflow.defn
async def in_own_time(seconds: float) -> str:
    """As `in_time`, by asyncio's own means."""
    try:
        async with asyncio.timeout(seconds):
            answer = await workflow.request("number", None, int)
    except TimeoutError:
        return "late"

    return f"answered {answer.value}"


@workflow.defn
async def must_be_in_time(seconds: float) -> int:
    return (await workflow.request("number", None, int, timeout=seconds)).value


@workflow.defn
class Stoppable:
    """Asks until it is told to stop."""

    def __init__(self) -> None:
        self.stops = False
        self.ends = False

    @workflow.run
    async def run(self) -> str:
        asking = asyncio.ensure_future(workflow.request("number", None, int))
        stopping = asyncio.ensure_future(workflow.wait_condition(lambda: self.stops))
        await asyncio.wait([asking, stopping], return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            said = f"answered {asking.result().value}"
        else:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

            said = "stopped"

        await workflow.wait_condition(lambda: self.ends)
        return said

    @workflow.signal
    def stop(self) -> None:
        self.stops = True

    @workflow.signal
    def end(self) -> None:
        self.ends = True


@workflow.defn
async def until_cancelled() -> str:
    try:
        answer = await workflow.request("number", None, int)
    except asyncio.CancelledError:
        return "cancelled"

    return f"answered {answer.value}"


@workflow.defn
async def until_told(seconds: float) -> str:
    """End after a time, and ask meanwhile."""
    asking = asyncio.ensure_future(workflow.request("number", None, int))
    await asyncio.wait([asking], timeout=seconds)
    return f"answered {asking.result().value}" if asking.done() else "ended"


@workflow.defn
async def goes_on(seconds: float) -> str:
    """Go on as a new run after a time, and ask meanwhile."""
    if seconds < 0:
        return "ended"

    asking = asyncio.ensure_future(workflow.request("number", None, int))
    await asyncio.wait([asking], timeout=seconds)
    if not asking.done():
        workflow.continue_as_new(-1.0)

    return f"answered {asking.result().value}"


@workflow.defn
async def several(count: int) -> list[int]:
    """Ask for numbers, all at once."""
    asked = [workflow.request("number", n, int, key=f"n{n}") for n in range(count)]
    return [answer.value for answer in await asyncio.gather(*asked)]


@workflow.defn
async def chain(count: int) -> list[int]:
    """Ask for numbers, one after the other."""
    return [(await workflow.request("number", n, int)).value for n in range(count)]


@workflow.defn
async def reminding(after: float | None, every: float | None, what: str) -> list[Any]:
    """Mail what it is told to, or the number of the reminder."""
    numbers: list[int] = []

    async def remind(number: int) -> None:
        numbers.append(number)
        await workflow.execute_activity(
            mail, what or str(number), retry_policy=RetryPolicy(maximum_attempts=1)
        )

    answer = await workflow.request(
        "number", None, int, remind_after=after, remind_every=every, on_reminder=remind
    )
    return [answer.value, numbers]


@workflow.defn
async def noted(after: float) -> int:
    """Be reminded by the list alone."""
    return (await workflow.request("number", None, int, remind_after=after)).value


@workflow.defn
async def insistent() -> list[Any]:
    """Ask again until the answer is one."""
    refused = 0
    while True:
        try:
            answer = await workflow.request("even", None, Even)
        except DecodeError:
            refused += 1
        else:
            return [answer.value.number, refused]


@workflow.defn
async def gullible() -> int:
    return (await workflow.request("even", None, Even)).value.number


@workflow.defn
async def forgetful() -> str:
    """End while somebody may still answer."""
    asking = asyncio.ensure_future(workflow.request("number", None, int))
    await asyncio.sleep(0)
    return "ended" if not asking.done() else "answered"


CODE: list[Any] = [
    *(
        approval,
        amount,
        in_time,
        in_own_time,
        must_be_in_time,
        Stoppable,
        until_cancelled,
        until_told,
    ),
    *(goes_on, several, chain, reminding, noted, insistent, gullible, forgetful),
]


@contextlib.asynccontextmanager
async def working(url, **options):
    """Yield the client of a worker that has just started, and has run nothing yet."""
    ran.clear()
    options = {"workflows": CODE, "activities": [mail], **options}
    async with (
        await Client.connect(url, identity="near") as client,
        Worker(client, task_queue=QUEUE, **options),
    ):
        yield client


def begin(client, code, *args, id="w", **options):
    """Return what starts a run, which one awaits."""
    return client.start_workflow(code, args=args, id=id, task_queue=QUEUE, **options)


async def asked(handle, count=1):
    """Return what a run asks, once it asks so much."""
    while len(found := await handle.requests()) < count:
        await asyncio.sleep(0.002)

    return found
