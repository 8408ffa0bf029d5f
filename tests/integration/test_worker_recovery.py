"""What workers make of bugs, mismatches and deaths: stalls, takeovers, and what is kept."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from durable_core import Client, RetryPolicy, Worker, activity, workflow
from support import bug_app
from support.ledger import Ledger
from support.waiting import eventually

APP = Path(bug_app.__file__)
RUN = "order-1"


class Scene:
    """One store, one ledger, and processes that serve it with some version of the code."""

    def __init__(self, client, processes, ledger, surroundings):
        self.client = client
        self.ledger = ledger
        self._processes = processes
        self._surroundings = surroundings

    def serve(self, version="good", *, fault=""):
        return self._processes.start(APP, version, fault=fault, **self._surroundings)

    async def start(self, workflow_type="Order", args=(1250,)):
        return await self.client.start_workflow(
            workflow_type, args=args, id=RUN, task_queue=bug_app.QUEUE
        )

    async def row(self):
        return await self.client.store.find("default", RUN)

    async def until(self, condition, what):
        """Wait until the row of the run is so, and return the row."""
        for _ in range(2000):
            row = await self.row()
            if condition(row):
                return row

            await self.client.changes.wait(timeout=0.05, interval=0.005)

        raise AssertionError(f"waited in vain for {what}: {row}")

    async def stalled(self):
        await self.until(lambda row: row.stall is not None, "a stall")
        return (await self.client.get_workflow_handle(RUN).describe()).stalled


@pytest.fixture
def scene(processes, tmp_path, store_url):
    ledger = Ledger(tmp_path / "ledger")
    surroundings = {"DURABLE_URL": store_url, "LEDGER": ledger.path}

    @asynccontextmanager
    async def enter():
        async with await Client.connect(store_url) as client:
            yield Scene(client, processes, ledger, surroundings)

    return enter


# Bugs


def test_a_bug_stalls_the_run_keeps_the_result_and_fixed_code_goes_on(scene):
    async def main():
        async with scene() as s:
            handle = await s.start()
            buggy = s.serve("bug")
            assert await s.stalled() == "KeyError: 'no such customer'"
            history = await handle.fetch_history()
            assert [e.seq for e in history.waiting] == [1], "the result waits in the inbox"
            assert "receipt for 1250" in str(history.to_json_dict()["waiting"])
            assert len(history.activations) == 1, "the failed activation is not kept"
            assert "bug_app.py" in history.stall["stack"]
            assert history.stall["activation"] == 1
            row = await s.row()
            assert (row.status, row.owner) == ("running", None)
            await eventually(lambda: "stalled: KeyError" in buggy.output, "the log")
            buggy.kill()
            s.serve("good")
            assert await handle.result() == "delivered with receipt for 1250"
            assert (await handle.describe()).stalled is None
            assert (await handle.fetch_history()).waiting == []
            assert s.ledger.counts() == {
                "charge/1250": 1,
                "deliver/started": 1,
                "deliver/done": 1,
            }

    asyncio.run(main())


def test_a_bug_that_is_met_again_runs_no_activity_again(scene):
    async def main():
        async with scene() as s:
            handle = await s.start()
            for _ in range(3):
                fence = (await s.row()).fence
                buggy = s.serve("bug")
                await s.until(lambda r, f=fence: r.stall is not None and r.fence > f, "a stall")
                buggy.kill()

            assert s.ledger.counts() == {"charge/1250": 1}
            assert [e.seq for e in (await handle.fetch_history()).waiting] == [1]
            s.serve("good")
            assert await handle.result() == "delivered with receipt for 1250"
            assert s.ledger.counts()["charge/1250"] == 1

    asyncio.run(main())


def test_a_mismatch_found_in_replay_stalls_the_run_and_the_old_code_goes_on(scene):
    async def main():
        async with scene() as s:
            handle = await s.start()
            slow = s.serve("slow")
            await eventually(lambda: s.ledger.has("deliver", "started"), "the second activity")
            slow.kill()
            drifted = s.serve("drift")
            cause = await s.stalled()
            assert "NonDeterminismError" in cause
            assert "charge" in cause
            assert "refund" in cause
            drifted.kill()
            assert s.ledger.counts() == {"charge/1250": 1, "deliver/started": 1}
            s.serve("good")
            assert await handle.result() == "delivered with receipt for 1250"
            assert s.ledger.counts()["charge/1250"] == 1
            assert "refund/1250" not in s.ledger.counts()

    asyncio.run(main())


def test_a_worker_tries_a_stalled_run_again_by_itself(store_url):
    broken = True

    @activity.defn
    async def one() -> int:
        return 1

    @workflow.defn
    class Mended:
        @workflow.run
        async def run(self) -> int:
            value = await workflow.execute_activity(one)
            if broken:
                raise LookupError("not yet")

            return value

    async def main():
        nonlocal broken
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue="q", workflows=[Mended], activities=[one]),
        ):
            handle = await client.start_workflow(Mended.run, id="w", task_queue="q")
            while (await handle.describe()).stalled is None:
                await client.changes.wait(timeout=1.0, interval=0.005)

            broken = False
            assert await handle.result() == 1

    asyncio.run(main())


def test_results_of_bodies_beside_a_bug_are_kept(store_url, tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    broken = True
    both = asyncio.Barrier(3)

    @activity.defn
    async def beside(name: str) -> str:
        ledger.write(name)
        await both.wait()
        return name

    @workflow.defn
    class Parallel:
        @workflow.run
        async def run(self) -> list[str]:
            tasks = [asyncio.create_task(workflow.execute_activity(beside, n)) for n in "abc"]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if broken:
                raise LookupError("a bug in what follows the first")

            return sorted(await asyncio.gather(*tasks))

    async def main():
        nonlocal broken
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue="q", workflows=[Parallel], activities=[beside]),
        ):
            handle = await client.start_workflow(Parallel.run, id="w", task_queue="q")
            while (await handle.describe()).stalled is None:
                await client.changes.wait(timeout=1.0, interval=0.005)

            broken = False
            assert await handle.result() == ["a", "b", "c"]

    asyncio.run(main())
    assert ledger.counts() == {"beside/a": 1, "beside/b": 1, "beside/c": 1}


# Deaths


def test_an_attempt_that_died_with_its_worker_is_lost_and_followed_by_another(scene):
    async def main():
        async with scene() as s:
            handle = await s.start()
            slow = s.serve("slow")
            await eventually(lambda: s.ledger.has("deliver", "started"), "the second activity")
            slow.kill()
            s.serve("good")
            await handle.result()
            entries = (await handle.fetch_history()).timeline()
            (delivery,) = [e for e in entries if e.name == "deliver"]
            assert [a.outcome for a in delivery.attempts] == ["lost", "completed"]
            assert [e.kind for e in entries].count("taken") == 1
            assert s.ledger.counts()["charge/1250"] == 1

    asyncio.run(main())


def test_a_backoff_over_a_second_and_its_attempt_survive_a_kill(scene):
    async def main():
        async with scene() as s:
            handle = await s.start("Unsteady", ())
            first = s.serve()
            await eventually(lambda: "next attempt in 1.5 s" in first.output, "the failure")
            while not (await handle.fetch_history()).pending:
                await s.client.changes.wait(timeout=1.0, interval=0.005)

            first.kill()
            pending = (await handle.fetch_history()).pending[1]
            assert [a.outcome for a in pending.attempts] == ["failed"]
            (entry,) = [
                e for e in (await handle.fetch_history()).timeline() if e.kind == "activity"
            ]
            assert (entry.status, entry.due) == ("retrying", pending.retry_at)
            s.serve()
            assert await handle.result() == 2
            first_effect, second_effect = s.ledger.effects()
            assert (first_effect.attempt, second_effect.attempt) == (1, 2)
            assert second_effect.time >= pending.retry_at, "the backoff is waited for"

    asyncio.run(main())


def test_a_run_that_kills_its_workers_stalls_as_a_crash_loop(scene):
    async def main():
        async with scene() as s:
            await s.start()
            # Dies whenever it has claimed the run, before anything of it is run.
            for _ in range(7):
                assert (
                    await asyncio.to_thread(s.serve("good", fault="run.claim.after:1").wait)
                ).killed
                assert (await s.row()).stall is None

            assert (await s.row()).takeovers == 6
            last = s.serve("good")
            cause = await s.stalled()
            assert "taken over 6 times without getting anywhere" in cause
            await asyncio.sleep(1.5)
            assert s.ledger.counts() == {}, "its worker does not try it again by itself"
            assert (await s.row()).takeovers >= 6
            assert "durable show order-1" in cause
            assert s.ledger.counts() == {}
            last.kill()
            # Somebody who tries again gets a new set of tries.
            s.serve("good")
            handle = s.client.get_workflow_handle(RUN)
            assert await handle.result() == "delivered with receipt for 1250"

    asyncio.run(main())


def test_progress_between_deaths_is_no_crash_loop(scene):
    async def main():
        async with scene() as s:
            handle = await s.start()
            slow = s.serve("slow")
            await eventually(lambda: s.ledger.has("deliver", "started"), "the second activity")
            slow.kill()
            for _ in range(4):
                assert (
                    await asyncio.to_thread(s.serve("good", fault="run.claim.after:1").wait)
                ).killed

            s.serve("good")
            assert await handle.result() == "delivered with receipt for 1250"
            assert (await s.row()).takeovers == 0

    asyncio.run(main())


def test_workers_that_end_in_order_do_not_count_as_dead(store_url, tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    go = asyncio.Event()

    @activity.defn(retry_policy=RetryPolicy(initial_interval=timedelta(microseconds=1)))
    async def gated() -> str:
        ledger.write()
        await go.wait()
        return "through"

    @workflow.defn
    class Gated:
        @workflow.run
        async def run(self) -> str:
            return await workflow.execute_activity(gated)

    async def main():
        async with await Client.connect(store_url) as client:
            handle = await client.start_workflow(Gated.run, id="w", task_queue="q")
            for n in range(1, 9):
                async with Worker(client, task_queue="q", workflows=[Gated], activities=[gated]):
                    await eventually(lambda n=n: len(ledger.effects()) == n, "the body")

                row = await client.store.find("default", "w")
                assert (row.takeovers, row.stall, row.status) == (0, None, "running")

            go.set()
            async with Worker(client, task_queue="q", workflows=[Gated], activities=[gated]):
                assert await handle.result() == "through"

    asyncio.run(main())


def test_a_worker_that_stands_still_keeps_its_run_while_its_process_lives(scene):
    async def main():
        async with scene() as s:
            handle = await s.start()
            slow = s.serve("slow")
            await eventually(lambda: s.ledger.has("deliver", "started"), "the second activity")
            slow.send(signal.SIGSTOP)
            other = s.serve("good")
            row = await s.row()
            assert await s.client.store.owner_alive(row)
            slow.kill()
            assert await handle.result() == "delivered with receipt for 1250"
            assert s.ledger.counts()["deliver/started"] == 2
            assert {e.pid for e in s.ledger.effects()} == {slow.pid, other.pid}

    asyncio.run(main())
