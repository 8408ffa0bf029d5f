"""SIGKILL at random times, several times per trial, over many kinds of run and an agent.

Most processes are forked from one that has everything imported, a share are fresh interpreters. A
failure names its trial; ``--trial SEED/NUMBER`` runs that one again, as far as timing allows.
"""

from __future__ import annotations

import itertools
import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from durable_openai_agents.testing import ModelServer
from support import agents_policy, kill_trials
from support.agents_house import APP, House
from support.forks import Forks
from support.kill_trials import Counts, Trial
from support.processes import Processes

pytest_plugins = ["support.agents_fixtures"]

SECONDS = 30.0
KILLS = 100
LONG_TRIALS = 2000
AT_ONCE = 2
SERVED = 20
"""How many trials share a model server, whose log grows with each."""


class Lane:
    """Trials one after the other, beside those of other lanes."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder / f"lane-{number}"
        self._folder.mkdir()
        self._stack = ExitStack()
        self._servers = ExitStack()
        self._server: ModelServer | None = None
        self._forks = self._stack.enter_context(Forks(self._folder))
        self._asked = 0

    def close(self) -> None:
        self._servers.close()
        self._stack.close()

    def trial(self, seed: str) -> Counts:
        folder = self._folder / seed.replace("/", "-")
        folder.mkdir()
        with Processes(folder) as interpreters:
            counts = Trial(seed, folder, self._forks, interpreters, self._house).run()

        shutil.rmtree(folder)
        return counts

    def _house(self, folder: Path, starts) -> House:
        if self._server is None or self._asked % SERVED == 0:
            self._servers.close()
            self._server = self._servers.enter_context(ModelServer(agents_policy.instructed))

        self._asked += 1
        return House(folder, self._server, starts, APP)


@pytest.mark.timeout(7200)
def test_runs_killed_at_random_times_end_as_if_undisturbed(tmp_path, long, undisturbed, request):
    given = request.config.getoption("--trial")
    seed, _, only = given.partition("/")
    seed = seed or str(random.randrange(2**32))
    kill_trials.UNDISTURBED[APP] = undisturbed
    counts, numbers, lock = Counts(), itertools.count(), threading.Lock()
    began = time.monotonic()

    def enough() -> bool:
        if long:
            return counts.trials >= LONG_TRIALS

        return counts.kills >= KILLS and time.monotonic() - began > SECONDS

    def work(number: int) -> None:
        lane = Lane(tmp_path, number)
        try:
            while not failed and not enough():
                with lock:
                    trial = int(only) if only else next(numbers)

                name = f"{seed}/{trial}"
                try:
                    found = lane.trial(name)
                except BaseException as error:
                    failed.append(name)
                    error.add_note(f"in the trial {name}: run it again by --trial {name}")
                    raise

                with lock:
                    counts.add(found)

                if only:
                    return
        finally:
            lane.close()

    failed: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, range(1 if only else AT_ONCE)))

    print(
        f"0 failures in {counts.trials} trials {dict(counts.kinds)}, {counts.kills} kills "
        f"({counts.fresh / max(counts.kills, 1):.0%} of fresh interpreters; {counts.midway} of "
        f"{counts.looks} that were looked at left a run open), {counts.twice} effects twice in "
        f"flight, seed {seed}, {time.monotonic() - began:.0f} s"
    )
    assert only or counts.kills >= KILLS
