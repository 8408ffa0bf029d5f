"""Sources of what differs from one execution to the next, and what the guard makes of each.

As a program it replays the records of another process, named by its argument, one per line.
"""

# ruff: noqa: PLW0108  # a function named here would be the real one, whatever stands for it later
from __future__ import annotations

import asyncio
import calendar
import gc
import json
import multiprocessing
import os
import random
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from random import random as early_random
from time import time as early_time
from typing import Any, NamedTuple
from uuid import uuid4 as early_uuid4

from durable_core import workflow
from durable_core.exceptions import NonDeterminismError

from support.engine_asking import ask
from support.engine_runs import Driver, flow

RECORDED = "the time of the activation"
SEEDED = "drawn from the run's seed, for this activation: equal on every replay"
EQUAL = "equal on every replay, as it is"
REFUSED = "refused: `NotSupported`, with the remedy"
WARNED = "not guarded: a warning when the workflow is registered, else found by the mismatch check"
OPEN = "not guarded: found by the mismatch check, if it decides what the run asks for"
RUN = "recorded by the run, equal on every replay"


class Source(NamedTuple):
    """Ways to use one source.

    Attributes:
        fate: What becomes of them.
        uses: Each returns what has a JSON form.
        elsewhere: Whether it differs only in another process.
    """

    fate: str
    uses: list[Callable[[], Any]]
    elsewhere: bool = False


def local(fields: time.struct_time) -> float:
    return time.mktime(fields)


def drawn_in_place() -> list[int]:
    numbers = list(range(50))
    random.shuffle(numbers)
    return numbers


def from_its_own_seed() -> float:
    random.seed(7)
    return random.random()


def order_of_tasks() -> list[str]:
    async def nothing() -> None: ...

    tasks = {asyncio.ensure_future(nothing()) for _ in range(9)}
    first = min(int(task.get_name().rpartition("-")[2]) for task in tasks)
    return [str(int(task.get_name().rpartition("-")[2]) - first) for task in tasks]


def collected() -> list[str]:
    found: list[str] = []
    thing = type("Thing", (), {})()
    weakref.finalize(thing, found.append, "gone")
    ring = [thing]
    ring.append(ring)
    del thing, ring
    return [*found, str(gc.isenabled())]


def changed_variable() -> str:
    os.environ["GUARD"] = str(int(os.environ.get("GUARD", "0")) + 1)
    return os.environ["GUARD"]


FILE = Path("guard")  # in the folder of the test


def read_file() -> str:
    text = FILE.read_text() if FILE.exists() else ""
    OUTSIDE.submit(FILE.write_text, f"{text}x").result(10)
    return text


def listed() -> list[str]:
    folder = FILE.with_suffix(".d")
    OUTSIDE.submit(folder.mkdir, exist_ok=True).result(10)
    OUTSIDE.submit((folder / str(time.perf_counter_ns())).touch).result(10)
    return sorted(path.name for path in folder.iterdir())


OUTSIDE = ThreadPoolExecutor(1)
OUTSIDE.submit(int).result(10)
KEPT: list[object] = []


def address() -> int:
    KEPT.append(object())
    return id(KEPT[-1])


def multiprocess() -> None:
    multiprocessing.get_context("spawn").Process(target=print).start()


def pool() -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(print).result(10)


SOURCES: dict[str, Source] = {
    "`time.time()`, `time_ns()`": Source(
        RECORDED,
        [
            lambda: time.time(),
            lambda: time.time_ns() / 1e9,
        ],
    ),
    "`time.monotonic()`, `perf_counter()`, `process_time()`, `thread_time()`, each also `_ns`": Source(
        RECORDED,
        [
            lambda: time.monotonic(),
            lambda: time.monotonic_ns() / 1e9,
            lambda: time.perf_counter(),
            lambda: time.perf_counter_ns() / 1e9,
            lambda: time.process_time(),
            lambda: time.process_time_ns() / 1e9,
            lambda: time.thread_time(),
            lambda: time.thread_time_ns() / 1e9,
        ],
    ),
    "`time.clock_gettime()`, `clock_gettime_ns()`": Source(
        RECORDED,
        [
            lambda: time.clock_gettime(time.CLOCK_MONOTONIC),
            lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e9,
        ],
    ),
    "`time.gmtime()`, `localtime()`, `ctime()`, `asctime()`, `strftime()` of now": Source(
        RECORDED,
        [
            lambda: calendar.timegm(time.gmtime()),
            lambda: local(time.localtime()),
            lambda: local(time.strptime(time.ctime())),
            lambda: local(time.strptime(time.asctime())),
            lambda: local(time.strptime(time.strftime("%Y-%m-%d %H:%M:%S"), "%Y-%m-%d %H:%M:%S")),
        ],
    ),
    "`date.today()`, `datetime.today()`": Source(
        RECORDED,
        [lambda: local(date.today().timetuple()), lambda: datetime.today().timestamp()],
    ),
    "`asyncio.get_running_loop().time()`": Source(
        RECORDED, [lambda: asyncio.get_running_loop().time()]
    ),
    "`workflow.now()`, `workflow.time()`": Source(
        RECORDED, [lambda: workflow.now().timestamp(), lambda: workflow.time()]
    ),
    "functions of `random`": Source(
        SEEDED,
        [
            lambda: random.random(),
            lambda: random.randint(0, 10**9),
            lambda: random.choice(range(10**9)),
            lambda: random.gauss(0, 1),
            drawn_in_place,
        ],
    ),
    "`random.seed()`, and `random.seed(7)` up to the next `await` of something recorded": Source(
        SEEDED, [from_its_own_seed, lambda: [random.seed(), random.random()]]
    ),
    "`random.Random()` without a seed, also imported by name": Source(
        SEEDED, [lambda: random.Random().random(), lambda: Random().random()]
    ),
    "`random.SystemRandom()`": Source(SEEDED, [lambda: random.SystemRandom().random()]),
    "`os.urandom()`, `os.getrandom()`": Source(
        SEEDED,
        [
            lambda: os.urandom(8).hex(),
            lambda: os.getrandom(8).hex(),
            lambda: os.getrandom(8, flags=os.GRND_NONBLOCK).hex(),
        ],
    ),
    "`secrets`, also imported by name; no secret, since the seed is in the record": Source(
        SEEDED,
        [
            lambda: secrets.token_hex(),
            lambda: secrets.randbelow(10**9),
            lambda: secrets.choice(range(10**9)),
        ],
    ),
    "`uuid.uuid4()`, also imported by name": Source(
        SEEDED, [lambda: str(uuid.uuid4()), lambda: str(early_uuid4())]
    ),
    "`uuid.uuid1()`, and `uuid6()`, `uuid7()` where they exist": Source(
        SEEDED, [lambda: str(uuid.uuid1())]
    ),
    "`workflow.random()`, `workflow.uuid4()`": Source(
        RUN, [lambda: workflow.random().random(), lambda: str(workflow.uuid4())]
    ),
    "sockets, names looked up in the network": Source(
        REFUSED,
        [
            lambda: socket.socket(),
            lambda: socket.create_connection(("127.0.0.1", 9)),
            lambda: socket.gethostbyname("localhost"),
        ],
    ),
    "files opened for writing": Source(
        REFUSED,
        [
            lambda: FILE.with_suffix(".w").open("w"),
            lambda: FILE.with_suffix(".w").open("a"),
            lambda: os.open(FILE.with_suffix(".w"), os.O_RDWR | os.O_CREAT),
            lambda: tempfile.mkstemp(),
            lambda: tempfile.TemporaryFile(),  # noqa: SIM115  # it does not come to that
        ],
    ),
    "files and folders made, moved, changed, removed": Source(
        REFUSED,
        [
            lambda: FILE.with_suffix(".w").mkdir(),
            lambda: FILE.rename(FILE.with_suffix(".w")),
            lambda: FILE.unlink(),
            lambda: FILE.chmod(0o600),
            lambda: FILE.symlink_to("x"),
            lambda: os.truncate(FILE, 0),
            lambda: shutil.rmtree(FILE.with_suffix(".d")),
        ],
    ),
    "`sqlite3` on a file": Source(REFUSED, [lambda: sqlite3.connect(FILE.with_suffix(".db"))]),
    "processes": Source(
        REFUSED,
        [
            lambda: subprocess.run(["true"], check=True),
            lambda: os.system("true"),
            lambda: os.popen("true"),
            lambda: os.fork(),
            lambda: os.posix_spawn("/bin/true", ["true"], {}),
            multiprocess,
        ],
    ),
    "threads": Source(REFUSED, [lambda: threading.Thread(target=print).start(), pool]),
    "`time.sleep()`": Source(REFUSED, [lambda: time.sleep(0)]),
    "`input()`": Source(REFUSED, [lambda: input()]),
    "`datetime.now()`, `datetime.utcnow()`": Source(
        WARNED, [lambda: datetime.now(UTC).isoformat(), lambda: datetime.now().isoformat()]
    ),
    "other functions bound to a name of their own, such as `from time import time`": Source(
        WARNED, [lambda: early_time(), lambda: early_random()]
    ),
    "sets of tasks and of futures, also in `asyncio.wait`": Source(EQUAL, [order_of_tasks]),
    "`weakref` and `gc`: the collector rests during an activation": Source(EQUAL, [collected]),
    "order of a set of texts, `hash()` of texts": Source(
        OPEN, [lambda: list(set("abcdefghijkl")), lambda: hash("text")], elsewhere=True
    ),
    "`id()`, and `repr` of what has no better one": Source(OPEN, [address]),
    "`os.getpid()`, the name of the host": Source(OPEN, [lambda: os.getpid()], elsewhere=True),
    "`os.environ`": Source(OPEN, [changed_variable]),
    "files that are read": Source(OPEN, [read_file]),
    "folders that are listed": Source(OPEN, [listed]),
    "results of threads that run already, or of sockets that are open": Source(
        OPEN, [lambda: OUTSIDE.submit(time.perf_counter_ns).result(10)]
    ),
}


def uses() -> list[tuple[str, int]]:
    return [
        (name, number) for name, source in SOURCES.items() for number in range(len(source.uses))
    ]


def asking(name: str, number: int) -> type:
    """Return a workflow that twice asks an activity with what a source brings."""
    use = SOURCES[name].uses[number]

    async def code() -> list[Any]:
        found = []
        for _ in range(2):
            found.append(use())
            await workflow.execute_activity(ask, json.dumps(found))

        return found

    return flow(code)


def main(file: str) -> None:
    for line in Path(file).read_text().splitlines():
        name, number, saved = json.loads(line)
        try:
            driver = Driver.load(saved, asking(name, number))
            print(json.dumps([name, number, driver.result]))
        except NonDeterminismError:
            print(json.dumps([name, number, "mismatch"]))


if __name__ == "__main__":
    main(sys.argv[1])
