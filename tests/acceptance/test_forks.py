"""Processes that fork: gunicorn with and without `--preload`, and children that use what they inherit."""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter

import httpx
import pytest
from support.ledger import Ledger
from support.waiting import until

pytest_plugins = ["support.agents_fixtures"]

WORKERS, REQUESTS, ELSEWHERE = 4, 200, 50
OWNER = "import asyncio; from support.gunicorn_app import own; asyncio.run(own({orders}))"
GUNICORN = """
import sys
from gunicorn.app.wsgiapp import run
sys.argv = ["gunicorn", *sys.argv[1:], "support.gunicorn_app:app"]
run()
"""
OPTIONS = [
    *("--bind", "127.0.0.1:0", "--workers", WORKERS, "--threads", "64"),
    # Else the first of them may accept every request before another one looks.
    *("--worker-connections", "64"),
    *("--timeout", "60", "--graceful-timeout", "10", "--worker-tmp-dir", "."),
]


async def answers(port, orders):
    """Ask for all orders at once and return the answers."""
    limits = httpx.Limits(max_connections=REQUESTS)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits) as client:
        found = await asyncio.gather(*(client.get(f"/{o}", timeout=90) for o in orders))
        return [response.raise_for_status().json() for response in found]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["alone", "preload", "preload after a run"])
def test_every_request_of_a_forked_server_gets_its_result_and_every_run_is_executed_once(
    processes, store_url, tmp_path, how, long
):
    if how == "preload" and not long:
        pytest.skip("preload after a run covers it")

    ledger, gate = Ledger(tmp_path / "ledger"), tmp_path / "gate"
    surroundings = {"DURABLE_URL": store_url, "LEDGER": ledger.path, "GATE": gate}
    surroundings["HOME"] = tmp_path  # gunicorn keeps a socket there
    held = [f"held-{n}" for n in range(ELSEWHERE)]
    owner = processes.start(OWNER.format(orders=held), **surroundings)
    until(lambda: len(ledger.effects()) == ELSEWHERE, "the other process to own its runs")

    before = {"RUN_BEFORE_THE_FORK": "1"} if how == "preload after a run" else {}
    options = [*OPTIONS, *(["--preload"] if how != "alone" else [])]
    server = processes.start(GUNICORN, *options, **surroundings, **before)
    until(lambda: server.output.count("Booting worker") == WORKERS, "the workers", timeout=40)
    port = re.search(r"http://127\.0\.0\.1:(\d+)", server.output)[1]

    async def ask():
        free = [f"free-{n}" for n in range(REQUESTS - ELSEWHERE)]
        waiting = asyncio.create_task(answers(port, held))
        done = await answers(port, free)
        assert not waiting.done()
        gate.touch()
        return dict(zip(free + held, done + await waiting, strict=True))

    try:
        found = asyncio.run(ask())
    except httpx.HTTPStatusError:
        raise AssertionError(server.output) from None

    assert len(found) == REQUESTS
    assert {o: a["result"] for o, a in found.items()} == {o: f"receipt for {o}" for o in found}
    pids = {answer["pid"] for answer in found.values()}
    assert server.pid not in pids
    assert len(pids) == WORKERS
    owner.wait().checked()
    mine = [e for e in ledger.effects() if not e.key.startswith("parent")]
    assert Counter(e.key for e in mine) == dict.fromkeys(found, 1)
    by_pid = {e.pid for e in mine if e.key.startswith("held")}
    assert by_pid == {owner.pid}

    server.send(signal.SIGTERM)
    ended = server.wait(30).checked()
    assert "Traceback" not in ended.output, ended.output
    # A parent that ends with an open event loop leaves its lock for whoever looks next.
    assert len(list(tmp_path.glob("store.db-workers/*.lock"))) <= len(before)


# What a child makes of what it inherits

CHILD = """
import asyncio, os, sys, warnings
from durable_core import Client, Worker, execute_workflow, workflow
from durable_core.exceptions import NotSupported
warnings.simplefilter("ignore", DeprecationWarning)

@workflow.defn
class Echo:
    @workflow.run
    async def run(self, text: str) -> str:
        await asyncio.sleep(0.01)
        return text

def in_child(code):
    # Fork, run code in the child, and tell how that ended.
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return
    try:
        code()
    except BaseException as error:
        print("child failed:", repr(error), flush=True)
        os._exit(1)
    os._exit(0)

def refused(call):
    try:
        call()
    except NotSupported as error:
        print(error, flush=True)
        return
    raise AssertionError("not refused")

def stepped(coroutine):
    # On no loop: it must be refused before it waits for anything.
    try:
        coroutine.send(None)
    except StopIteration:
        return
    finally:
        coroutine.close()
    raise AssertionError("it waits")
"""

REFUSED = """
async def main(url):
    async with await Client.connect(url) as client:
        worker = Worker(client, task_queue="q", workflows=[Echo])
        async with worker:
            handle = await client.start_workflow(Echo.run, "a", id="a", task_queue="q")
            assert await handle.result() == "a"
            store = client.store
            row = await store.find("default", "a")

            def child():
                refused(lambda: store.find("default", "a").send(None))
                refused(lambda: store.load(row).send(None))
                refused(store.changed)
                refused(lambda: store.register_worker("child"))
                refused(lambda: store.revive("a", reopen=True))
                refused(lambda: client.store)
                refused(lambda: stepped(
                    client.start_workflow(Echo.run, "b", id="b", task_queue="q")))
                refused(lambda: stepped(handle.describe()))
                refused(lambda: stepped(handle.cancel()))
                refused(lambda: stepped(worker.start()))
                refused(lambda: stepped(worker.ready()))
                refused(lambda: stepped(worker.shutdown()))
                stepped(client.close())
                stepped(store.close())
                store.close_now()

            in_child(child)
            for n in range(3):
                handle = await client.start_workflow(Echo.run, f"{n}", id=f"{n}", task_queue="q")
                assert await handle.result() == f"{n}"

asyncio.run(main(sys.argv[1]))
print("parent done")
"""

OWN = """
async def main(url):
    assert await execute_workflow(Echo.run, "a", id="a", url=url) == "a"
    running = asyncio.create_task(execute_workflow(Echo.run, "b", id="b", url=url))
    await asyncio.sleep(0)

    def child():
        # A store, a worker and an identity of its own, beside all that the parent has open.
        for id in ("c", "a"):
            assert asyncio.run(execute_workflow(Echo.run, id, id=id, url=url)) == id

    in_child(child)
    assert await running == "b"
    assert await execute_workflow(Echo.run, "d", id="d", url=url) == "d"

asyncio.run(main(sys.argv[1]))
print("parent done")
"""

SYNC = """
import threading
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

def run(id):
    coroutine = execute_workflow(Echo.run, id, id=id, url=sys.argv[1])
    return asyncio.run_coroutine_threadsafe(coroutine, loop)

# Forks fall into every moment of the thread that writes.
stop = threading.Event()
def write():
    n = 0
    while not stop.is_set():
        assert run(f"w{n}").result(20) == f"w{n}"
        n += 1
    print("written", n > 0)

writer = threading.Thread(target=write)
writer.start()
for n in range(15):
    in_child(lambda: asyncio.run(execute_workflow(Echo.run, f"c{n}", id=f"c{n}", url=sys.argv[1])))
stop.set()
writer.join()
print("parent done")
"""

IMPORTING = """
import threading, time

class Slow:
    importing = threading.Event()

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "durable_core.stores.sqlite":
            cls.importing.set()
            time.sleep(0.3)

sys.meta_path.insert(0, Slow)

def run(id):
    assert asyncio.run(execute_workflow(Echo.run, id, id=id, url=sys.argv[1])) == id

first = threading.Thread(target=run, args=["first"])
first.start()
Slow.importing.wait()
in_child(lambda: run("child"))
first.join()
run("parent")
print("parent done")
"""


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_what_a_child_inherits_is_refused_and_the_parent_goes_on(processes, store_url, kind):
    url = store_url if kind == "sqlite" else "memory://forked"
    output = processes.run(CHILD + REFUSED, url).checked().output
    assert output.count("cannot be used after a fork: connect again in this process") == 12
    assert output.endswith("parent done\n")


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_a_child_executes_runs_of_its_own_while_its_parent_does(processes, store_url, kind):
    url = store_url if kind == "sqlite" else "memory://forked"
    assert processes.run(CHILD + OWN, url).checked().output == "parent done\n"


def test_a_fork_in_the_middle_of_the_first_import_of_the_store_harms_neither_side(
    processes, store_url
):
    assert processes.run(CHILD + IMPORTING, store_url).checked().output == "parent done\n"


def test_forks_at_any_moment_of_a_writing_thread_harm_neither_side(processes, store_url):
    output = processes.run(CHILD + SYNC, store_url, limit=50.0).checked().output
    assert output == "written True\nparent done\n"


def test_a_child_opens_the_file_without_any_of_the_parents_connections(processes, store_url):
    script = (
        CHILD
        + """
from durable_core import _forks

async def main(url):
    async with await Client.connect(url):
        assert sum(h._connection is not None for h in _forks._known) == 2

        def child():
            assert not list(_forks._known)
            import gc, apsw
            assert not [o for o in gc.get_objects() if isinstance(o, apsw.Connection)]
            held = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{n}")]
            assert not [path for path in held if "store.db" in path], held

        in_child(child)

asyncio.run(main(sys.argv[1]))
"""
    )
    assert processes.run(script, store_url).checked().output == ""


AGENTS = """
import os, sys, warnings
from durable_openai_agents import DurableRunner
from support.agents_bench import agent, say
warnings.simplefilter("ignore", DeprecationWarning)
worker = agent("worker", say("done"))

def run(name):
    found = DurableRunner.run_sync(worker, "hi", workflow_id=name)
    assert found.final_output == "done"

# Its loop is the default one of the thread, and stays open.
run("parent")
children = []
for n in range(4):
    child = os.fork()
    if child == 0:
        try:
            for again in range(3):
                run(f"child-{n}-{again}")
        except BaseException as error:
            print("child failed:", repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
for again in range(3):
    run(f"parent-{again}")
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("parent done")
"""


def test_agents_run_in_children_of_a_process_that_ran_some(processes, bench):
    surroundings = {
        **bench.server.environment(),
        "DURABLE_URL": bench.store_url,
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }
    output = processes.run(AGENTS, limit=50.0, **surroundings).checked().output
    assert output.endswith("parent done\n")
    assert len(bench.requests()) == 1 + 4 * 3 + 3
