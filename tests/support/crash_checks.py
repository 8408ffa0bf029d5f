"""What must hold after a process was killed, seen from outside the engine."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

from durable_core import Client
from durable_core.exceptions import WorkflowNotFoundError

from support import crash_app
from support.ledger import Ledger
from support.processes import Ended

APP = Path(crash_app.__file__)


def result_of(ended: Ended) -> object:
    """Return the result that a process printed."""
    return json.loads(ended.checked().output.splitlines()[-1])["result"]


def imported_at(ended: Ended) -> float:
    """Return when a process had imported what it needs."""
    return json.loads(ended.output.splitlines()[0])["imported"]


def recorded(url: str, workflow_id: str) -> Counter[str]:
    """Return the effects whose activities have an outcome in the record: none may happen again."""

    async def read() -> Counter[str]:
        async with await Client.connect(url) as client:
            try:
                history = await client.get_workflow_handle(workflow_id).fetch_history()
            except WorkflowNotFoundError:
                return Counter()

        done = [e for e in history.timeline() if e.kind == "activity" and e.status == "completed"]
        return Counter(_label(e.name, e.args) for e in done)

    return asyncio.run(read())


def _label(name: str, args: list[object]) -> str:
    key = {"add": lambda: args[1], "flaky": lambda: "done"}.get(name, lambda: args[0])()
    return f"{name}/{key}"


class Trial:
    """One run that is killed and continued; keeps what was seen at each kill."""

    def __init__(self, url: str, ledger: Ledger, workflow_id: str) -> None:
        self._url = url
        self._ledger = ledger
        self._workflow_id = workflow_id
        self._in_flight: Counter[str] = Counter()
        self._recorded: Counter[str] = Counter()
        self._at_kill: Counter[str] = Counter()

    def killed(self) -> None:
        """Look at record and ledger right after a kill."""
        self._check_recorded()
        self._recorded = recorded(self._url, self._workflow_id)
        self._at_kill = self._ledger.counts(self._workflow_id)
        lost = {effect for effect in self._at_kill if effect not in self._recorded}
        self._in_flight.update(lost)

    def finished(self) -> int:
        """Check the end; return how many effects happened twice."""
        self._check_recorded()
        counts = self._ledger.counts(self._workflow_id)
        assert set(counts) == ALL, f"effects that are missing or foreign: {set(counts) ^ ALL}"
        for effect, times in counts.items():
            allowed = 1 + self._in_flight[effect]
            assert times <= allowed, f"{effect} happened {times} times, {allowed} could be"

        return sum(times - 1 for times in counts.values())

    def _check_recorded(self) -> None:
        now = self._ledger.counts(self._workflow_id)
        again = {e: now[e] for e in self._recorded if now[e] != self._at_kill[e]}
        assert not again, f"recorded activities ran again: {again}"


ALL = {"add/1", "add/2", "add/3", "concurrent/a", "concurrent/c", "blocking/b", "flaky/done"}
