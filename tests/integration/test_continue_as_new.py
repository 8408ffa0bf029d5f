"""Runs that go on as new ones: one commit, nothing lost, one result."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid

import pytest
from durable_core import Client, embedded, workflow
from durable_core.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    NotInWorkflowError,
    RequestClosedError,
    WorkflowContinuedAsNewError,
    WorkflowNotFoundError,
    WorkflowStalledError,
)
from durable_core.worker import Replayer
from durable_core.workflow import ParentClosePolicy
from support.talking import QUEUE, Inbox, begin, note, working

LARGE = "x" * 100_000


@workflow.defn
async def countdown(number: int, seen: list[str]) -> list[str]:
    info = workflow.info()
    if seen and info.continued_run_id is not None:
        assert info.continued_run_id == seen[-1]

    await asyncio.sleep(0.001)
    if number:
        workflow.continue_as_new(args=[number - 1, [*seen, info.run_id]])

    return [*seen, info.run_id]


@workflow.defn
class Chain:
    """Keeps numbers, and goes on as a new run after every few of them."""

    @workflow.init
    def __init__(self, every: int, got: list[int]) -> None:
        self.every = every
        self.got = got
        self.had = len(got)
        self.ends = False

    @workflow.run
    async def run(self, every: int, got: list[int]) -> list[int]:
        await workflow.wait_condition(lambda: self.ends or len(self.got) - self.had >= self.every)
        if self.ends:
            return self.got

        workflow.continue_as_new(args=[every, self.got])

    @workflow.signal
    def put(self, number: int, ballast: str) -> None:
        self.got.append(number)

    @workflow.update
    def add(self, number: int, ballast: str) -> int:
        self.got.append(number)
        return number

    @workflow.signal
    def end(self) -> None:
        self.ends = True

    @workflow.query
    def count(self) -> int:
        return len(self.got)


@workflow.defn
async def swallows() -> str:
    try:
        workflow.continue_as_new(workflow=countdown, args=[1, []])
    except Exception:
        return "swallowed"


@workflow.defn
async def becomes(child: bool) -> list[str]:
    if child:
        return await workflow.execute_child_workflow(countdown, args=[3, []], id="child")

    workflow.continue_as_new(workflow=swallows, args=[])


@workflow.defn
async def fails_later(number: int) -> None:
    if number:
        workflow.continue_as_new(number - 1)

    raise ApplicationError("at last")


@workflow.defn
async def has_failing_child() -> str:
    try:
        await workflow.execute_child_workflow(fails_later, 2, id="child")
    except ChildWorkflowError as error:
        return str(error.cause)

    return "none"


@workflow.defn
async def suggested(number: int) -> int:
    info = workflow.info()
    while not info.is_continue_as_new_suggested():
        await asyncio.sleep(0.001)

    if number:
        workflow.continue_as_new(number - 1)

    return info.get_current_history_length()


CODE = [countdown, Chain, swallows, becomes, fails_later, has_failing_child, suggested, Inbox]


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""
    return lambda url, *code: working(
        url, workflows=[*CODE, *code], activities=[note], max_cached_workflows=request.param
    )


def test_the_result_of_a_run_is_that_of_the_last_of_its_chain(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, countdown, 3, [])
            runs = await handle.result()
            assert len(set(runs)) == 4
            assert runs == sorted(runs)
            assert runs[0] == handle.run_id
            # Also for whoever looks later, at the first run, or at any.
            again = client.get_workflow_handle("w", run_id=runs[0])
            assert await again.result() == runs
            assert await client.get_workflow_handle("w").result() == runs
            assert (await again.describe()).status.value == "continued_as_new"
            with pytest.raises(WorkflowContinuedAsNewError) as raised:
                await again.result(follow_runs=False)

            assert raised.value.new_execution_run_id == runs[1]
            for run_id in runs:
                recorded = await client.get_workflow_handle("w", run_id=run_id).fetch_history()
                await Replayer(workflows=CODE).replay_workflow(recorded)

            closed = (await again.fetch_history()).timeline()[-1]
            assert (closed.kind, closed.status, closed.key) == (
                "closed",
                "continued as new",
                runs[1],
            )
            statuses = {r.run_id: r.status.value async for r in client.list_workflows()}
            assert statuses == {**dict.fromkeys(runs, "continued_as_new"), runs[3]: "completed"}

    asyncio.run(main())


def test_a_run_may_go_on_as_one_of_another_workflow_and_no_except_stops_it(url, serving):
    async def main():
        async with serving(url) as client:
            assert len(await (await begin(client, becomes, False)).result()) == 2

    asyncio.run(main())


def test_a_parent_waits_for_the_last_run_of_its_childs_chain(url, serving):
    async def main():
        async with serving(url) as client:
            assert len(await (await begin(client, becomes, True)).result()) == 4
            assert await (await begin(client, has_failing_child, id="f")).result() == "at last"

    asyncio.run(main())


def test_children_end_as_their_policies_say_when_their_parent_goes_on_as_a_new_run(url, serving):
    @workflow.defn
    async def leaves(children: list[str]) -> str:
        if children:
            return "done"

        for policy in (ParentClosePolicy.TERMINATE, ParentClosePolicy.ABANDON):
            await workflow.start_child_workflow(
                Inbox.run, "me", id=policy.name, parent_close_policy=policy
            )

        workflow.continue_as_new(["TERMINATE", "ABANDON"])

    async def main():
        async with serving(url, leaves) as client:
            assert await (await begin(client, leaves, [])).result() == "done"
            found = client.get_workflow_handle("TERMINATE")
            assert (await found.describe()).status.value == "terminated"
            found = client.get_workflow_handle("ABANDON")
            await found.signal(Inbox.end)
            assert await found.result() == []

    asyncio.run(main())


def test_an_abandoned_child_tells_no_later_run_of_its_parents_chain(url, serving):
    """Whose commands have the same numbers."""

    @workflow.defn
    async def leaves(again: bool) -> list[str]:
        if again:
            abandon = ParentClosePolicy.ABANDON
            await workflow.start_child_workflow(
                Inbox.run, "me", id="inbox", parent_close_policy=abandon
            )
            workflow.continue_as_new(False)

        inbox = workflow.get_external_workflow_handle("inbox")
        child = await workflow.start_child_workflow(countdown, args=[0, ["x"]], id="child")
        await inbox.signal(Inbox.end)
        await asyncio.sleep(0.05)
        return await child

    async def main():
        async with serving(url, leaves) as client:
            assert (await (await begin(client, leaves, True)).result())[0] == "x"
            assert await client.get_workflow_handle("inbox").result() == []

    asyncio.run(main())


def test_a_long_history_suggests_it(store_url, serving, monkeypatch):
    monkeypatch.setattr("durable_core._defaults.HISTORY_SUGGESTED", 10)

    async def main():
        async with serving(store_url) as client:
            assert await (await begin(client, suggested, 2)).result() == 10
            lengths = [r.history_length async for r in client.list_workflows()]
            assert lengths == [10, 10, 10]

    asyncio.run(main())


@pytest.mark.parametrize("where", ["near", "far", "memory"])
@pytest.mark.parametrize("pinned", [False, True])
def test_what_is_sent_around_a_continuation_is_handled_once_and_in_order(
    store_url, where, pinned, serving
):
    """Signals and updates of three senders, small and large, to a run that goes on every three."""
    url = f"memory://{uuid.uuid4()}" if where == "memory" else store_url
    seed = random.randrange(2**32)
    choose = random.Random(seed)
    print(f"seed {seed}")

    async def send(handle, first):
        for number in range(first, first + 20):
            ballast = LARGE if choose.random() < 0.1 else ""
            if choose.random() < 0.7:
                await handle.signal(Chain.put, args=[number, ballast])
            else:
                assert await handle.execute_update(Chain.add, args=[number, ballast]) == number

            if choose.random() < 0.5:
                await asyncio.sleep(choose.uniform(0, 0.01))

    async def main():
        async with serving(url) as near, await Client.connect(url) as far:
            first = await begin(near, Chain.run, 3, [])
            client = far if where == "far" else near
            run_id = first.run_id if pinned else None
            handle = client.get_workflow_handle("w", run_id=run_id)
            await asyncio.gather(*(send(handle, 100 * n) for n in range(3)))
            await handle.signal(Chain.end)
            got = await first.result()
            for n in range(3):
                mine = [g for g in got if g // 100 == n]
                assert mine == list(range(100 * n, 100 * n + 20)), seed

            # A run takes all that is there before it goes on.
            assert len([r async for r in near.list_workflows()]) > 3
            assert await handle.query(Chain.count) == 60

    asyncio.run(main())


def test_runs_from_plain_code_go_on_as_new_ones(store_url):
    async def main():
        runs = await embedded.execute_workflow(countdown, args=[3, []], id="w", url=store_url)
        assert len(set(runs)) == 4
        assert (
            await embedded.execute_workflow(countdown, args=[3, []], id="w", url=store_url) == runs
        )
        with pytest.raises(Exception, match="belongs to a run with other input"):
            await embedded.execute_workflow(countdown, args=[2, []], id="w", url=store_url)

    asyncio.run(main())


def test_a_handler_may_let_its_run_go_on_as_a_new_one(url, serving):
    @workflow.defn
    class Told:
        @workflow.run
        async def run(self, ends: bool) -> str:
            await workflow.wait_condition(lambda: ends)
            return "ended"

        @workflow.signal
        async def go_on(self) -> None:
            workflow.continue_as_new(True)

    async def main():
        async with serving(url, Told) as client:
            handle = await begin(client, Told.run, False)
            await handle.signal(Told.go_on)
            assert await handle.result() == "ended"

    asyncio.run(main())


# Bad input


def test_wrong_calls_say_what_is_wrong_and_the_run_is_kept(store_url):
    @workflow.defn
    async def wrong(what: str) -> None:
        match what:
            case "count":
                workflow.continue_as_new(args=[1, 2])
            case "value":
                workflow.continue_as_new(object())
            case "code":
                workflow.continue_as_new("a", workflow=print)
            case _:
                workflow.continue_as_new("a", args=["b"])

    async def main():
        async with working(store_url, workflows=[wrong]) as client:
            for what, said in [
                ("count", "workflow 'wrong' takes 1 argument"),
                ("value", "the input of workflow 'wrong'"),
                ("code", "is no workflow"),
                ("both", "one argument positionally or several"),
            ]:
                handle = await begin(client, wrong, what, id=what)
                with pytest.raises(WorkflowStalledError, match=said):
                    await handle.result(on_stall="raise")

    asyncio.run(main())
    with pytest.raises(NotInWorkflowError):
        workflow.continue_as_new()


def test_what_is_sent_to_a_chain_that_has_ended_is_refused(store_url, serving):
    async def main():
        async with serving(store_url) as client:
            handle = await begin(client, Chain.run, 1, [])
            await handle.signal(Chain.put, args=[1, ""])
            await handle.signal(Chain.end)
            assert await handle.result() == [1]
            pinned = client.get_workflow_handle("w", run_id=handle.run_id)
            for found in (handle, pinned):
                with pytest.raises(WorkflowNotFoundError, match=r"has ended \(completed\)"):
                    await found.signal(Chain.put, args=[2, ""])

                with pytest.raises(WorkflowNotFoundError, match=r"has ended \(completed\)"):
                    await found.terminate()

    asyncio.run(main())


def test_an_answer_that_was_accepted_is_read_before_a_run_goes_on(store_url):
    """Somebody answers while the run goes on: he is refused, or the run has his answer."""

    @workflow.defn
    class Asks:
        def __init__(self) -> None:
            self.go = False

        @workflow.run
        async def run(self, answers: list[str], left: int) -> list[str]:
            asking = asyncio.ensure_future(workflow.request("name", "who?", answer_type=str))
            await workflow.wait_condition(lambda: self.go or asking.done())
            if asking.done():
                answers = [*answers, asking.result().value]

            if left:
                workflow.continue_as_new(args=[answers, left - 1])

            return answers

        @workflow.signal
        def go_on(self) -> None:
            self.go = True

    async def main():
        accepted = refused = 0
        async with (
            working(store_url, workflows=[Asks]) as near,
            await Client.connect(store_url) as far,
        ):
            for n in range(6):
                handle = await begin(near, Asks.run, [], 1, id=f"w{n}")
                there = far.get_workflow_handle(f"w{n}", run_id=handle.run_id)
                while not await there.requests():
                    await asyncio.sleep(0.001)

                (request,) = await there.requests()
                answering = asyncio.ensure_future(far.answer(request, "ann", by="ann"))
                await asyncio.sleep(0.002 * n)
                await handle.signal(Asks.go_on)
                try:
                    await answering
                except RequestClosedError:
                    refused += 1
                    expected = []
                else:
                    accepted += 1
                    expected = ["ann"]

                while (await near.get_workflow_handle(f"w{n}").describe()).run_id == handle.run_id:
                    await asyncio.sleep(0.001)

                # The first may have come to the run that took its place.
                with contextlib.suppress(WorkflowNotFoundError):
                    await near.get_workflow_handle(f"w{n}").signal(Asks.go_on)

                assert await handle.result() == expected

        assert accepted

    asyncio.run(main())


@workflow.defn
async def hops(left: int) -> str:
    await asyncio.sleep(0.01)
    if left:
        workflow.continue_as_new(left - 1)

    return "landed"


@pytest.mark.parametrize("what", ["terminate", "pause"])
def test_what_ends_or_stops_a_chain_follows_a_run_that_goes_on_meanwhile(url, what):
    async def main():
        async with working(url, workflows=[hops]) as client:
            await begin(client, hops, 500)
            handle = client.get_workflow_handle("w")
            look = handle._row

            async def late():
                """Look, and be slow to act on it."""
                row = await look()
                while (await client.store.find("default", "", row.run_id)).status == "running":
                    await asyncio.sleep(0.001)

                handle._row = look
                return row

            handle._row = late
            await (handle.terminate() if what == "terminate" else handle.pause())
            shown = await handle.describe()
            assert shown.status.value == ("terminated" if what == "terminate" else "running")
            assert (shown.paused is not None) == (what == "pause")

    asyncio.run(main())


def test_a_run_that_goes_on_while_it_is_paused_stays_paused(url):
    async def main():
        async with working(url, workflows=[hops]) as client, await Client.connect(url) as far:
            for n in range(5):
                await begin(client, hops, 500, id=f"w{n}")
                handle = far.get_workflow_handle(f"w{n}")
                await asyncio.sleep(0.011 * n)
                await handle.pause()
                await asyncio.sleep(0.05)
                before = await handle.describe()
                await asyncio.sleep(0.05)
                assert await handle.describe() == before
                await handle.terminate()

    asyncio.run(main())


def test_a_handle_on_the_first_run_of_a_chain_works_though_that_was_purged(url):
    async def main():
        async with working(url, workflows=[Chain, countdown]) as client:
            handle = await begin(client, Chain.run, 1, [])
            await handle.signal(Chain.put, args=[1, ""])
            while (await client.get_workflow_handle("w").describe()).run_id == handle.run_id:
                await asyncio.sleep(0.005)

            assert await client.store.purge("default", QUEUE, client.clock.now(), limit=9) == 1
            await handle.signal(Chain.end)
            assert await handle.result() == [1]

    asyncio.run(main())


def test_it_may_be_called_inside_a_task_group(url, serving):
    @workflow.defn
    async def grouped(left: int) -> str:
        async def inner() -> None:
            await asyncio.sleep(0.001)
            if left:
                workflow.continue_as_new(left - 1)

        async with asyncio.TaskGroup() as group:
            group.create_task(inner())
            group.create_task(asyncio.sleep(60 if left else 0))

        return "done"

    async def main():
        async with serving(url, grouped) as client:
            assert await (await begin(client, grouped, 2)).result() == "done"

    asyncio.run(main())


def test_a_chain_of_plain_code_goes_on_as_another_workflow_in_a_later_loop(store_url):
    """Whose worker has not run the code that named it."""

    @workflow.defn(name="second of a chain")
    async def second() -> str:
        await asyncio.sleep(0.5)
        return "second"

    @workflow.defn(name="first of a chain")
    async def first() -> str:
        workflow.continue_as_new(workflow=second)

    @workflow.defn(name="parent of a chain")
    async def holds() -> str:
        return await workflow.execute_child_workflow(first, id="child of a chain")

    for code in (first, holds):
        call = embedded.execute_workflow(code, id=code.__name__, url=store_url, on_cancel="detach")

        async def cut_off(call=call):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(call, 0.3)

        asyncio.run(cut_off())
        again = embedded.execute_workflow(code, id=code.__name__, url=store_url)
        assert asyncio.run(asyncio.wait_for(again, 20)) == "second"
