"""The guard: what workflow code gets of clocks, randomness and I/O, and that nothing else does."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import json
import logging
import os
import random
import re
import socket
import sys
import threading
import time
import uuid
from datetime import datetime
from pathlib import Path
from random import choice as early_choice
from time import monotonic as early_monotonic

import pytest
from durable_core import workflow
from durable_core.adapter import outside
from durable_core.engine import _guard
from durable_core.engine._unguarded import unguarded_calls
from durable_core.exceptions import NonDeterminismError, NotSupported
from durable_core.worker import Replayer
from durable_core.workflow._defn import Definition, definition_of
from support import guard_sources
from support.engine_asking import answer, begun, call
from support.engine_runs import Driver, new_start
from support.guard_sources import (
    EQUAL,
    OPEN,
    RECORDED,
    REFUSED,
    RUN,
    SEEDED,
    SOURCES,
    WARNED,
    asking,
    uses,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "determinism.md"
DAY = 86_400
real = {name: getattr(time, name) for name in ("time", "monotonic", "sleep")} | {
    "urandom": os.urandom,
    "random": random.random,
}


def now_in_modules():
    return {name: getattr(time, name) for name in ("time", "monotonic", "sleep")} | {
        "urandom": os.urandom,
        "random": random.random,
    }


@pytest.fixture(autouse=True)
def _everything_is_put_back():
    yield
    assert now_in_modules() == real
    assert _guard._active == {}


# The table


def test_the_page_shows_the_table():
    text = PAGE.read_text(encoding="utf-8").partition("Held in `tests/support")[0]
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE))
    del rows["what"], rows["---"]
    assert rows == {name: source.fate for name, source in SOURCES.items()}
    assert len(rows) >= 25


@pytest.mark.parametrize(("name", "number"), uses())
def test_a_source_is_what_the_table_says(name, number):
    source = SOURCES[name]
    driver = Driver(asking(name, number))
    if source.fate == REFUSED:
        with pytest.raises(
            NotSupported, match=r"^workflow code .*(activity|asyncio\.sleep|signal)"
        ):
            driver.begin()

        return

    driver.run_to_end()
    if source.fate == RECORDED:
        times = [activation.time for activation in driver.activations[:2]]
        assert all(t - DAY < found <= t for t, found in zip(times, driver.result, strict=True))
    elif source.fate in {SEEDED, RUN} and number != FIXED.get(name):
        assert driver.result[0] != driver.result[1]
        other = Driver(asking(name, number), start=new_start("Flow", seed="another"))
        assert other.run_to_end().result != driver.result

    if source.fate in {WARNED, OPEN} and not source.elsewhere:
        with pytest.raises(NonDeterminismError):
            driver.replay()
    else:
        driver.check_replays()

    definition = Definition("W", None, source.uses[number])
    assert bool(unguarded_calls(definition)) == (source.fate == WARNED)


# `random.seed(7)` draws the same each time: that is what it is for.
FIXED = {name: 0 for name in SOURCES if "random.seed(7)" in name}


def test_another_process_with_another_hash_seed_replays_the_table(processes, tmp_path):
    lived = []
    for name, number in uses():
        if SOURCES[name].fate != REFUSED:
            driver = Driver(asking(name, number)).run_to_end()
            lived.append([name, number, driver.saved(), driver.result])
            driver.close()

    file = tmp_path / "records"
    file.write_text("\n".join(json.dumps(line[:3]) for line in lived))
    ended = processes.run(Path(guard_sources.__file__), file, PYTHONHASHSEED=7, GUARD=7).checked()

    replayed = [json.loads(line) for line in ended.output.splitlines()]
    assert replayed == [
        [name, number, "mismatch" if SOURCES[name].fate in {WARNED, OPEN} else result]
        for name, number, _, result in lived
    ]
    assert {SOURCES[name].fate for name, *_ in lived} == {
        *(RECORDED, SEEDED, EQUAL, WARNED, OPEN, RUN)
    }


def test_drift_ends_with_the_activation():
    drawn = []

    def code(extra):
        async def run():
            found = [random.random() for _ in range(1 + extra)]
            await call("a")
            found += [random.random(), str(uuid.uuid4())]
            drawn.append(found[-2:])

        return run

    for extra in (0, 3):
        answer(begun(code(extra)), "a")

    assert drawn[0] == drawn[1]


def test_what_a_workflow_draws_by_its_own_functions_stays_apart():
    async def code(noisy):
        if noisy:
            random.random()
            uuid.uuid4()

        return [workflow.random().random(), str(workflow.uuid4())]

    assert begun(code, True).result == begun(code, False).result


@pytest.mark.parametrize("version", [1, 6, 7])
def test_uuids_hold_the_time_of_the_activation(version):
    guard = _guard.Guard(1_700_000_000.25, "seed", 1)
    made = [_guard._uuid(version, guard) for _ in range(2)]
    assert made[0] != made[1]
    assert {(u.version, u.variant) for u in made} == {(version, uuid.RFC_4122)}
    high = made[0].int >> 64
    ticks = {
        1: made[0].time,
        6: (high >> 16) << 12 | high & 0x0FFF,
        7: (high >> 16) * 10_000 + 0x01B21DD213814000,
    }[version]
    assert (ticks - 0x01B21DD213814000) / 1e7 == 1_700_000_000.25


def test_a_query_draws_numbers_that_change_nothing():
    @workflow.defn
    class Asked:
        @workflow.query
        def drawn(self) -> list[object]:
            return [random.random(), str(uuid.uuid4()), time.time()]

        @workflow.run
        async def run(self) -> float:
            await call("a")
            return random.random()

    driver = Driver(Asked)
    driver.begin()
    answers = [json.loads(driver.run.query("drawn", b"[]")) for _ in range(2)]
    answer(driver, "a")
    driver.check_replays()

    assert answers[0][0] != answers[1][0]
    assert answers[0][1] != answers[1][1]
    assert answers[0][2] == answers[1][2] == 1_700_000_000.0


# Where it is lifted


def test_logging_sees_real_time_and_may_open_its_file(tmp_path):
    file = tmp_path / "log"
    handler = logging.FileHandler(file, delay=True)
    drawn = []

    class Threaded(logging.Handler):
        def emit(self, record):
            thread = threading.Thread(target=socket.socket().close)
            thread.start()
            thread.join()
            drawn.append((record.created, time.time(), random.random()))

    log = logging.getLogger("test_guard")
    log.propagate = False
    handlers = [handler, Threaded()]

    async def code():
        before = random.random()
        log.warning("hello")
        return [before, random.random()]

    begins = time.time()
    try:
        for each in handlers:
            log.addHandler(each)

        driver = begun(code)
        driver.check_replays()
    finally:
        for each in handlers:
            log.removeHandler(each)
            each.close()

    assert file.read_text().startswith("hello\n")
    assert all(begins <= t <= time.time() for created, seen, _ in drawn for t in (created, seen))
    # Of real randomness, none of the run's.
    assert len({number for *_, number in drawn}) == len(drawn)


def test_a_lazy_import_may_write_its_bytecode_and_sees_the_process(tmp_path, monkeypatch):
    name = f"lazy_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(
        "import threading, time\n"
        "from time import time as now\n"
        "loaded = time.time()\n"
        "thread = threading.Thread(target=int)\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    begins = time.time()

    async def code():
        module = importlib.import_module(name)
        return [module.loaded, module.now()]

    loaded, now = begun(code).result
    del sys.modules[name]
    assert begins <= loaded <= time.time()
    # A name that it bound meanwhile is that of a function which asks who calls.
    assert now == 1_700_000_000.0
    assert list((tmp_path / "__pycache__").glob(f"{name}.*.pyc"))


def test_a_program_that_is_run_by_an_import_is_guarded(tmp_path, monkeypatch):
    name = f"program_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(
        "import time\n"
        "from support.engine_asking import begun\n"
        "async def code():\n"
        "    return time.time()\n"
        "result = begun(code).result\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module(name).result == 1_700_000_000.0
    del sys.modules[name]


def test_a_traceback_may_read_its_sources():
    async def code():
        try:
            raise ValueError("seen")
        except ValueError:
            logging.getLogger("test_guard").debug("x", exc_info=True)
            import traceback

            return traceback.format_exc()

    assert 'raise ValueError("seen")' in begun(code).result


def test_what_is_called_outside_is_not_guarded(tmp_path):
    async def code():
        outside((tmp_path / "file").write_text, "x")
        return [outside(time.time), time.time()]

    seen, guarded = begun(code).result
    assert abs(seen - time.time()) < DAY
    assert guarded == 1_700_000_000.0
    assert (tmp_path / "file").read_text() == "x"


# Who else is not affected


def test_other_threads_see_the_real_thing_meanwhile(tmp_path):
    begin, done = threading.Event(), threading.Event()
    seen = {}

    def beside():
        assert begin.wait(10)
        seen["time"] = abs(time.time() - real["time"]()) < 60
        seen["random"] = random.random() != random.random()
        seen["urandom"] = os.urandom(8) != os.urandom(8)
        socket.socket().close()
        (tmp_path / "file").write_text("x")
        inner = threading.Thread(target=time.sleep, args=(0,))
        inner.start()
        inner.join()
        seen["done"] = True
        done.set()

    async def code():
        begin.set()
        return done.wait(10)

    thread = threading.Thread(target=beside)
    thread.start()
    result = begun(code).result
    thread.join()

    assert result is True
    assert seen == {"time": True, "random": True, "urandom": True, "done": True}


def test_two_threads_may_run_workflows_at_the_same_time():
    meet, results = threading.Barrier(2), []

    def work(first):
        async def code():
            meet.wait(10)
            found = [time.time(), random.random()]
            meet.wait(10)
            if not first:
                meet.wait(10)  # the other's activation is over, and this one is still guarded

            return [*found, time.time(), random.random()]

        driver = begun(code)
        if first:
            meet.wait(10)

        results.append(driver.result)

    threads = [threading.Thread(target=work, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join()

    assert len(results) == 2
    assert results[0] == results[1]
    assert results[0][0] == results[0][2] == 1_700_000_000.0


def test_a_failure_puts_everything_back():
    async def code():
        assert time.time is not real["time"]
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        begun(code)


def test_a_clock_that_a_test_has_put_there_is_put_back(monkeypatch):
    def fake():
        return 5.0

    monkeypatch.setattr(time, "time", fake)

    async def code():
        return time.time()

    assert begun(code).result == 1_700_000_000.0
    assert time.time is fake
    monkeypatch.undo()


FORK = """
import os, random, sys, threading, time
from durable_core.engine import _guard
from support.engine_asking import begun

real = time.time
begin, end = threading.Event(), threading.Event()

async def code():
    begin.set()
    end.wait(10)

def work():
    begun(code)

thread = threading.Thread(target=work)
thread.start()
begin.wait(10)
assert time.time is not real
async def again():
    return time.time()

with _guard._lock:  # as if another thread were about to enter
    child = os.fork()
    if not child:
        ok = time.time is real and begun(again).result == 1_700_000_000.0 and time.time is real
        os._exit(0 if ok else 1)

end.set()
thread.join()
assert time.time is real
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_process_forgets_the_activations_of_its_parent(processes):
    processes.run(FORK, PYTHONWARNINGS="ignore").checked()


def test_a_run_that_is_closed_by_another_leaves_that_guarded():
    async def waits():
        await call("a")

    closed = begun(waits)

    async def code():
        closed.close()
        return time.time()

    assert begun(code).result == 1_700_000_000.0


def test_a_closed_run_cleans_up_under_the_guard():
    seen = []

    async def code():
        try:
            await call("a")
        finally:
            seen.append(time.time())
            socket.socket()

    driver = begun(code)
    driver.close()
    assert seen == [1_700_000_000.0]


# What is warned of


def lines(text, *, of):
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    begin = next(n for n, line in enumerate(source, 1) if f"class {of.__name__}" in line)
    return [n for n, line in enumerate(source[begin:], begin + 1) if line.endswith(f"# {text}")]


@workflow.defn
class Careless:
    def __init__(self) -> None:
        self.made = dt.datetime.now()  # unguarded

    @property
    def age(self) -> float:
        return early_monotonic()  # unguarded

    @staticmethod
    def pick() -> int:
        return early_choice([1, 2])  # unguarded

    @workflow.run
    async def run(self) -> None:
        import datetime as inner
        from datetime import datetime as innermost

        inner.datetime.utcnow()  # unguarded
        innermost.now(dt.UTC)  # unguarded
        [datetime.now() for _ in range(2)]  # unguarded

        def late() -> int:
            return early_choice([1, 2])  # unguarded

        await asyncio.sleep(late() + self.age + time.time())


@workflow.defn
class Careful:
    @workflow.run
    async def run(self, when: datetime) -> list[object]:
        from time import time as late

        now = workflow.now
        return [
            *(time.time(), dt.date.today(), datetime.today(), random.Random(), uuid.uuid4()),
            *(datetime.fromtimestamp(1), when.now, now(), late(), os.urandom(1)),
        ]


def test_each_use_past_the_guard_is_found_with_its_line():
    found = unguarded_calls(definition_of(Careless))
    places = [int(re.match(rf"{re.escape(__file__)}:(\d+) uses ", line)[1]) for line in found]

    assert sorted(places) == lines("unguarded", of=Careless)
    assert all("Use: workflow." in line for line in found)


def test_what_is_guarded_is_no_alarm():
    assert unguarded_calls(definition_of(Careful)) == []


def test_a_worker_says_it_once(caplog):
    @workflow.defn
    async def careless() -> str:
        return str(datetime.now())

    for _ in range(2):
        Replayer(workflows=[careless])

    said = [record.message for record in caplog.records if "datetime.now()" in record.message]
    assert len(said) == 1
    assert re.search(rf"workflow 'careless': {re.escape(__file__)}:\d+ uses datetime\.now", said[0])
    assert "Use: workflow.now()" in said[0]
