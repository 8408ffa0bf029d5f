"""Runs from plain code that lost their process, continued by a service that can make their objects."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner
from durable_core import Client, _defaults, activity, embedded, workflow
from durable_core import exceptions as ex
from durable_core.adapter import current_engine
from durable_core.cli import main as cli
from support.waiting import eventually, until

began: list[str] = []
gates: dict[str, asyncio.Event] = {}
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _forget(monkeypatch, store_url):
    monkeypatch.setenv("DURABLE_URL", store_url)
    for known in (began, gates, broken):
        known.clear()


@activity.defn
async def serve(name: str) -> str:
    began.append(name)
    if name in gates:
        await gates[name].wait()

    return f"{name} served"


@workflow.defn
async def greet(name: str) -> str:
    """Needs a greeting, which is an object of its caller."""
    greeting = current_engine().resource("greeting")
    served = await serve(name)
    if name in broken:
        raise KeyError("a bug")

    return f"{greeting}, {served}"


class Maker:
    """Makes the objects of runs, and notes for which."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked: list[embedded.Orphan] = []
        self.open: list[str] = []

    @asynccontextmanager
    async def __call__(self, orphan):
        self.asked.append(orphan)
        if orphan.args[0] not in self.known:
            yield None
            return

        self.open.append(orphan.workflow_id)
        yield {"greeting": f"good {orphan.memo['time']}"}
        self.open.remove(orphan.workflow_id)


def leave(*names: str) -> None:
    """Start runs in a loop that ends in the middle of them; they are named by their arguments."""

    async def main():
        for name in names:
            gates[name] = asyncio.Event()

        runs = [
            asyncio.ensure_future(
                embedded.run(
                    greet, (name,), id=name, resources={"greeting": "hi"}, memo={"time": "day"}
                )
            )
            for name in names
        ]
        await eventually(lambda: len(began) == len(names), "the bodies to begin")
        assert not any(run.done() for run in runs)

    asyncio.run(main())
    gates.clear()
    began.clear()


def result(name: str) -> str:
    async def main():
        async with await Client.connect() as client:
            return await client.get_workflow_handle(name).result()

    return asyncio.run(main())


async def recovered(maker: Maker) -> embedded.Recovery:
    recovery = await embedded.recover(greet, maker)
    await recovery.wait()
    return recovery


def test_a_run_goes_on_with_objects_made_from_what_was_recorded():
    leave("ann")
    maker = Maker("ann")
    asyncio.run(recovered(maker))
    assert result("ann") == "good day, ann served"
    assert [(o.workflow_id, o.args, o.memo) for o in maker.asked] == [
        ("ann", ("ann",), {"time": "day"})
    ]
    assert maker.open == [], "what was made for a run is closed with it"


def test_a_reader_sees_what_was_noted_of_a_run_and_how_it_goes_on():
    async def main():
        memo = {"metadata": {"tenant": "acme"}}
        gates["ann"] = asyncio.Event()
        run = embedded.run(greet, ("ann",), id="ann", resources={"greeting": "hi"}, memo=memo)
        task = asyncio.create_task(run)
        await eventually(lambda: began, "the body to begin")
        assert not task.done()

    asyncio.run(main())
    shown = CliRunner().invoke(cli, ["show", "ann"]).output
    assert 'metadata  {"tenant": "acme"}' in shown
    assert "or start a process that recovers such runs" in " ".join(shown.split())


def test_a_run_whose_process_lives_is_left_alone():
    async def main():
        gates["ann"] = asyncio.Event()
        run = asyncio.create_task(
            embedded.run(greet, ("ann",), id="ann", resources={"greeting": "hi"})
        )
        await eventually(lambda: began, "the body to begin")
        maker = Maker("ann")
        await recovered(maker)
        gates["ann"].set()
        await run
        return maker.asked

    assert asyncio.run(main()) == []
    assert result("ann") == "hi, ann served"


def test_a_run_that_nobody_can_make_objects_for_waits_for_its_caller():
    leave("ann", "bob")
    maker = Maker("bob")

    async def main():
        recovery = await recovered(maker)
        await recovery.look()
        asked = [o.workflow_id for o in maker.asked]
        assert sorted(asked) == ["ann", "bob"], "it is asked for once"
        maker.known = ("ann",)
        await recovered(maker)

    asyncio.run(main())
    assert [o.workflow_id for o in maker.asked][2:] == ["ann"], "and again when asked to"
    assert result("ann") == "good day, ann served"


def test_objects_that_cannot_be_made_are_no_matter_of_other_runs(caplog):
    leave("ann", "bob")

    class Failing(Maker):
        def __call__(self, orphan):
            if orphan.args == ("ann",):
                self.asked.append(orphan)
                raise ConnectionError("the tenant's database is away")

            return super().__call__(orphan)

    maker = Failing("bob")
    asyncio.run(recovered(maker))
    assert result("bob") == "good day, bob served"
    assert sum(o.workflow_id == "ann" for o in maker.asked) == 1, "it is not asked in a row"
    assert "run 'ann' cannot be recovered" in caplog.text
    assert "the tenant's database is away" in caplog.text
    asyncio.run(recovered(Maker("ann")))
    assert result("ann") == "good day, ann served"


def test_runs_that_are_left_to_their_callers_keep_no_other_waiting(monkeypatch):
    monkeypatch.setattr(_defaults, "RECOVERED_AT_ONCE", 1)
    leave("ann", "bob", "cat")

    async def main():
        recovery = await embedded.recover(greet, Maker("cat"))
        assert recovery.found == ["cat"], "also where no more than one is asked about at once"
        await recovery.wait()

    asyncio.run(main())
    assert result("cat") == "good day, cat served"


@pytest.mark.parametrize("table", ["start", "activation"])
def test_a_record_that_cannot_be_read_is_no_matter_of_other_runs(table, caplog, store_path):
    leave("ann", "bob")
    connection = apsw.Connection(str(store_path))
    connection.execute(
        f"UPDATE {table} SET data = x'00' "
        "WHERE run IN (SELECT id FROM run WHERE workflow_id = 'ann')"
    )
    connection.close()
    asyncio.run(recovered(Maker("ann", "bob")))
    assert "run 'ann' cannot be recovered: its record cannot be read" in caplog.text
    assert result("bob") == "good day, bob served"


def test_objects_that_take_their_time_hold_up_no_other_run(monkeypatch):
    leave("ann", "bob")
    monkeypatch.setattr(_defaults, "RECOVER_EVERY", 0.1)

    class Slow(Maker):
        @asynccontextmanager
        async def __call__(self, orphan):
            if orphan.args == ("ann",):
                await asyncio.Event().wait()

            async with super().__call__(orphan) as made:
                yield made

    async def main():
        recovery = await embedded.recover(greet, Slow("ann", "bob"))
        await eventually(lambda: "bob" in began, "the other run")
        assert "ann" not in recovery.workflow_ids

    asyncio.run(main())
    assert result("bob") == "good day, bob served"


def test_what_was_made_for_a_run_is_closed_after_its_bodies():
    leave("ann")
    order: list[str] = []

    @activity.defn(name="serve")
    async def watch(name: str) -> str:
        began.append(name)
        try:
            await asyncio.Event().wait()
        finally:
            order.append("body")

        return name

    @asynccontextmanager
    async def revive(_):
        yield {"greeting": "good day"}
        order.append("objects")

    async def main():
        monkey = greet.__globals__["serve"]
        greet.__globals__["serve"] = watch
        try:
            await embedded.recover(greet, revive)
            await eventually(lambda: began, "the body to begin")
            await embedded.close()
        finally:
            greet.__globals__["serve"] = monkey

    asyncio.run(main())
    assert order == ["body", "objects"]
    asyncio.run(recovered(Maker("ann")))
    assert result("ann") == "good day, ann served"


def test_a_caller_joins_a_run_that_is_being_recovered():
    leave("ann")

    async def main():
        gates["ann"] = asyncio.Event()
        recovery = await embedded.recover(greet, Maker("ann"))
        assert recovery.workflow_ids == ["ann"]
        await eventually(lambda: began, "the body to begin")
        call = asyncio.create_task(
            embedded.run(greet, ("ann",), id="ann", resources={"greeting": "hello"})
        )
        await asyncio.sleep(0.01)
        gates["ann"].set()
        return await call

    assert asyncio.run(main()).result == b'"good day, ann served"'
    assert began == ["ann"]


def test_no_more_than_so_many_are_recovered_at_once(monkeypatch):
    names = [f"n{i}" for i in range(5)]
    leave(*names)
    monkeypatch.setattr(_defaults, "RECOVERED_AT_ONCE", 2)
    most = 0

    class Counting(Maker):
        @asynccontextmanager
        async def __call__(self, orphan):
            nonlocal most
            async with super().__call__(orphan) as made:
                most = max(most, len(self.open))
                yield made

    asyncio.run(recovered(Counting(*names)))
    assert most == 2
    assert [result(name) for name in names] == [f"good day, {name} served" for name in names]


def test_a_process_that_ends_later_is_recovered_from_too(monkeypatch):
    monkeypatch.setattr(_defaults, "RECOVER_EVERY", 0.02)

    async def main():
        maker = Maker("ann")
        await embedded.recover(greet, maker)
        await asyncio.to_thread(leave, "ann")
        await eventually(lambda: maker.asked and not maker.open, "the run to be recovered")

    asyncio.run(main())
    assert result("ann") == "good day, ann served"


def test_a_stalled_run_is_tried_by_a_process_with_other_code(caplog):
    leave("ann")
    broken.add("ann")
    maker = Maker("ann")

    async def fails():
        recovery = await recovered(maker)
        await recovery.look()

    asyncio.run(fails())
    assert len(maker.asked) == 1, "the same worker waits before it tries again"
    assert "run 'ann' stalled: KeyError" in caplog.text
    broken.clear()
    asyncio.run(recovered(maker))
    assert result("ann") == "good day, ann served"
    assert began == ["ann"], "the recorded call is not made again"


def test_a_run_whose_write_failed_goes_on_when_the_store_does(monkeypatch):
    leave("ann")
    monkeypatch.setattr(_defaults, "STALL_RETRY_FIRST", 0.01)

    async def main():
        gates["ann"] = asyncio.Event()
        recovery = await embedded.recover(greet, Maker("ann"))
        await eventually(lambda: began, "the body to begin")
        (found,) = embedded._loops.opened_here()
        store, failures = found.client.store, iter([True])
        append = store.append

        def failing(asked):
            if not next(failures, False):
                return append(asked)

            future = asyncio.get_running_loop().create_future()
            future.set_exception(ex.StoreError("disk full"))
            return future

        store.append = failing
        gates["ann"].set()
        await recovery.wait()

    asyncio.run(main())
    assert result("ann") == "good day, ann served"


def test_a_recovered_run_that_fails_says_so_in_the_log(caplog):
    @workflow.defn
    async def refuse() -> None:
        await serve("ann")
        raise ex.ApplicationError("no")

    async def start():
        gates["ann"] = asyncio.Event()
        run = asyncio.create_task(embedded.run(refuse, id="r"))
        await eventually(lambda: began, "the body to begin")
        assert not run.done()

    @asynccontextmanager
    async def revive(_):
        yield {}

    async def main():
        recovery = await embedded.recover(refuse, revive)
        await recovery.wait()

    asyncio.run(start())
    gates.clear()
    asyncio.run(main())
    assert "run 'r', which was recovered, has ended as failed" in caplog.text


def test_a_failed_run_that_somebody_resumes_is_recovered_before_its_failure():
    refuses = True

    @activity.defn
    async def decide() -> str:
        if refuses:
            raise ex.ApplicationError("no", non_retryable=True)

        return "yes"

    @workflow.defn
    async def asks() -> str:
        return f"{await serve('ann')}, {await decide()}"

    @asynccontextmanager
    async def revive(_):
        yield {}

    async def main():
        nonlocal refuses
        assert (await embedded.run(asks, id="r")).result is None
        recovery = await embedded.recover(asks, revive)
        await recovery.wait()
        shown = await asyncio.to_thread(CliRunner().invoke, cli, ["resume", "r"])
        assert "a process that can make its objects, continues it" in shown.output
        refuses = False
        await recovery.look()
        await recovery.wait()

    asyncio.run(main())
    assert result("r") == "ann served, yes"
    assert began == ["ann"]


PROGRAM = """
import asyncio, sys
from contextlib import asynccontextmanager
from durable_core import activity, embedded, workflow
from support import ledger

@activity.defn
async def step(n: int) -> int:
    ledger.from_environment().write(n)
    if n == 2 and "leave" in sys.argv:
        print("holding", flush=True)
        await asyncio.Event().wait()

    return n

@workflow.defn
async def steps(name: str) -> int:
    return sum([await step(n) for n in (1, 2, 3)])

@asynccontextmanager
async def revive(orphan):
    yield {}

async def main():
    if "leave" in sys.argv:
        await asyncio.gather(*(embedded.run(steps, (name,), id=name) for name in "abc"))

    recovery = await embedded.recover(steps, revive)
    await recovery.wait()

asyncio.run(main())
"""


def test_runs_of_a_killed_process_are_recovered_by_two_that_start_at_once(processes, store_url):
    places = {"DURABLE_URL": store_url, "LEDGER": store_url.removeprefix("sqlite:///") + ".ledger"}
    first = processes.start(PROGRAM, "leave", **places)
    until(lambda: first.output.count("holding") == 3, "three runs to hold")
    first.kill()
    both = [processes.start(PROGRAM, **places) for _ in range(2)]
    for process in both:
        process.wait().checked()

    assert [result(name) for name in "abc"] == [6, 6, 6]
    lines = Path(places["LEDGER"]).read_text().splitlines()
    assert len(lines) == 3 * 4, "what was in flight ran again, and nothing else"
