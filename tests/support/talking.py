"""Workflows to talk to, what their activities did, and a worker that serves them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from durable_core import Client, Worker, activity, workflow
from durable_core.exceptions import ApplicationError

QUEUE = "talk"

# What activities did since the last worker was started.
ran: list[str] = []


@dataclass
class Note:
    text: str
    size: int = 0


@workflow.defn
class Inbox:
    """Keeps what it is sent until it is told to end."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.ends = False

    @workflow.run
    async def run(self, owner: str) -> list[Note]:
        try:
            await workflow.wait_condition(lambda: self.ends)
        except asyncio.CancelledError:
            self.notes.append(Note(f"cancelled: {workflow.cancellation_reason()}"))
            await note("cleaned up")
            raise

        return self.notes

    @workflow.signal
    async def take(self, note: Note) -> None:
        self.notes.append(note)

    @workflow.signal
    def end(self) -> None:
        self.ends = True

    @workflow.update
    async def add(self, note: Note) -> int:
        await asyncio.sleep(note.size / 1000)
        if note.text == "fail":
            raise ApplicationError("no such note", type="NoNote")

        self.notes.append(note)
        return len(self.notes)

    @add.validator
    def check_add(self, note: Note) -> None:
        if not note.text:
            raise ValueError("a note needs a text")

    @workflow.update
    def rename(self, index: int, text: str) -> Note:
        self.notes[index].text = text
        return self.notes[index]

    @workflow.query
    def texts(self, least: int = 0) -> list[str]:
        return [n.text for n in self.notes if n.size >= least]

    @workflow.query
    def first(self) -> Note | None:
        return self.notes[0] if self.notes else None


@activity.defn
async def note(text: str) -> None:
    ran.append(text)


@activity.defn
async def hang(text: str) -> None:
    ran.append(f"begun {text}")
    try:
        await asyncio.Event().wait()
    finally:
        ran.append(f"ended {text}")


@workflow.defn
async def hanging() -> None:
    await hang("body")


@workflow.defn
async def sleeper(seconds: float) -> str:
    await asyncio.sleep(seconds)
    await note("awake")
    return "slept"


WORKFLOWS = [Inbox, hanging, sleeper]
ACTIVITIES = [note, hang]


@contextlib.asynccontextmanager
async def working(url, **options):
    """Yield the client of a worker that has just started, and has run nothing yet."""
    ran.clear()
    options = {"workflows": WORKFLOWS, "activities": ACTIVITIES, **options}
    async with (
        await Client.connect(url, identity="worker's client") as client,
        Worker(client, task_queue=QUEUE, **options),
    ):
        yield client


@contextlib.asynccontextmanager
async def both(url, **options):
    """Yield the client of the worker, and one that has only the file in common with it."""
    async with working(url, **options) as near, await Client.connect(url, identity="far") as far:
        yield near, far


def begin(client, code, *args, id="w", **options):
    """Return what starts a run, which one awaits."""
    return client.start_workflow(code, args=args, id=id, task_queue=QUEUE, **options)
