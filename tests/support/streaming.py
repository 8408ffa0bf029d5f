"""Workflows that write to streams, and what tests ask of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from datetime import timedelta

from durable_core import Client, Worker, activity, workflow
from durable_core.common import RetryPolicy
from durable_core.exceptions import ApplicationError

QUEUE = "streams"
AT_ONCE = RetryPolicy(initial_interval=timedelta(milliseconds=1), backoff_coefficient=1.0)
TEXT = "It was a bright cold day in April, and the clocks were striking thirteen."


@dataclass
class Part:
    text: str
    last: bool = False


class Gates:
    """What activities of this process wait for, by name."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Event] = {}
        self.reached: list[str] = []

    def clear(self) -> None:
        """Begin anew, for another event loop."""
        self._open.clear()
        self.reached.clear()

    def __getitem__(self, name: str) -> asyncio.Event:
        return self._open.setdefault(name, asyncio.Event())


gates = Gates()


@activity.defn
async def say(text: str, stream: str = "tokens", fails_at: list[int] | None = None) -> str:
    """Write a text by letters; the n-th attempt fails behind the n-th of these places."""
    attempt = activity.info().attempt
    out = activity.stream(stream)
    for place, letter in enumerate(text):
        if fails_at is not None and attempt <= len(fails_at) and fails_at[attempt - 1] == place:
            raise ApplicationError(f"attempt {attempt} fails at {place}", type="Broken")

        out.write(letter)
        await asyncio.sleep(0)

    return text


@activity.defn
def say_in_a_thread(text: str) -> str:
    out = activity.stream("tokens")
    for letter in text:
        out.write(letter)
        time.sleep(0.0005)

    return text


@activity.defn
async def say_parts(text: str) -> int:
    out = activity.stream("parts")
    for word in text.split():
        out.write(Part(word))

    out.write(Part("", last=True))
    return len(text.split())


@activity.defn
async def halt(name: str, text: str) -> str:
    """Write, then wait for a gate of that name, then write the rest."""
    out = activity.stream("tokens")
    out.write(text)
    gates.reached.append(name)
    await gates[name].wait()
    out.write("!")
    return text


@activity.defn
async def write_sized(sizes: list[int], stream: str = "tokens") -> str:
    out = activity.stream(stream)
    for size in sizes:
        out.write("x" * size)

    return "done"


@activity.defn
async def write_to(names: list[str]) -> str:
    for name in names:
        activity.stream(name).write(1)

    return "done"


@workflow.defn
async def once(text: str, fails_at: list[int]) -> str:
    return await workflow.execute_activity(
        say, args=[text, "tokens", fails_at], retry_policy=AT_ONCE
    )


@workflow.defn
async def threaded(text: str) -> str:
    return await workflow.execute_activity(say_in_a_thread, text)


@workflow.defn
async def in_parts(text: str) -> int:
    return await say_parts(text)


@workflow.defn
async def fails(text: str, at: int) -> str:
    """Fail for good, behind a place, and answer with the error."""
    try:
        return await workflow.execute_activity(
            say,
            args=[text, "tokens", [at]],
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
    except ApplicationError as error:
        return str(error)
    except Exception as error:
        return str(error.__cause__)


@workflow.defn
async def halting(name: str) -> str:
    return await halt(name, "half")


@workflow.defn
class Stopping:
    """Is told to cancel its activity."""

    def __init__(self) -> None:
        self.stops = False

    @workflow.run
    async def run(self, name: str) -> str:
        handle = workflow.start_activity(halt, args=[name, "half"])
        await workflow.wait_condition(lambda: self.stops)
        handle.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            await handle

        return await say("whole")

    @workflow.signal
    def stop(self) -> None:
        self.stops = True


@workflow.defn
async def reporting(steps: int) -> int:
    """Report every step from the run's code, and end the report."""
    progress = workflow.stream("progress")
    for n in range(steps):
        progress.write(Part(f"step {n}"))
        await say(str(n))
        progress.write(Part(f"done {n}", last=True))
        if n % 2:
            await asyncio.sleep(0.001)

    progress.end()
    return steps


@workflow.defn
async def talkative(names: list[str]) -> int:
    """Several activities at once, on one stream."""
    await asyncio.gather(*(say(name * 20) for name in names))
    return len(names)


@workflow.defn
async def sizes(given: list[int]) -> str:
    return await workflow.execute_activity(write_sized, args=[given])


@workflow.defn
async def streams_named(names: list[str]) -> str:
    return await write_to(names)


@workflow.defn
async def end_too_early() -> str:
    workflow.stream("tokens").end()
    return await say("late")


WORKFLOWS = [
    *(once, threaded, in_parts, fails, halting, Stopping, reporting, talkative, sizes),
    *(streams_named, end_too_early),
]
ACTIVITIES = [say, say_in_a_thread, say_parts, halt, write_sized, write_to]


@contextlib.asynccontextmanager
async def serving(url, **options):
    """Yield the client of a worker that has just started."""
    gates.clear()
    options = {"workflows": WORKFLOWS, "activities": ACTIVITIES, **options}
    async with (
        await Client.connect(url) as client,
        Worker(client, task_queue=QUEUE, **options),
    ):
        yield client


def begin(client, code, *args, id="w", **options):
    """Return what starts a run, which one awaits."""
    return client.start_workflow(code, args=args, id=id, task_queue=QUEUE, **options)


async def items_of(handle, name="tokens", **options):
    """Return all items of a stream that comes to its end."""
    return [item async for item in handle.stream(name, **options).items()]


def kinds_of(items):
    """Return the items in short: letters for what was written, / for a reset, . for the end."""
    short = {"reset": "/", "end": "."}
    return "".join(short.get(i.kind) or str(i.value) for i in items)
