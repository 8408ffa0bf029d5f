"""Programs to kill at random times: many kinds of run at once, and who starts and talks to them.

``worker`` serves the queue. ``client`` starts the runs, sends signals and awaits the results, beside
a worker elsewhere; ``both`` does so beside one of its own. ``embedded`` calls the runs that need no
signals. Whatever was acknowledged is appended to the file that ``ACKS`` names, and forced to disk,
before the program goes on; a program that is started again goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_core import Client, RetryPolicy, Worker, activity, execute_workflow, workflow
from durable_core.client import WorkflowHandle
from durable_core.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from durable_core.exceptions import (
    ActivityError,
    ApplicationError,
    WorkflowAlreadyStartedError,
    WorkflowNotFoundError,
)

from support import ledger
from support.talk_app import Collector, note

QUEUE = "kills"
SIGNALS = 12
PAUSE = 0.06
SOON = RetryPolicy(initial_interval=timedelta(seconds=0.02), maximum_attempts=20)


@activity.defn(retry_policy=SOON)
async def act(key: str) -> str:
    ledger.from_environment().write(key)
    return f"did {key}"


@activity.defn(retry_policy=SOON)
def block(key: str) -> str:
    time.sleep(0.005)
    ledger.from_environment().write(key)
    return f"did {key}"


@activity.defn(retry_policy=SOON)
async def stumble(key: str) -> str:
    if activity.info().attempt < 3:
        raise ConnectionError("not yet")

    ledger.from_environment().write(key)
    return f"did {key}"


@activity.defn(retry_policy=SOON)
async def refuse(key: str) -> str:
    ledger.from_environment().write(key)
    raise ApplicationError(f"no {key}", non_retryable=True)


@workflow.defn
async def sequential() -> list[str]:
    return [await act(f"s{n}") for n in range(6)]


@workflow.defn
async def parallel() -> list[str]:
    sync = [workflow.execute_activity(block, f"b{n}") for n in range(2)]
    return list(await asyncio.gather(*(act(f"p{n}") for n in range(3)), *sync))


@workflow.defn
async def timed() -> list[str]:
    done = [await act("before")]
    await asyncio.sleep(PAUSE)
    done.append(await act("after"))
    try:
        async with asyncio.timeout(0.03):
            await asyncio.Event().wait()
    except TimeoutError:
        done.append(await act("late"))

    return done


@workflow.defn
async def failing() -> list[str]:
    done = [await stumble("third")]
    try:
        await workflow.execute_activity(refuse, "twice")
    except ActivityError as error:
        done.append(str(error.cause))

    return [*done, await act("undo")]


@workflow.defn
async def nested() -> list[list[str]]:
    async def branch(name: str) -> list[str]:
        first = await act(f"{name}1")
        async with asyncio.TaskGroup() as inner:
            rest = [inner.create_task(act(f"{name}{n}")) for n in (2, 3)]

        return [first, *(task.result() for task in rest)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(name)) for name in "xyz"]

    return [task.result() for task in tasks]


FLOWS = {code.__name__: code for code in (sequential, parallel, timed, failing, nested)}
TALK = "talk"
EXPECTED: dict[str, Any] = {
    "sequential": [f"did s{n}" for n in range(6)],
    "parallel": ["did p0", "did p1", "did p2", "did b0", "did b1"],
    "timed": ["did before", "did after", "did late"],
    "failing": ["did third", "no twice", "did undo"],
    "nested": [[f"did {name}{n}" for n in (1, 2, 3)] for name in "xyz"],
}


class Acks:
    """What was acknowledged to a program, kept outside the engine."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)

    def write(self, kind: str, what: object, value: object = None) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, json.dumps([kind, what, value]).encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self, kind: str) -> list[tuple[Any, Any]]:
        """Return what was acknowledged of a kind, in order, each with its value."""
        text = self._path.read_text() if self._path.exists() else ""
        lines = [json.loads(line) for line in text.split("\n")[:-1]]
        return [(what, value) for found, what, value in lines if found == kind]


@contextlib.asynccontextmanager
async def serving(client: Client) -> AsyncIterator[None]:
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[*FLOWS.values(), Collector],
        activities=[act, block, stumble, refuse, note],
    ):
        yield


async def talk(client: Client, acks: Acks) -> None:
    """Start what is not started, send what is not sent, and await what has no result yet."""
    started = {what for what, _ in acks.read("started")}
    handles = {}
    for name, code in {TALK: Collector, **FLOWS}.items():
        if name not in started:
            await _start(client, name, code)
            acks.write("started", name)

        handles[name] = client.get_workflow_handle(name)

    await asyncio.gather(_signal(handles[TALK], acks), *(_await(h, acks) for h in handles.values()))


async def _start(client: Client, name: str, code: Any) -> None:
    # What an earlier process started and did not learn of may even have ended.
    with contextlib.suppress(WorkflowAlreadyStartedError):
        await client.start_workflow(
            getattr(code, "run", code),
            id=name,
            task_queue=QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )


async def _signal(handle: WorkflowHandle[Any], acks: Acks) -> None:
    sent = [number for number, _ in acks.read("sent")]
    for number in range(max(sent, default=0) + 1, SIGNALS + 1):
        acks.write("sends", number)
        await handle.signal(Collector.put, number)
        acks.write("sent", number)
        await asyncio.sleep(0.005)

    if not acks.read("ended"):
        # It has ended if an earlier process sent this and did not learn of it.
        with contextlib.suppress(WorkflowNotFoundError):
            await handle.signal(Collector.end)

        acks.write("ended", TALK)


async def _await(handle: WorkflowHandle[Any], acks: Acks) -> None:
    acks.write("result", handle.id, await handle.result())


async def embedded(acks: Acks) -> None:
    async def call(name: str, code: Any) -> None:
        acks.write("result", name, await execute_workflow(code, id=name))

    await asyncio.gather(*(call(name, code) for name, code in FLOWS.items()))


async def main(role: str) -> None:
    acks = Acks(os.environ["ACKS"])
    if role == "embedded":
        await embedded(acks)
        return

    async with await Client.connect() as client, contextlib.AsyncExitStack() as stack:
        if role != "client":
            await stack.enter_async_context(serving(client))

        await (asyncio.Event().wait() if role == "worker" else talk(client, acks))


if __name__ == "__main__":
    print("imported", flush=True)
    asyncio.run(main(sys.argv[1]))
    print("done", flush=True)
