"""The guard in whole runs: over a kill, and beside the bodies of activities."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time
import uuid
from datetime import datetime

import pytest
from durable_core import activity, execute_workflow, workflow
from durable_core.exceptions import NotSupported
from support.waiting import until

DRAWS = """
import asyncio, random, secrets, sys, time, uuid
from durable_core import activity, execute_workflow, workflow

@activity.defn
async def note(text: str) -> None:
    print("noted", text, flush=True)

@activity.defn
async def hold() -> None:
    if sys.argv[1] == "hold":
        print("holding", flush=True)
        await asyncio.Event().wait()

@workflow.defn
class Draws:
    @workflow.run
    async def run(self) -> list[str]:
        def draw() -> str:
            some = random.sample(range(10**6), 3)
            return f"{time.time()} {time.monotonic()} {some} {uuid.uuid4()} {secrets.token_hex()}"

        drawn = [draw()]
        await workflow.execute_activity(note, drawn[0])
        drawn.append(draw())
        await workflow.execute_activity(note, drawn[1])
        await workflow.execute_activity(hold)
        return drawn

for line in asyncio.run(execute_workflow(Draws.run, id="w")):
    print("result", line)
"""


def test_a_killed_run_goes_on_with_what_it_had_drawn(processes, store_url):
    first = processes.start(DRAWS, "hold", DURABLE_URL=store_url, PYTHONHASHSEED=1)
    until(lambda: "holding" in first.output, "the run to hold")
    killed = first.kill()
    noted = [line.split(" ", 1)[1] for line in killed.output.splitlines() if "noted" in line]
    again = processes.run(DRAWS, "go", DURABLE_URL=store_url, PYTHONHASHSEED=2).checked()

    assert killed.killed
    assert len(set(noted)) == 2
    assert again.output.splitlines() == [f"result {line}" for line in noted]


@activity.defn
async def look() -> list[str]:
    return looked()


@activity.defn
def look_in_a_thread() -> list[str]:
    return looked()


def looked() -> list[str]:
    thread = threading.Thread(target=socket.socket().close)
    thread.start()
    thread.join()
    return [str(time.time()), str(random.random()), str(uuid.uuid4()), os.urandom(8).hex()]


@workflow.defn
class Looks:
    @workflow.run
    async def run(self) -> list[list[str]]:
        found = [[str(time.time()), str(random.random()), str(uuid.uuid4()), os.urandom(8).hex()]]
        for fn in (look, look_in_a_thread, look):
            found.append(await workflow.execute_activity(fn, result_type=list[str]))

        return found


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_bodies_are_not_guarded_and_nothing_is_after_the_run(store_url):
    before = (time.time, random.random, os.urandom, uuid.uuid1, time.sleep)
    random.seed(1)
    expected = random.random()
    random.seed(1)
    begins = time.time()
    inside, *bodies = asyncio.run(execute_workflow(Looks.run, id="w", url=store_url))

    assert all(begins <= float(now) <= time.time() for now, *_ in bodies)
    # The workflow draws from its own numbers, so the first body got the first of these.
    assert str(expected) == bodies[0][1]
    assert inside[1] not in {body[1] for body in bodies}
    assert len({body[2] for body in [inside, *bodies]}) == 4
    assert (time.time, random.random, os.urandom, uuid.uuid1, time.sleep) == before


@workflow.defn
class Writes:
    @workflow.run
    async def run(self, path: str) -> None:
        with open(path, "w"):  # noqa: ASYNC230, PTH123  # which is the point
            pass


def test_a_refusal_stalls_the_run_and_names_the_file(store_url, tmp_path):
    path = tmp_path / "file"
    with pytest.raises(NotSupported, match=r"opened '.*file' for writing.*in an activity"):
        asyncio.run(execute_workflow(Writes.run, str(path), id="w", url=store_url))

    assert not path.exists()


@workflow.defn
class Stamps:
    @workflow.run
    async def run(self) -> str:
        return datetime.now().isoformat()


def test_a_run_from_plain_code_warns_of_what_is_not_guarded(store_url, caplog):
    for number in range(2):
        asyncio.run(execute_workflow(Stamps.run, id=f"w{number}", url=store_url))

    said = [r.message for r in caplog.records if "workflow 'Stamps'" in r.message]
    assert len(said) == 1
    assert f"{__file__}:" in said[0]
    assert "workflow.now()" in said[0]
