"""One trial of the random kills: a store of its own, programs that are killed, and what must hold.

Everything that a trial chooses comes from its own seed. What is looked at lies outside the engine:
the ledger of effects, the file of acknowledgements, the log of the model server.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from durable_core import Client
from durable_core.exceptions import WorkflowNotFoundError

from support import kill_app
from support.agents_house import House, shown
from support.agents_projection import same
from support.forks import Fork
from support.kill_app import EXPECTED, FLOWS, SIGNALS, TALK, Acks
from support.ledger import Ledger
from support.processes import Process
from support.waiting import until

APP = Path(kill_app.__file__)
LONGEST_LIFE = 0.3
LONGEST_AGENT_LIFE = 0.6
FRESH = 0.1
LIMIT = 60.0
KINDS = ("service", "service", "both", "both", "embedded", "agent")


class Starts(Protocol):
    def start(
        self, script: Path, *arguments: object, fault: str = "", **environment: object
    ) -> Process | Fork: ...


@dataclass
class Counts:
    """What happened in trials.

    Attributes:
        trials, kills: How many.
        fresh: How many of the killed processes were fresh interpreters.
        midway: How many kills left a run open, of those after which the record was read.
        looks: How often it was read.
        twice: How many effects happened more than once: they were in flight.
        kinds: How many trials of each kind.
    """

    trials: int = 0
    kills: int = 0
    fresh: int = 0
    midway: int = 0
    looks: int = 0
    twice: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        for name in ("trials", "kills", "fresh", "midway", "looks", "twice"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

        self.kinds.update(other.kinds)


class Trial:
    """One trial.

    Args:
        seed: Of everything that it chooses.
        folder: Its own.
        forked: Starts processes by forking.
        interpreters: Starts fresh ones.
        house: Makes the surroundings of an agent in the folder; without it none is run.
    """

    def __init__(
        self,
        seed: str,
        folder: Path,
        forked: Starts,
        interpreters: Starts,
        house: Callable[[Path, Any], House] | None = None,
    ) -> None:
        self._choose = random.Random(seed)
        self._folder = folder
        self._ways = (forked, interpreters)
        self._house = house
        self._ledger = Ledger(folder / "ledger")
        self._acks = Acks(folder / "acks")
        self._url = f"sqlite:///{folder}/store.db"
        self._unsure: Counter[tuple[str, str]] = Counter()
        self._recorded: dict[tuple[str, str], int] = {}
        self.counts = Counts()

    def run(self) -> Counts:
        """Kill, go on, and check."""
        kind = self._choose.choice(KINDS if self._house else KINDS[:-1])
        self.counts.trials += 1
        self.counts.kinds[kind] += 1
        match kind:
            case "agent":
                self._run_agent()
            case "service":
                self._run_service()
                self._check_end([*FLOWS, TALK])
            case "both":
                self._run_alone("both")
                self._check_end([*FLOWS, TALK])
            case _:
                self._run_alone("embedded")
                self._check_end(list(FLOWS))

        return self.counts

    def run_at(self, role: str, fault: str) -> bool:
        """Kill a program at a fault point, go on, and check; return whether it was reached."""
        process = self._start(role, fault=fault)
        killed = process.wait(LIMIT).killed
        if killed:
            asyncio.run(self._look())
            self._start(role).wait(LIMIT).checked()

        self._check_end([*FLOWS, TALK])
        return killed

    # Kinds

    def _run_alone(self, role: str) -> None:
        for _ in range(self._choose.randint(1, 3)):
            process = self._start(role)
            self._let_live(process, LONGEST_LIFE)
            self._kill(process)

        self._start(role).wait(LIMIT).checked()

    def _run_service(self) -> None:
        client, worker = self._start("client"), self._start("worker")
        for _ in range(self._choose.randint(1, 3)):
            victim = client if self._choose.random() < 0.25 else worker
            self._let_live(client, LONGEST_LIFE)
            killed = self._kill(victim)
            if victim is worker:
                worker = self._start("worker")
            elif killed:
                client = self._start("client")

        client.wait(LIMIT).checked()
        worker.kill()

    def _run_agent(self) -> None:
        assert self._house is not None
        house = self._house(self._folder, self._way())
        expected, once = UNDISTURBED[house.program]
        before = house.asked()
        kills = 0
        done: Counter[str] = Counter()
        at_kill: Counter[str] = Counter()
        for _ in range(self._choose.randint(1, 3)):
            process = house.start()
            self._imported(process)
            self._let_live(process, LONGEST_AGENT_LIFE)
            if process.kill().killed:
                kills += 1
                self._count_kill(process)
                now = house.asked() + house.effects() - before
                self._nothing_again(done, at_kill, now)
                done, at_kill = house.recorded(), now
                self.counts.looks += 1
                self.counts.midway += done != once

        same(shown(house.start().wait(LIMIT)), expected, "the result of the agent")
        total = house.asked() + house.effects() - before
        self._nothing_again(done, at_kill, total)
        assert set(total) == set(once), f"missing or foreign: {set(total) ^ set(once)}"
        for what, times in total.items():
            assert once[what] <= times <= once[what] + kills, f"{what} happened {times} times"

        self.counts.twice += (total - once).total()

    def _nothing_again(self, done: Counter[str], at_kill: Counter[str], now: Counter[str]) -> None:
        again = {what: now[what] for what in done if now[what] != at_kill[what]}
        assert not again, f"recorded calls were made again: {again}"

    # Processes

    def _way(self) -> Starts:
        return self._ways[self._choose.random() < FRESH]

    def _start(self, role: str, fault: str = "") -> Process | Fork:
        process = self._way().start(
            APP,
            role,
            fault=fault,
            DURABLE_URL=self._url,
            LEDGER=self._ledger.path,
            ACKS=self._folder / "acks",
        )
        self._imported(process)
        return process

    def _imported(self, process: Process | Fork) -> None:
        until(lambda: "imported" in process.output or not process.running, "the import")

    def _let_live(self, process: Process | Fork, longest: float) -> None:
        deadline = time.monotonic() + self._choose.uniform(0, longest)
        while time.monotonic() < deadline and process.running:
            time.sleep(0.001)

    def _kill(self, process: Process | Fork) -> bool:
        looks = self._choose.random() < 0.7
        if not process.kill().killed:
            return False

        self._count_kill(process)
        if looks:
            asyncio.run(self._look())
        else:
            # Any effect that there is may have been in flight.
            self._unsure.update(set(self._effects()))

        return True

    def _count_kill(self, process: Process | Fork) -> None:
        self.counts.kills += 1
        self.counts.fresh += isinstance(process, Process)

    # What must hold

    def _effects(self) -> Counter[tuple[str, str]]:
        return Counter((e.workflow_id, f"{e.activity}/{e.key}") for e in self._ledger.effects())

    async def _look(self) -> None:
        """Read record and ledger after a kill: what is recorded must never happen again."""
        # The ledger last: what another process does meanwhile may be in it and not in the record.
        acked = [what for what, _ in self._acks.read("started")]
        recorded: set[tuple[str, str]] = set()
        still_open = False
        async with await Client.connect(self._url) as client:
            for run in [*FLOWS, TALK]:
                handle = client.get_workflow_handle(run)
                try:
                    history = await handle.fetch_history()
                except WorkflowNotFoundError:
                    assert run not in acked, f"the start of {run!r} was acknowledged, and is lost"
                    continue

                still_open |= (await handle.describe()).status.name == "RUNNING"
                recorded |= {
                    (run, f"{e.name}/{e.args[0]}")
                    for e in history.timeline()
                    if e.kind == "activity" and e.status in {"completed", "failed"}
                }

        self.counts.looks += 1
        self.counts.midway += still_open
        self._check_recorded()
        effects = self._effects()
        self._unsure.update(set(effects) - recorded)
        self._recorded = {which: effects[which] for which in recorded}

    def _check_recorded(self) -> None:
        now = self._effects()
        again = {which: now[which] for which, times in self._recorded.items() if now[which] > times}
        assert not again, f"recorded activities ran again: {again}"
        missing = [which for which in self._recorded if not now[which]]
        assert not missing, f"recorded activities have not run: {missing}"

    def _check_end(self, runs: list[str]) -> None:
        self._check_recorded()
        results = asyncio.run(self._results(runs))
        for run in FLOWS:
            assert results[run] == EXPECTED[run], f"the result of {run!r} is {results[run]}"

        for run, value in self._acks.read("result"):
            assert results[run] == value, f"the result of {run!r} was {value}, is {results[run]}"

        effects = self._effects()
        if TALK in runs:
            self._check_talk(*results[TALK], effects)

        for (run, effect), times in effects.items():
            allowed = 1 + self._unsure[run, effect]
            if run == TALK:
                allowed += SIGNALS
            assert times <= allowed, f"{effect} of {run!r} happened {times} times, not {allowed}"

        assert {run for run, _ in effects} == set(runs)
        self._check_pause()
        self.counts.twice += sum(times - 1 for (run, _), times in effects.items() if run != TALK)

    async def _results(self, runs: list[str]) -> dict[str, Any]:
        async with await Client.connect(self._url) as client:
            return {
                run: await asyncio.wait_for(client.get_workflow_handle(run).result(), LIMIT)
                for run in runs
            }

    def _check_talk(
        self, got: list[int], noted: list[int], effects: Counter[tuple[str, str]]
    ) -> None:
        """Each signal that was acknowledged was handled, and none more often than it was sent."""
        sends = Counter(number for number, _ in self._acks.read("sends"))
        sent = Counter(number for number, _ in self._acks.read("sent"))
        handled = Counter(got)
        lost = sent - handled
        assert not lost, f"signals were acknowledged and lost: {dict(lost)}"
        more = handled - sends
        assert not more, f"signals were handled more often than sent: {dict(more)}"
        assert got == sorted(got), f"signals were handled out of order: {got}"
        assert set(got) == set(range(1, SIGNALS + 1))
        assert sorted(noted) == [number for number in got if number % 10 == 0]
        assert effects[TALK, "note/10"] >= len(noted)

    def _check_pause(self) -> None:
        """The timer was not forgotten, nor did it fire early."""
        first = {}
        for effect in self._ledger.effects("timed"):
            first.setdefault(effect.key, effect.time)

        # The clocks of ledger and engine are one; it is read at slightly different moments.
        assert first["after"] - first["before"] > kill_app.PAUSE - 0.005


UNDISTURBED: dict[Path, tuple[Any, Counter[str]]] = {}
"""By program: what the plain runner gives, and how often it calls what."""
