"""Changed code meets a record of the old code, through a real worker and its store.

A worker records a run of the old code up to its last activity and is shut down, another goes on
with the new code. The tables of changes are those of the engine's tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest
from durable_core import Client, Worker, activity, workflow
from durable_core.client._stores import open_store
from durable_core.exceptions import ApplicationError
from durable_core.testing import WorkflowEnvironment
from durable_core.testing._clock import SkippingClock
from support import engine_changes, engine_harmless
from support.engine_runs import flow
from support.rows import rows
from support.waiting import eventually

QUEUE = "changed"
# What must not move when a mismatch is found. A run's row may: it tells of the stall.
TABLES = ("start", "activation", "pending", "inbox", "item")


class Ends:
    """The activity that stands for the end of the code, so that a run is open at its end.

    Attributes:
        begun: How often it has begun.
        held: Whether it does not return.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.held = True
        self._by_name = {name: self._activity(name) for name in ("completed", "failed")}

    def _activity(self, name):
        @activity.defn(name=name)
        async def end() -> None:
            self.begun += 1
            if self.held:
                await asyncio.Event().wait()

        return end

    def behind(self, code):
        """Return a workflow that asks for the activity when the code has ended."""

        async def run():
            try:
                result = await code()
            except ApplicationError as error:
                await workflow.execute_activity(self._by_name["failed"])
                return ["failed", str(error)]

            await workflow.execute_activity(self._by_name["completed"])
            return ["completed", result]

        return flow(run)


@contextlib.asynccontextmanager
async def working(url, code, *, at_once=1):
    """Yield the handle of the run, and the clock, beside a worker that has this code."""
    clock = SkippingClock()
    client = Client(await open_store(url), namespace="default", identity="test", clock=clock)
    async with (
        WorkflowEnvironment(client, clock),
        Worker(
            client,
            task_queue=QUEUE,
            workflows=[code],
            activities=None,
            max_concurrent_activities=at_once,
        ),
    ):
        yield client, clock


async def record(url, case, ends):
    """Run the old code until it asks for the activity at its end."""
    last = getattr(case, "order", "first") == "last"
    async with working(url, ends.behind(case.old), at_once=9 if last else 1) as (client, clock):
        if last:
            engine_changes.GATE.clear()

        try:
            handle = await client.start_workflow("Flow", id="w", task_queue=QUEUE)
            with clock.waiting():
                if last:
                    await until_completed(handle, "ship")
                    engine_changes.GATE.set()

                await eventually(lambda: ends.begun, "the end of the old code")
        finally:
            engine_changes.GATE.set()


async def until_completed(handle, name):
    while True:
        history = await handle.fetch_history()
        if any(e.name == name and e.status == "completed" for e in history.timeline()):
            return

        await asyncio.sleep(0.002)


async def go_on(url, code):
    """Let a worker with this code take the run; return its result."""
    async with working(url, code) as (client, _):
        return await asyncio.wait_for(client.get_workflow_handle("w").result(), 20)


async def stall(url, code):
    """Let a worker with this code take the run; return why it stalls."""
    async with working(url, code) as (client, _):
        handle = client.get_workflow_handle("w")
        deadline = asyncio.get_running_loop().time() + 20
        while (found := await handle.describe()).stalled is None:
            assert found.status.name == "RUNNING", f"the run goes on: {found}"
            assert asyncio.get_running_loop().time() < deadline, "the run has not stalled"
            await asyncio.sleep(0.002)

        return found.stalled


def contents(path):
    return {name: rows(path, f"SELECT * FROM {name} ORDER BY 1, 2") for name in TABLES}


def in_words(said):
    """Return what is said of a run's end where an activity stands for it."""
    if isinstance(said, str):
        said = said.replace("completion of the run", "activity 'completed' #1")
        said = said.replace("failure of the run", "activity 'failed' #1")

    return said


@pytest.mark.parametrize("case", engine_changes.CHANGES, ids=lambda case: case.__name__)
def test_a_change_is_found_before_anything_is_committed_and_the_old_code_goes_on(
    case, store_url, store_path
):
    ends = Ends()

    async def main():
        await record(store_url, case, ends)
        before = contents(store_path)
        said = await stall(store_url, ends.behind(case.new))
        after = contents(store_path)
        ends.held = False
        result = await go_on(store_url, ends.behind(case.old))
        return before, said, after, result

    before, said, after, result = asyncio.run(main())

    assert after == before
    assert before["activation"]
    assert before["pending"]
    activation, expected, got, path = case.says
    expected, got = in_words(expected), in_words(got)
    assert said.startswith("durable_core.exceptions.NonDeterminismError: ")
    assert f"in activation {activation}:" in said
    assert expected is ... or f"recorded {expected or 'nothing more'}" in said
    assert got is ... or f"got {got or 'nothing more'}" in said
    assert path is None or f"they differ at {path}" in said
    assert re.search(r"(engine_changes|test_changed_workflows)\.py:\d+ in \w+", said)
    assert result == (["failed", "no"] if "Failing" in case.__name__ else ["completed", None])
    assert ends.begun == 2


@pytest.mark.parametrize("case", engine_harmless.CHANGES, ids=lambda case: case.__name__)
def test_a_harmless_change_stalls_nothing_and_gives_the_result_of_the_new_code(
    case, store_url, store_path
):
    ends = Ends()

    async def main():
        await record(store_url, case, ends)
        before = contents(store_path)["activation"]
        ends.held = False
        result = await go_on(store_url, ends.behind(case.new))
        return before, result

    before, result = asyncio.run(main())

    assert result == ["completed", {"ResultChanged": [1, "more"]}.get(case.__name__)]
    # Nothing was done again but what was cut off: one activation holds its result and the end.
    assert len(contents(store_path)["activation"]) == len(before) + 1
    assert ends.begun == 2


def test_the_tables_hold_as_many_kinds_of_change_as_are_promised():
    assert len(engine_changes.CHANGES) >= 30
    assert len(engine_harmless.CHANGES) >= 15
