"""The agent program of `agents_app` in processes of its own, and what was done in the world."""

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
from durable_openai_agents.testing import ModelServer
from durable_openai_agents.testing._answer import derived_id

from support import agents_app, agents_policy
from support.processes import Ended, Process, Processes

APP = Path(agents_app.__file__)


@dataclass(frozen=True)
class House:
    """One trial's surroundings: a store, a ledger and a model server of its own."""

    folder: Path
    server: ModelServer
    processes: Processes

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/store.db"

    def start(self, how: str = "durable", *, fault: str = "", **more: object) -> Process:
        environment = {**self.server.environment(), "LEDGER": self.folder / "ledger", **more}
        return self.processes.start(APP, how, fault=fault, DURABLE_URL=self.url, **environment)

    def run(self, how: str = "durable", *, fault: str = "", **more: object) -> Ended:
        return self.start(how, fault=fault, **more).wait()

    def effects(self) -> Counter[str]:
        """Return how often each tool's body had its effect."""
        ledger = self.folder / "ledger"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        return Counter(line.split()[0] for line in lines)

    def asked(self) -> Counter[str]:
        """Return how often the model was asked what, by the id of the answer."""
        # The server makes the id of the request alone, so that a request sent again has the same.
        return Counter(derived_id("resp", request) for request in self.server.requests())

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
        return Counter(e.args[0] if e.args else e.result["response_id"] for e in done)


@contextmanager
def street(folder: Path) -> Iterator[Callable[[str], House]]:
    """Yield what makes surroundings; everything that they started ends with it."""
    with ExitStack() as stack:

        def make(name: str) -> House:
            own = folder / name
            own.mkdir()
            server = stack.enter_context(ModelServer(agents_policy.instructed))
            return House(own, server, stack.enter_context(Processes(own)))

        yield make


def shown(ended: Ended) -> object:
    """Return what the program printed of its result."""
    return json.loads(ended.checked().output.splitlines()[-1])
