"""A run in the hands of its worker: what happens between two commits."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from durable_core import Client, Worker, activity, workflow
from durable_core import exceptions as ex
from durable_core.adapter import Unit, UnitOptions, current_engine
from durable_core.common import RetryPolicy
from support.waiting import eventually

QUEUE = "queue"


class Desk:
    """Activities that end when the test says so, and note that they began."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

        @activity.defn(name="serve")
        async def serve(name: str) -> str:
            self.began.append(name)
            if name in self.gates:
                await self.gates[name].wait()

            return f"{name} served"

        self.serve = serve


class CommitsSeen:
    """Passes appends on to a store, and calls back when one that is of interest is on its way."""

    def __init__(self, store, interesting, then) -> None:
        self._append = store.append
        self._interesting = interesting
        self._then = then
        store.append = self

    def __call__(self, append):
        future = self._append(append)
        if self._interesting(append):
            self._interesting = lambda _: False
            self._then()

        return future


class HeldCommits:
    """Passes appends on to a store, and while it holds keeps to itself that they are durable."""

    def __init__(self, store) -> None:
        self._append = store.append
        self.held = False
        self.waiting: list[tuple[asyncio.Future, asyncio.Future]] = []
        store.append = self

    def __call__(self, append):
        future = self._append(append)
        if not self.held:
            return future

        told = asyncio.get_running_loop().create_future()
        self.waiting.append((future, told))
        return told

    async def let_go(self) -> None:
        self.held = False
        for future, told in self.waiting:
            told.set_result(await future)


@pytest.fixture
def desk():
    return Desk()


def test_a_result_that_arrives_while_a_stall_is_written_is_kept(store_url, desk):
    broken = True

    @workflow.defn
    class Side:
        @workflow.run
        async def run(self) -> list[str]:
            a, b = (workflow.start_activity(desk.serve, name) for name in "ab")
            found = await a
            if broken:
                raise KeyError("a bug")

            return [found, await b]

    async def main():
        nonlocal broken
        desk.gates = {name: asyncio.Event() for name in "ab"}
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue=QUEUE, workflows=[Side], activities=[desk.serve]),
        ):
            CommitsSeen(client.store, lambda a: a.stall is not None, desk.gates["b"].set)
            handle = await client.start_workflow(Side.run, id="w", task_queue=QUEUE)
            await eventually(lambda: len(desk.began) == 2, "both to begin")
            desk.gates["a"].set()
            while (await handle.describe()).stalled is None:
                await client.changes.wait(timeout=1.0, interval=0.005)

            assert "a bug" in (await handle.describe()).stalled
            broken = False
            return await handle.result()

    assert asyncio.run(main()) == ["a served", "b served"]
    assert sorted(desk.began) == ["a", "b"], "a result that is there is not bought again"


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_a_unit_that_is_withdrawn_and_waited_for_ends(at_once, store_url, desk):
    def serve():
        options = UnitOptions(cancellation="wait_cancellation_completed")
        unit = Unit(name="serve", body=desk.serve, args=("a",), options=options)
        return current_engine().schedule(unit)

    @workflow.defn
    class Withdrawn:
        @workflow.run
        async def run(self) -> str:
            future = serve()
            if not at_once:
                await workflow.execute_activity(desk.serve, "b")

            future.cancel()
            try:
                return await future
            except ex.ActivityError as error:
                return type(error.cause).__name__

    async def main():
        desk.gates = {"a": asyncio.Event()}
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue=QUEUE, workflows=[Withdrawn], activities=[desk.serve]),
        ):
            return await client.execute_workflow(Withdrawn.run, id="w", task_queue=QUEUE)

    assert asyncio.run(main()) == "CancelledError"
    assert sorted(desk.began) == ([] if at_once else ["a", "b"])


def test_events_that_arrive_during_a_commit_share_the_next_activation(store_url, desk):
    @workflow.defn
    class Wide:
        @workflow.run
        async def run(self) -> int:
            return len(
                await asyncio.gather(
                    *(workflow.execute_activity(desk.serve, str(n)) for n in range(50))
                )
            )

    async def main():
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue=QUEUE, workflows=[Wide], activities=[desk.serve]),
        ):
            handle = await client.start_workflow(Wide.run, id="w", task_queue=QUEUE)
            assert await handle.result() == 50
            return await handle.fetch_history()

    activations = asyncio.run(main()).activations
    assert len(activations) < 10
    assert sum(len(a.events) for a in activations) == 50
    assert [a.number for a in activations] == list(range(len(activations)))
    times = [a.time for a in activations]
    assert times == sorted(times)


def test_no_body_starts_before_the_commit_that_asks_for_it(store_url, desk):
    order: list[str] = []

    @activity.defn
    async def noted() -> None:
        order.append("body")

    @workflow.defn
    class One:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity(noted)

    async def main():
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue=QUEUE, workflows=[One], activities=[noted]),
        ):
            real = client.store.append

            def append(asked):
                future = real(asked)
                future.add_done_callback(lambda _: order.append("committed"))
                return future

            client.store.append = append
            await client.execute_workflow(One.run, id="w", task_queue=QUEUE)

    asyncio.run(main())
    assert order[:2] == ["committed", "body"]


def test_no_signal_is_acknowledged_before_the_commit_that_holds_it(store_url):
    order: list[str] = []

    @workflow.defn
    class Waits:
        def __init__(self) -> None:
            self.got = 0

        @workflow.run
        async def run(self) -> None:
            await workflow.wait_condition(lambda: self.got == 2)

        @workflow.signal
        def take(self) -> None:
            self.got += 1

    async def main():
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue=QUEUE, workflows=[Waits]),
        ):
            handle = await client.start_workflow(Waits.run, id="w", task_queue=QUEUE)
            real = client.store.append

            def append(asked):
                future = real(asked)
                future.add_done_callback(lambda _: order.append("committed"))
                return future

            client.store.append = append
            for _ in range(2):
                await handle.signal(Waits.take)
                order.append("acknowledged")

            await handle.result()

    asyncio.run(main())
    assert order == ["committed", "acknowledged"] * 2


def test_a_cancelled_activity_is_interrupted_in_its_body(store_url):
    seen: list[str] = []

    @activity.defn
    async def long() -> None:
        seen.append("began")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("interrupted")
            raise

    @activity.defn
    async def wait_for_it() -> None:
        await eventually(lambda: seen, "the long one to begin")

    @workflow.defn
    class Cancels:
        @workflow.run
        async def run(self) -> str:
            handle = workflow.start_activity(long)
            await workflow.execute_activity(wait_for_it)
            handle.cancel()
            await workflow.sleep(0.01)
            return "went on"

    async def main():
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue=QUEUE, workflows=[Cancels], activities=[long, wait_for_it]),
        ):
            handle = await client.start_workflow(Cancels.run, id="w", task_queue=QUEUE)
            result = await handle.result()
            timeline = (await handle.fetch_history()).timeline()
            return result, {e.name: e.status for e in timeline if e.kind == "activity"}

    assert asyncio.run(main()) == ("went on", {"long": "cancelled", "wait_for_it": "completed"})
    assert seen == ["began", "interrupted"]


def test_what_is_left_running_is_interrupted_when_its_run_ends(store_url):
    ended = []

    @activity.defn
    async def forgotten() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("interrupted")

    @workflow.defn
    class Forgets:
        @workflow.run
        async def run(self) -> str:
            workflow.start_activity(forgotten)
            await workflow.sleep(0.01)
            return "done"

    async def main():
        async with (
            await Client.connect(store_url) as client,
            Worker(client, task_queue=QUEUE, workflows=[Forgets], activities=[forgotten]),
        ):
            handle = await client.start_workflow(Forgets.run, id="w", task_queue=QUEUE)
            assert await handle.result() == "done"
            await eventually(lambda: ended, "the body to be interrupted")

    asyncio.run(main())


@workflow.defn
class ThreeServed:
    @workflow.run
    async def run(self) -> list[str]:
        first = await workflow.execute_activity("serve", "a")
        rest = [workflow.execute_activity("serve", name) for name in "bc"]
        return [first, *await asyncio.gather(*rest)]


@pytest.mark.parametrize("at", ["its start", "an outcome"])
def test_a_shutdown_waits_for_the_commit_under_way(at, store_url, desk):
    async def main():
        desk.gates = {"a": asyncio.Event()} if at == "an outcome" else {}
        client = await Client.connect(store_url)
        commits = HeldCommits(client.store)
        worker = Worker(client, task_queue=QUEUE, workflows=[ThreeServed], activities=[desk.serve])
        await worker.start(takes_runs=True)
        commits.held = at == "its start"
        started = asyncio.create_task(
            client.start_workflow(ThreeServed.run, id="w", task_queue=QUEUE)
        )
        if at == "an outcome":
            await started
            await eventually(lambda: desk.began == ["a"], "the first to begin")
            commits.held = True
            desk.gates["a"].set()

        await eventually(lambda: commits.waiting, "a commit to be under way")
        ending = asyncio.create_task(worker.shutdown())
        await asyncio.sleep(0.05)
        assert not ending.done(), "what is being written decides what the next owner finds"
        await commits.let_go()
        await asyncio.gather(started, ending)
        row = await client.store.find("default", "w")
        assert (row.owner, row.takeovers) == (None, 0)
        desk.gates.clear()
        async with Worker(
            client, task_queue=QUEUE, workflows=[ThreeServed], activities=[desk.serve]
        ):
            handle = client.get_workflow_handle("w")
            assert await handle.result() == ["a served", "b served", "c served"]
            timeline = (await handle.fetch_history()).timeline()

        await client.close()
        return [len(entry.attempts) for entry in timeline if entry.kind == "activity"]

    assert asyncio.run(main()) == [1, 1, 1]
    assert sorted(desk.began) == ["a", "b", "c"]


def test_a_shutdown_cuts_attempts_off_and_loses_none(store_url, desk):
    fails = iter([True])

    @activity.defn
    async def fails_once() -> str:
        if next(fails, False):
            raise ConnectionError("not yet")

        return "mended"

    retry = RetryPolicy(initial_interval=timedelta(milliseconds=900))

    @workflow.defn
    class Both:
        @workflow.run
        async def run(self) -> list[str]:
            return await asyncio.gather(
                workflow.execute_activity(desk.serve, "a"),
                workflow.execute_activity(fails_once, retry_policy=retry),
            )

    async def main():
        desk.gates = {"a": asyncio.Event()}
        async with await Client.connect(store_url) as client:
            for times in (1, 2):
                async with Worker(
                    client, task_queue=QUEUE, workflows=[Both], activities=[desk.serve, fails_once]
                ):
                    if times == 1:
                        await client.start_workflow(Both.run, id="w", task_queue=QUEUE)

                    await eventually(lambda n=times: len(desk.began) == n, "it to begin")

            desk.gates["a"].set()
            async with Worker(
                client, task_queue=QUEUE, workflows=[Both], activities=[desk.serve, fails_once]
            ):
                handle = client.get_workflow_handle("w")
                assert await handle.result() == ["a served", "mended"]
                timeline = (await handle.fetch_history()).timeline()

            return {e.name: [a.outcome for a in e.attempts] for e in timeline if e.attempts}

    assert asyncio.run(main()) == {
        "serve": ["cancelled", "cancelled", "completed"],
        "fails_once": ["failed", "completed"],
    }
