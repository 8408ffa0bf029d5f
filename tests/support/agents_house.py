"""An agent program in processes of its own, such as `agents_app`, and what it did in the world."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from durable_core import Client
from durable_core.client import TimelineEntry
from durable_core.exceptions import WorkflowNotFoundError
from durable_core.stores import RunRow
from durable_openai_agents.testing import ModelServer
from durable_openai_agents.testing._answer import derived_id

from support import agents_app, agents_policy
from support.agents_projection import same
from support.processes import Ended, Process, Processes

APP = Path(agents_app.__file__)


@dataclass(frozen=True)
class House:
    """One trial's surroundings: a store, a ledger and a model server of its own."""

    folder: Path
    server: ModelServer
    processes: Processes
    program: Path = APP

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/store.db"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to live here."""
        own = {"DURABLE_URL": self.url, "LEDGER": str(self.folder / "ledger")}
        return {**self.server.environment(), **own}

    def start(self, how: str = "durable", *, fault: str = "", **more: object) -> Process:
        return self.processes.start(self.program, how, fault=fault, **{**self.environment, **more})

    def run(self, how: str = "durable", *, fault: str = "", **more: object) -> Ended:
        return self.start(how, fault=fault, **more).wait()

    def effects(self) -> Counter[str]:
        """Return how often each body had its effect, of tools by their names."""
        ledger = self.folder / "ledger"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        return Counter(line.split()[0] for line in lines)

    def asked(self) -> Counter[str]:
        """Return how often the model was asked what, by the id of the answer."""
        # The server makes the id of the request alone, so that a request sent again has the same.
        return Counter(derived_id("resp", request) for request in self.server.requests())

    def row(self, id: str = agents_app.WORKFLOW_ID) -> RunRow:
        """Return what the store says of a run."""

        async def find() -> RunRow | None:
            async with await Client.connect(self.url) as client:
                return await client.store.find("default", id)

        found = asyncio.run(find())
        assert found is not None, f"there is no run {id!r}"
        return found

    def activities(self) -> list[TimelineEntry]:
        """Return what the record holds of model calls and tools."""

        async def read() -> list[TimelineEntry]:
            async with await Client.connect(self.url) as client:
                handle = client.get_workflow_handle(agents_app.WORKFLOW_ID)
                try:
                    history = await handle.fetch_history()
                except WorkflowNotFoundError:
                    return []

            return [entry for entry in history.timeline() if entry.kind == "activity"]

        return asyncio.run(read())

    def recorded(self) -> Counter[str]:
        """Return the calls with an outcome in the record, as `asked` and `effects` name them."""
        done = [e for e in self.activities() if e.status == "completed"]
        return Counter(_named(e) for e in done)


def _named(entry: TimelineEntry) -> str:
    match entry.name.rpartition(".")[2]:
        case "model":
            return str(entry.result["response_id"])
        case "tool":
            return str(entry.args[0])
        case kind:
            return kind


@contextmanager
def street(folder: Path) -> Iterator[Callable[..., House]]:
    """Yield what makes surroundings; everything that they started ends with it."""
    with ExitStack() as stack:

        def make(name: str, program: Path = APP) -> House:
            own = folder / name
            own.mkdir()
            server = stack.enter_context(ModelServer(agents_policy.instructed))
            return House(own, server, stack.enter_context(Processes(own)), program)

        yield make


def shown(ended: Ended) -> object:
    """Return what the program printed of its result."""
    return json.loads(ended.checked().output.splitlines()[-1])


def check(house: House, fault: str, undisturbed: tuple[object, Counter[str]]) -> bool:
    """Kill a run and continue it; return whether the fault point was reached at all.

    Args:
        house: Its surroundings.
        fault: Where it is killed.
        undisturbed: What the plain runner gives, and how often it calls what.
    """
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
