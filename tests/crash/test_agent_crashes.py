"""An agent that is killed at every step gives the result that the plain runner gives."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from durable_core import Client, _faults
from durable_core.exceptions import WorkflowNotFoundError
from durable_openai_agents.testing import ModelServer
from support import agents_app, agents_policy
from support.agents_projection import same
from support.processes import Ended, Processes

APP = Path(agents_app.__file__)
STEP = "activity.body.after"
SAMPLE = 10
NOWHERE = "http://127.0.0.1:9/v1"
MOST = 40


@dataclass(frozen=True)
class House:
    """One trial's surroundings: a store, a ledger and a model server of its own."""

    folder: Path
    server: ModelServer
    processes: Processes

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/store.db"

    def run(self, how: str = "durable", *, fault: str = "", **more: object) -> Ended:
        environment = {**self.server.environment(), "LEDGER": self.folder / "ledger", **more}
        return self.processes.run(APP, how, fault=fault, DURABLE_URL=self.url, **environment)

    def effects(self) -> Counter[str]:
        """Return how often each tool's body had its effect."""
        ledger = self.folder / "ledger"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        return Counter(line.split()[0] for line in lines)

    def asked(self) -> Counter[str]:
        """Return how often each agent's model was asked."""
        return Counter(request.agent for request in self.server.requests())

    def recorded(self) -> Counter[str]:
        """Return how many calls have an outcome in the record, by agent and by tool."""

        async def read() -> Counter[str]:
            async with await Client.connect(self.url) as client:
                handle = client.get_workflow_handle(agents_app.WORKFLOW_ID)
                try:
                    history = await handle.fetch_history()
                except WorkflowNotFoundError:
                    return Counter()

            done = [
                e for e in history.timeline() if e.kind == "activity" and e.status == "completed"
            ]
            return Counter(e.args[0] if e.args else e.key.rpartition("/")[2] for e in done)

        return asyncio.run(read())


@pytest.fixture
def houses(tmp_path):
    """Makes surroundings; everything that they started ends with the test."""
    with ExitStack() as stack:

        def make(name: str) -> House:
            folder = tmp_path / name
            folder.mkdir()
            server = stack.enter_context(ModelServer(agents_policy.instructed))
            return House(folder, server, stack.enter_context(Processes(folder)))

        yield make


def shown(ended: Ended) -> object:
    """Return what the program printed of its result."""
    return json.loads(ended.checked().output.splitlines()[-1])


@pytest.fixture
def undisturbed(houses):
    """What the plain runner gives, and how often it calls what."""
    house = houses("plain")
    result = shown(house.run("plain"))
    return result, house.asked() + house.effects()


def check(house: House, fault: str, undisturbed: tuple[object, Counter[str]]) -> bool:
    """Kill a run and continue it; return whether the fault point was reached at all."""
    expected, once = undisturbed
    first = house.run(fault=fault)
    if not first.killed:
        same(shown(first), expected, f"the live result ({fault} is not reached)")
        return False

    recorded = house.recorded()
    lost = house.asked() + house.effects() - recorded
    same(shown(house.run()), expected, f"the result after {fault}")
    # What is recorded did not run again, what was in flight ran once more, and that is all.
    same(house.asked() + house.effects(), once + lost, f"how often what ran, {fault}")
    return True


@pytest.mark.timeout(3600)
def test_a_run_killed_anywhere_gives_the_result_of_the_plain_runner(houses, undisturbed, long):
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    if long:
        chosen = [(point, n) for point in _faults.POINTS for n in range(1, MOST)]
    else:
        steps = [(STEP, n) for n in range(1, agents_app.STEPS + 1)]
        others = [(p, n) for p in _faults.POINTS for n in range(1, 9) if p != STEP]
        chosen = steps + choose.sample(others, SAMPLE)

    def trial(number: int, point: str, n: int) -> bool:
        return check(houses(f"{number}"), f"{point}:{n}", undisturbed)

    with ThreadPoolExecutor(2) as pool:
        killed = list(pool.map(trial, range(len(chosen)), *zip(*chosen, strict=True)))

    reached = Counter(point for (point, _), yes in zip(chosen, killed, strict=True) if yes)
    print(f"0 failures in {len(chosen)} trials, {sum(killed)} kills {dict(reached)}, seed {seed}")
    assert reached[STEP] == agents_app.STEPS


def test_a_completed_run_is_rebuilt_from_its_record_without_a_server(houses, undisturbed):
    expected, once = undisturbed
    house = houses("recorded")
    same(shown(house.run()), expected, "the live result")
    same(house.asked() + house.effects(), once, "how often what ran")
    same(shown(house.run(OPENAI_BASE_URL=NOWHERE)), expected, "the result from the record alone")
    same(house.asked() + house.effects(), once, "how often what ran")


def test_a_run_killed_again_and_again_comes_to_its_end(houses, undisturbed):
    expected, once = undisturbed
    house = houses("often")
    for _ in range(4):
        assert house.run(fault=f"{STEP}:2").killed

    lost = house.asked() + house.effects() - house.recorded()
    same(shown(house.run()), expected, "the result")
    same(house.asked() + house.effects(), once + lost, "how often what ran")
