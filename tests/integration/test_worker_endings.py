"""A program that ends in whatever way around its worker: the next worker goes on with its runs."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest
from durable_core import Client, Worker, activity, workflow

QUEUE = "endings"


class Scene:
    """What the activity does next."""

    ending: str = ""
    begun: asyncio.Future[None]
    client: Client


scene = Scene()


@activity.defn
async def step() -> str:
    match scene.ending:
        case "exit":
            sys.exit(3)
        case "ctrl-c":
            raise KeyboardInterrupt
        case "loop":
            scene.begun.set_result(None)
            await asyncio.sleep(60)

    return "done"


@activity.defn
def step_in_a_thread() -> str:
    match scene.ending:
        case "exit":
            sys.exit(3)
        case "loop":
            scene.begun.get_loop().call_soon_threadsafe(scene.begun.set_result, None)
            time.sleep(60)

    return "done"


@activity.defn
async def step_to_a_thread() -> str:
    return await activity.to_thread(step_in_a_thread)


STEPS = {one.__name__: one for one in (step, step_in_a_thread, step_to_a_thread)}


@workflow.defn
class Steps:
    @workflow.run
    async def run(self, which: str) -> str:
        return await workflow.execute_activity(STEPS[which])


def worker(client):
    return Worker(client, task_queue=QUEUE, workflows=[Steps], activities=[*STEPS.values()])


@pytest.mark.parametrize(
    ("ending", "which"),
    [
        *((ending, which) for ending in ("exit", "loop") for which in STEPS),
        ("ctrl-c", "step"),  # which reaches the main thread only
    ],
)
def test_the_next_worker_goes_on_with_what_the_end_of_a_program_cut_off(store_url, ending, which):
    async def ends() -> None:
        async with await Client.connect(store_url) as client, worker(client):
            handle = await client.start_workflow(Steps.run, which, id="w", task_queue=QUEUE)
            await handle.result()

    async def ends_around_its_worker() -> None:
        # As a service that keeps its worker in a task: the loop cancels every task at once.
        client = await Client.connect(store_url)
        task = asyncio.create_task(worker(client).run())
        scene.begun = asyncio.get_running_loop().create_future()
        await client.start_workflow(Steps.run, which, id="w", task_queue=QUEUE)
        await scene.begun
        assert not task.done()
        scene.client = client

    async def goes_on() -> str:
        async with await Client.connect(store_url) as client, worker(client):
            return await asyncio.wait_for(client.get_workflow_handle("w").result(), 10)

    scene.ending = ending
    if ending == "loop":
        asyncio.run(ends_around_its_worker())
        scene.client.store.close_now()
    else:
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            asyncio.run(ends())

    scene.ending = ""
    assert asyncio.run(goes_on()) == "done"
