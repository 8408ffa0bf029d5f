"""Agent programs that begin and end event loops: the argument says how; each checks what it leaves.

What a program has open is looked at after a first run, which opens what stays for good, and again
at the end.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
from agents import RunContextWrapper, function_tool
from durable_core import Client
from durable_openai_agents import DurableRunner, RunOptions

from support.agents_app import effect
from support.agents_bench import ECHO, agent, call, calls
from support.waiting import until

ROUNDS = 20


@function_tool
async def look(place: str) -> str:
    """Look somewhere."""
    await asyncio.sleep(0.001)
    effect("look")
    return f"{place} is tidy"


@function_tool
def measure(what: str) -> str:
    """Measure something, in a thread."""
    effect("measure")
    return f"{what} is 42"


worker = agent(
    "worker",
    calls(call("look", place="the attic"), call("measure", what="dust")),
    ECHO,
    tools=[look, measure],
)
OUTPUT = '["the attic is tidy", "dust is 42"]'


# What is left behind


def opened() -> tuple[list[str], list[str]]:
    """Return names of the threads and kinds of the files of this process."""
    gc.collect()
    files: list[str] = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            files.append(str(link.readlink()).partition(":")[0])
        except FileNotFoundError:  # the folder that is listed
            continue

    threads = [thread.name for thread in threading.enumerate()]
    return sorted(threads), sorted(file for file in files if not file.startswith("/proc/"))


def check(before: tuple[list[str], list[str]]) -> None:
    """Fail unless what is open is what was open before."""
    try:
        until(lambda: opened() == before, "the threads to end", timeout=5)
    except AssertionError:
        raise AssertionError(f"before: {before}, now: {opened()}") from None


async def status(id: str) -> str:
    """Return what became of a run."""
    async with await Client.connect() as client:
        row = await client.store.find("default", id)
        return "none" if row is None else row.status


# Loops


async def run(id: str) -> None:
    result = await DurableRunner.run(worker, "hi", workflow_id=id)
    assert result.final_output == OUTPUT


def run_sync(id: str) -> None:
    assert DurableRunner.run_sync(worker, "hi", workflow_id=id).final_output == OUTPUT


def sync() -> None:
    """Call `run_sync` twenty times in a row, then for a run that is recorded."""
    run_sync("first")
    before = opened()
    for number in range(ROUNDS):
        run_sync(f"run-{number}")

    run_sync("run-0")
    check(before)


def loops() -> None:
    """Run event loops one after the other, two runs in one of them, and two loops at once."""
    asyncio.run(run("first"))
    before = opened()
    for number in range(3):
        asyncio.run(run(f"run-{number}"))

    with asyncio.Runner() as loop:
        loop.run(run("run-3"))
        loop.run(run("run-4"))

    _at_once()
    check(before)


def _at_once() -> None:
    """Run two loops in threads: the first to end does not take what the other uses."""
    met = threading.Barrier(2)

    def work(name: str) -> None:
        async def main() -> None:
            await run(f"{name}-1")
            met.wait(20)
            if name == "long":
                ended.wait(20)

            await run(f"{name}-2")

        asyncio.run(main())
        if name == "short":
            ended.set()

    ended = threading.Event()
    threads = [threading.Thread(target=work, args=(name,)) for name in ("short", "long")]
    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join(30)

    for name in ("short", "long"):
        assert asyncio.run(status(f"{name}-2")) == "completed"


# A context with live objects

HELD_KEY = "key-that-the-context-holds"


@dataclass
class Context:
    """What has no JSON form, and belongs to the loop of its first use."""

    client: Any
    lock: asyncio.Lock


@function_tool
async def fetch(wrapper: RunContextWrapper[Context], path: str) -> str:
    """Ask the server that the context knows, one at a time."""
    async with wrapper.context.lock:
        response = await wrapper.context.client.get(path)
        return f"{path}: {response.status_code}"


fetcher = agent(
    "fetcher",
    calls(call("fetch", path="/a"), call("fetch", path="/b")),
    call("fetch", path="/c"),
    ECHO,
    tools=[fetch],
)


def context() -> None:
    """Pass a context that holds an HTTP client and a lock, of each library that users have."""

    async def main(library: Any, id: str) -> None:
        requests: list[str] = []

        async def note(request: Any) -> None:
            requests.append(request.url.path)

        async with library.AsyncClient(
            base_url=os.environ["SERVER"],
            headers={"x-key": HELD_KEY},
            event_hooks={"request": [note]},
        ) as client:
            held = Context(client, asyncio.Lock())
            for _ in range(2):
                result = await DurableRunner.run(fetcher, "hi", context=held, workflow_id=id)
                assert result.final_output == '["/a: 404", "/b: 404", "/c: 404"]'
                assert result.context_wrapper.context is held

        assert sorted(requests) == ["/a", "/b", "/c"]

    asyncio.run(main(httpx, "first"))
    before = opened()
    asyncio.run(main(httpx, "run-1"))
    asyncio.run(main(httpx2, "run-2"))
    check(before)


# Callers that give up


def timeout() -> None:
    """Give up on runs in a tool of each kind, then on one that is detached."""
    begun, go = threading.Event(), threading.Event()
    ended: list[str] = []

    @function_tool
    async def wait_here() -> str:
        begun.set()
        try:
            while not go.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

        ended.append("gone")
        return "gone"

    @function_tool
    def wait_there() -> str:
        begun.set()
        go.wait(20)
        return "gone"

    tools = [wait_here, wait_there]
    here = agent("here", call("wait_here"), ECHO, tools=tools)
    there = agent("there", call("wait_there"), ECHO, tools=tools)

    async def scoped(id: str, options: RunOptions) -> None:
        """Call with a timeout that comes when the tool has begun."""
        begun.clear()
        async with asyncio.timeout(None) as scope:

            async def expire() -> None:
                await asyncio.to_thread(begun.wait, 20)
                scope.reschedule(0)

            expiry = asyncio.ensure_future(expire())
            try:
                await DurableRunner.run(here, "hi", workflow_id=id, options=options)
            finally:
                await expiry

    async def give_up(id: str, call: Any) -> str:
        try:
            await call
        except TimeoutError:
            return await status(id)

        raise AssertionError("no timeout")

    async def main() -> None:
        assert await give_up("scope", scoped("scope", RunOptions())) == "canceled"
        assert ended == ["cancelled"]

        in_thread = DurableRunner.run(there, "hi", workflow_id="thread")
        assert await give_up("thread", asyncio.wait_for(in_thread, 0.5)) == "canceled"

        alone = scoped("alone", RunOptions(on_cancel="detach"))
        assert await give_up("alone", alone) == "running"
        go.set()
        result = await DurableRunner.run(here, "hi", workflow_id="alone")
        assert result.final_output == '["gone"]'
        assert ended == ["cancelled", "gone"]

    asyncio.run(run("before"))
    before = opened()
    asyncio.run(main())
    check(before)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
