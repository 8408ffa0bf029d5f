"""The tables of types and exceptions through a store, and through a fresh interpreter on replay."""

from __future__ import annotations

import asyncio
import json

import pytest
from durable_core import Client, Worker, workflow
from durable_core.exceptions import WorkflowFailureError
from support import types_errors as e
from support import types_matrix as m
from support.processes import TESTS

VALUES = """
import asyncio, json
from durable_core import execute_workflow
from support import types_matrix as m

async def main():
    seen = {}
    for case in m.CASES:
        flow = m.flow_of(case.annotation, case.id)
        result = await execute_workflow(flow.workflow, case.value, id=case.id)
        seen[case.id] = [repr(m.shape(value)) for value in [*flow.seen, result]]

    print(json.dumps(seen))

asyncio.run(main())
"""

ERRORS = """
import asyncio, json
from durable_core import execute_workflow
from support import types_errors as e

async def main():
    for name in e.RAISED:
        await execute_workflow(e.Failing.run, name, id=name)

    print(json.dumps(e.seen))

asyncio.run(main())
"""


@pytest.fixture
def run(processes, store_url):
    """Runs code in a new interpreter on one store, and returns what it printed."""

    def run(code: str, seed: int):
        surroundings = {"DURABLE_URL": store_url, "PYTHONPATH": TESTS, "PYTHONHASHSEED": seed}
        return json.loads(processes.run(code, **surroundings).checked().output)

    return run


def test_every_type_is_in_a_fresh_interpreter_what_it_was_when_it_was_passed(run):
    live, replayed = run(VALUES, 1), run(VALUES, 2)

    for case in m.CASES:
        expected = repr(m.shape(case.value))
        # The code, a body, the code, a body, the code, the caller; bodies do not run again.
        assert live[case.id] == [expected] * 6, case.id
        assert replayed[case.id] == [expected] * 4, case.id


def test_every_exception_is_in_a_fresh_interpreter_what_it_was_when_it_was_raised(run):
    live, replayed = run(ERRORS, 1), run(ERRORS, 2)

    for name, make in e.RAISED.items():
        expected = json.loads(json.dumps(e.described(make())))
        assert live[name] == [expected] * 2, name
        assert replayed[name] == [expected] * 2, name


SCRIPT = """
import asyncio
from dataclasses import dataclass
from durable_core import RetryPolicy, activity, execute_workflow, workflow

@dataclass
class Item:
    sku: str

class Missing(Exception):
    def __init__(self, *, item):
        super().__init__("missing")
        self.item = item

@activity.defn(retry_policy=RetryPolicy(maximum_attempts=1))
def fails() -> None:
    raise Missing(item=Item("a"))

@workflow.defn
class Failing:
    @workflow.run
    async def run(self) -> None:
        try:
            await workflow.execute_activity(fails)
        except Exception as error:
            print(type(error.cause) is Missing, error.cause.item)

asyncio.run(execute_workflow(Failing.run, id="w"))
"""


def test_an_exception_of_the_script_itself_is_its_own_class_again(processes, store_url):
    for _ in ("live", "replayed"):
        done = processes.run(SCRIPT, DURABLE_URL=store_url).checked()
        assert done.output == "True Item(sku='a')\n"


class BrokeError(Exception):
    """Fails a run by itself."""

    def __init__(self, missing: m.Item) -> None:
        super().__init__("no money")
        self.missing = missing


@workflow.defn(failure_exception_types=[BrokeError])
class Paying:
    @workflow.run
    async def run(self, who: m.Person | m.Robot) -> m.Person | m.Robot:
        if isinstance(who, m.Robot):
            raise BrokeError(m.Item("oil"))

        return who


def test_a_client_has_the_types_of_what_it_started_and_plain_json_of_anything_else(store_url):
    async def check(client: Client) -> None:
        handle = await client.start_workflow(Paying.run, m.ANN, id="a", task_queue="q")
        assert m.shape(await handle.result()) == m.shape(m.ANN)
        plain = await client.get_workflow_handle("a").result()
        friend = {"name": "Bob", "born": None, "tags": ["x"], "friends": []}
        assert plain == {"name": "Ann", "born": "2024-02-29", "tags": [], "friends": [friend]}

        robot = m.Robot(name="a")
        handle = await client.start_workflow(Paying.run, robot, id="b", task_queue="q")
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

        assert type(caught.value.cause) is BrokeError
        assert caught.value.cause.missing == m.Item("oil")

    async def main():
        async with (
            await Client.connect(store_url) as client,
            await Client.connect(store_url) as own,
        ):
            worker = Worker(own, task_queue="q", workflows=[Paying])
            async with worker:
                await check(client)

    asyncio.run(main())
