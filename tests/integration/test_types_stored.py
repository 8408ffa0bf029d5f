"""The table of types through a store, and through a fresh interpreter on replay."""

from __future__ import annotations

import asyncio
import json

import pytest
from durable_core import Client, Worker, workflow
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


@workflow.defn
class Paying:
    @workflow.run
    async def run(self, who: m.Person | m.Robot) -> m.Person | m.Robot:
        return who


def test_a_client_has_the_types_of_what_it_started_and_plain_json_of_anything_else(store_url):
    async def check(client: Client) -> None:
        handle = await client.start_workflow(Paying.run, m.ANN, id="a", task_queue="q")
        assert m.shape(await handle.result()) == m.shape(m.ANN)
        plain = await client.get_workflow_handle("a").result()
        friend = {"name": "Bob", "born": None, "tags": ["x"], "friends": []}
        assert plain == {"name": "Ann", "born": "2024-02-29", "tags": [], "friends": [friend]}

    async def main():
        async with (
            await Client.connect(store_url) as client,
            await Client.connect(store_url) as own,
        ):
            worker = Worker(own, task_queue="q", workflows=[Paying])
            async with worker:
                await check(client)

    asyncio.run(main())
