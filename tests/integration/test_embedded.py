"""Durable runs from plain code when something is in the way, and what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import shutil
import threading
from pathlib import Path

import apsw
import pytest
from durable_core import Client, _faults, activity, execute_workflow, workflow
from durable_core.adapter import outside
from durable_core.exceptions import NotSupported, StoreError, WorkflowAlreadyStartedError
from durable_core.stores.sqlite import SqliteStore
from support.ledger import Ledger
from support.waiting import eventually, until

HELD = """
import asyncio, os
from durable_core import activity, execute_workflow, workflow
from support import ledger

@activity.defn
async def hold(number: int) -> int:
    ledger.from_environment().write(number)
    print("holding", flush=True)
    await asyncio.Event().wait()
    return number

@workflow.defn
class Held:
    @workflow.run
    async def run(self, number: int) -> int:
        return await workflow.execute_activity(hold, number)

asyncio.run(execute_workflow(Held.run, 1, id="w"))
"""

LOOPS = """
import asyncio
import durable_core
from durable_core import activity, workflow

@activity.defn
def one() -> int:
    return 1

@workflow.defn
class One:
    @workflow.run
    async def run(self) -> int:
        await asyncio.sleep(0.001)
        return await workflow.execute_activity(one)

async def main(n):
    return await durable_core.execute_workflow(One.run, id=f"w{n}")

for n in (1, 2):
    assert asyncio.run(main(n)) == 1

with asyncio.Runner(debug=True) as runner:
    assert runner.run(main(3)) == 1
    assert runner.run(main(4)) == 1

loop = asyncio.new_event_loop()
assert loop.run_until_complete(main(5)) == 1
loop.run_until_complete(durable_core.embedded.close())
loop.close()
"""

FOREVER = """
import asyncio, threading
import durable_core
from durable_core import activity, workflow

@activity.defn
def forever() -> None:
    print("started", flush=True)
    threading.Event().wait()

@workflow.defn
class Forever:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(forever)

async def main():
    try:
        await asyncio.wait_for(durable_core.execute_workflow(Forever.run, id="w"), 0.3)
    except TimeoutError:
        print("gave up", flush=True)

asyncio.run(main())
"""

who = contextvars.ContextVar("who", default="nobody")


class Scene:
    """What the bodies below do and saw; renewed for each test."""

    def renew(self, folder):
        self.ledger = Ledger(folder / "ledger")
        self.broken = False
        self.threads = []
        self.seen = []
        self.go = threading.Event()


scene = Scene()


@pytest.fixture(autouse=True)
def _renewed(tmp_path):
    scene.renew(tmp_path)


@activity.defn
async def note(text: str) -> str:
    scene.ledger.write(text)
    scene.threads.append(threading.current_thread())
    scene.seen.append(who.get())
    who.set("the body")
    return text


@activity.defn
def note_in_a_thread(text: str) -> str:
    scene.ledger.write(text)
    scene.threads.append(threading.current_thread())
    scene.seen.append(who.get())
    return text


@workflow.defn
class Notes:
    @workflow.run
    async def run(self, texts: list[str]) -> list[str]:
        done = [await workflow.execute_activity(note, text) for text in texts]
        if scene.broken:
            raise LookupError("a bug")

        return [*done, await workflow.execute_activity(note_in_a_thread, "last")]


@workflow.defn
class Held:
    """Stands in for the workflow of the other process."""

    @workflow.run
    async def run(self, number: int) -> int:
        return number


def notes(url, *, id="w"):
    return execute_workflow(Notes.run, ["a", "b"], id=id, url=url)


def effects():
    return sorted(effect.key for effect in scene.ledger.effects())


# Another process


def test_other_input_and_other_workflows_are_refused_while_another_process_owns_the_run(
    processes, store_url
):
    other = processes.start(HELD, DURABLE_URL=store_url, LEDGER=scene.ledger.path)
    until(lambda: "holding" in other.output or not other.running, "the other process")

    async def main():
        async with asyncio.timeout(5):
            with pytest.raises(WorkflowAlreadyStartedError, match=r"'w'.*other input.*'w/2'"):
                await execute_workflow(Held.run, 2, id="w", url=store_url)

            with pytest.raises(
                WorkflowAlreadyStartedError, match=r"a run of 'Held', not of 'Notes'"
            ):
                await notes(store_url)

    asyncio.run(main())
    assert other.running
    assert effects() == ["1"]


# What is left behind


@pytest.fixture
def durable_threads():
    """Returns our threads, but those that another test left in a body that never ends."""
    before = threading.enumerate()
    return lambda: [
        t.name for t in threading.enumerate() if t.name.startswith("durable-") and t not in before
    ]


def open_files():
    """Names of the files that this process has open, without the folder that is listed."""
    gc.collect()
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            continue

    return sorted(name for name in found if not name.startswith("/proc/"))


def test_twenty_rounds_leave_no_threads_and_no_open_files(store_url, durable_threads):
    asyncio.run(notes(store_url, id="first"))
    until(lambda: not durable_threads(), "the threads to end")
    # By identity: what an earlier test left may end meanwhile, and must hide nothing.
    before, threads = open_files(), set(threading.enumerate())
    for i in range(20):
        asyncio.run(notes(store_url, id=f"w{i}"))

    until(lambda: not durable_threads(), "the threads to end")
    assert open_files() == before
    assert set(threading.enumerate()) <= threads


def test_a_store_that_cannot_have_workers_leaves_no_threads_and_no_open_files(
    tmp_path, store_url, durable_threads
):
    asyncio.run(notes(store_url))
    until(lambda: not durable_threads(), "the threads to end")
    workers = tmp_path / "store.db-workers"
    shutil.rmtree(workers)
    workers.write_text("in the way")
    before = open_files()

    async def main():
        for _ in range(3):
            with pytest.raises(StoreError, match=r"store\.db-workers"):
                await notes(store_url)

            await eventually(lambda: not durable_threads(), "the threads to end")

    asyncio.run(main())
    assert open_files() == before
    workers.unlink()
    assert asyncio.run(notes(store_url)) == ["a", "b", "last"]


def test_a_program_of_several_loops_ends_without_a_word(processes, store_url):
    assert processes.run(LOOPS, DURABLE_URL=store_url).checked().output == ""


def test_a_body_that_never_returns_does_not_hold_up_the_end_of_the_program(processes, store_url):
    ended = processes.run(FOREVER, DURABLE_URL=store_url, limit=10).checked()
    assert ended.output == "started\ngave up\n"


# Where bodies run


def test_sync_bodies_run_in_threads_and_async_ones_on_the_callers(store_url):
    asyncio.run(notes(store_url))
    here = threading.current_thread()
    assert [t is here for t in scene.threads] == [True, True, False]


def test_bodies_cannot_change_the_context_of_the_caller_or_of_each_other(store_url):
    async def main():
        who.set("the caller")
        await notes(store_url)
        return who.get()

    assert asyncio.run(main()) == "the caller"
    assert scene.seen == ["the caller"] * 3


# Bugs and full disks


def test_a_bug_reaches_every_call_in_every_loop_until_the_code_is_fixed(store_url):
    async def broken():
        scene.broken = True
        for _ in range(2):
            errors = await asyncio.gather(
                notes(store_url), notes(store_url), return_exceptions=True
            )
            assert [(type(e), str(e)) for e in errors] == [(LookupError, "a bug")] * 2

        async with await Client.connect(store_url) as client:
            described = await client.get_workflow_handle("w").describe()
            assert described.stalled == "LookupError: a bug"

    asyncio.run(broken())
    asyncio.run(broken())
    assert effects() == ["a", "b"]
    scene.broken = False
    assert asyncio.run(notes(store_url)) == ["a", "b", "last"]
    assert effects() == ["a", "b", "last"]


class FullDisk:
    """Stands in the place of the fault points: one commit finds the disk full."""

    def __init__(self, monkeypatch, at):
        self.left = at
        monkeypatch.setattr(_faults, "reach", self)

    def __call__(self, point):
        if point == "store.commit.before" and self.left > 0:
            self.left -= 1
            if self.left == 0:
                raise apsw.FullError("database or disk is full")


# The worker, the start with the first step, and one for each of the three outcomes.
COMMITS = 5


@pytest.mark.parametrize("at", range(1, COMMITS + 1))
def test_a_commit_that_fails_reaches_the_caller_and_the_next_call_goes_on(
    at, store_url, monkeypatch
):
    async def main():
        disk = FullDisk(monkeypatch, at)
        with pytest.raises(StoreError, match=r"the disk of .*store\.db is full"):
            await notes(store_url)

        assert disk.left == 0
        return await notes(store_url)

    assert asyncio.run(main()) == ["a", "b", "last"]
    # The outcome that was not recorded is got once more; nothing that was recorded is.
    got_twice = {3: ["a"], 4: ["b"], 5: ["last"]}.get(at, [])
    assert effects() == sorted(["a", "b", "last", *got_twice])


def test_a_full_disk_keeps_what_is_recorded_for_the_next_process(store_url, monkeypatch):
    with monkeypatch.context() as patch:
        FullDisk(patch, 4)
        with pytest.raises(StoreError, match=r"Free space; nothing acknowledged is lost"):
            asyncio.run(notes(store_url))

    assert asyncio.run(notes(store_url)) == ["a", "b", "last"]
    assert effects() == ["a", "b", "b", "last"]


@workflow.defn
class WaitsForAThread:
    @workflow.run
    async def run(self) -> str:
        loop = asyncio.get_running_loop()
        found = loop.create_future()

        def work() -> None:
            scene.go.wait(10)
            with contextlib.suppress(NotSupported):
                loop.call_soon_threadsafe(found.set_result, "found")

        thread = threading.Thread(target=work)
        # As a thread of a library would, the guard notwithstanding.
        outside(thread.start)
        scene.threads.append(thread)
        return await found


@pytest.mark.parametrize("when", ["in the activation", "before its commit", "later"])
def test_code_that_waits_for_a_thread_is_told_instead_of_waiting_for_ever(
    store_url, when, monkeypatch
):
    append = SqliteStore.append

    def append_late(store, what):
        scene.go.set()
        scene.threads[0].join()
        return append(store, what)

    async def main() -> None:
        run = asyncio.create_task(execute_workflow(WaitsForAThread.run, id="w", url=store_url))
        async with await Client.connect(store_url) as client:
            while await client.store.find("default", "w") is None:
                await asyncio.sleep(0.002)

        scene.go.set()
        async with asyncio.timeout(10):
            with pytest.raises(NotSupported, match=r"a thread .* called into a workflow"):
                await run

    match when:
        case "in the activation":
            scene.go.set()
        case "before its commit":
            monkeypatch.setattr(SqliteStore, "append", append_late)

    asyncio.run(main())
    scene.threads[0].join()
