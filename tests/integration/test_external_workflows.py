"""Runs that talk to other runs: signals and requests to end, committed with the step that sends them."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from durable_core import Client, Worker, workflow
from durable_core.exceptions import (
    ApplicationError,
    NonDeterminismError,
    NotInWorkflowError,
    WorkflowFailureError,
    WorkflowStalledError,
)
from durable_core.worker import Replayer
from support.talking import Inbox, Note, begin, both, working

LARGE = "x" * 100_000


@workflow.defn
async def tell(to: str, texts: list[str]) -> str:
    handle = workflow.get_external_workflow_handle_for(Inbox, to)
    for text in texts:
        await handle.signal(Inbox.take, Note(text))

    await handle.signal("end")
    return "told"


@workflow.defn
async def tell_by_run(to: str, run_id: str) -> str:
    try:
        await workflow.get_external_workflow_handle(to, run_id=run_id).signal("end")
    except ApplicationError as error:
        return f"{error.type}: {error}"

    return "told"


@workflow.defn
async def leave(to: str) -> str:
    """End in the very step that tells another run."""
    handle = workflow.get_external_workflow_handle(to)
    telling = [
        asyncio.ensure_future(handle.signal("take", {"text": "bye"})),
        asyncio.ensure_future(handle.signal("end")),
    ]
    await asyncio.sleep(0)
    return f"left {len(telling)}"


@workflow.defn
async def give_up(to: str) -> str:
    """Wait for no answer."""
    handle = workflow.get_external_workflow_handle(to)
    telling = asyncio.ensure_future(handle.signal("end"))
    await asyncio.sleep(0)
    telling.cancel()
    try:
        await telling
    except asyncio.CancelledError:
        await asyncio.sleep(0.01)
        return "given up"

    return "told"


@workflow.defn
async def stop(to: str, reason: str) -> str:
    await workflow.get_external_workflow_handle(to).cancel(reason=reason)
    return "asked"


@workflow.defn
class Echo:
    """Tells itself."""

    def __init__(self) -> None:
        self.heard = ""

    @workflow.run
    async def run(self) -> str:
        me = workflow.get_external_workflow_handle(workflow.info().workflow_id)
        await me.signal(Echo.hear, "myself")
        await workflow.wait_condition(lambda: bool(self.heard))
        return self.heard

    @workflow.signal
    def hear(self, text: str) -> None:
        self.heard = text


@workflow.defn
async def many(to: str, count: int) -> int:
    """Tell it all at once."""
    handle = workflow.get_external_workflow_handle_for(Inbox, to)
    await asyncio.gather(*(handle.signal(Inbox.take, Note(str(n), n)) for n in range(count)))
    await handle.signal(Inbox.end)
    return count


CODE = [Inbox, tell, tell_by_run, leave, give_up, stop, Echo, many]


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""
    return lambda url: working(url, workflows=CODE, max_cached_workflows=request.param)


def test_a_run_tells_another_one_in_order_whatever_the_size(url, serving):
    async def main():
        async with serving(url) as client:
            inbox = await begin(client, Inbox.run, "ann", id="inbox")
            teller = await begin(client, tell, "inbox", ["a", LARGE, "c"], id="teller")
            assert await teller.result() == "told"
            assert [n.text for n in await inbox.result()] == ["a", LARGE, "c"]
            heard = [e for e in (await inbox.fetch_history()).timeline() if e.kind == "signal"]
            assert {e.detail for e in heard} == {"from run teller"}
            said = [e for e in (await teller.fetch_history()).timeline() if e.kind == "told"]
            assert [(e.name, e.key, e.status) for e in said] == [
                *[("take", "inbox", "delivered")] * 3,
                ("end", "inbox", "delivered"),
            ]
            await Replayer(workflows=CODE).replay_workflow(await teller.fetch_history())

    asyncio.run(main())


def test_runs_of_two_workers_on_one_file_talk_to_each_other(store_url):
    async def main():
        async with (
            both(store_url) as (near, far),
            Worker(far, task_queue="other", workflows=CODE),
        ):
            inbox = await begin(near, Inbox.run, "ann", id="inbox")
            teller = await far.start_workflow(
                many, args=["inbox", 200], id="teller", task_queue="other"
            )
            assert await teller.result() == 200
            assert [n.size for n in await inbox.result()] == list(range(200))

    asyncio.run(main())


@pytest.mark.parametrize("code", [leave, give_up])
def test_who_waits_for_no_answer_has_told_it_all_the_same(url, code, serving):
    async def main():
        async with serving(url) as client:
            inbox = await begin(client, Inbox.run, "ann", id="inbox")
            teller = await begin(client, code, "inbox", id="teller")
            assert await teller.result() == ("left 2" if code is leave else "given up")
            assert [n.text for n in await inbox.result()] == ["bye"] * (code is leave)

    asyncio.run(main())


def test_a_run_that_does_not_exist_or_has_ended_is_an_error_that_can_be_caught(url, serving):
    async def main():
        async with serving(url) as client:
            inbox = await begin(client, Inbox.run, "ann", id="inbox")
            first = (await inbox.describe()).run_id
            handle = await begin(client, tell_by_run, "inbox", "another run", id="a")
            assert await handle.result() == (
                "WorkflowNotFoundError: run 'inbox' could not take the signal 'end': there is no "
                "such run, or it has ended"
            )
            handle = await begin(client, tell_by_run, "inbox", first, id="b")
            assert await handle.result() == "told"
            await inbox.result()
            handle = await begin(client, tell_by_run, "inbox", first, id="c")
            assert (await handle.result()).startswith("WorkflowNotFoundError: run 'inbox'")
            missed = [e for e in (await handle.fetch_history()).timeline() if e.kind == "told"]
            assert [(e.status, e.detail) for e in missed] == [
                ("failed", "there is no such run, or it has ended")
            ]
            with pytest.raises(WorkflowFailureError, match="could not take") as raised:
                await (await begin(client, tell, "nobody", ["a"], id="d")).result()

            assert raised.value.cause.type == "WorkflowNotFoundError"
            with pytest.raises(WorkflowFailureError, match="'nobody' could not be cancelled"):
                await (await begin(client, stop, "nobody", "why", id="e")).result()

    asyncio.run(main())


def test_a_run_asks_another_one_to_end_and_says_why(url, serving):
    async def main():
        async with serving(url) as client:
            inbox = await begin(client, Inbox.run, "ann", id="inbox")
            assert await (await begin(client, stop, "inbox", "enough", id="s")).result() == "asked"
            with pytest.raises(WorkflowFailureError, match="canceled"):
                await inbox.result()

            entries = (await inbox.fetch_history()).timeline()
            assert [e.detail for e in entries if e.kind == "cancel"] == ["by run s: enough"]

    asyncio.run(main())


def test_a_run_may_tell_itself(url, serving):
    async def main():
        async with serving(url) as client:
            assert await (await begin(client, Echo.run)).result() == "myself"

    asyncio.run(main())


def test_a_run_that_nobody_has_in_memory_is_told(store_url, serving):
    async def main():
        async with await Client.connect(store_url) as client:
            await begin(client, Inbox.run, "ann", id="inbox")
            async with Worker(client, task_queue="other", workflows=[tell]):
                teller = await client.start_workflow(
                    tell, args=["inbox", ["a"]], id="teller", task_queue="other"
                )
                assert await teller.result() == "told"

            async with serving(store_url) as worker:
                inbox = worker.get_workflow_handle("inbox")
                assert await inbox.result() == [{"text": "a", "size": 0}]

    asyncio.run(main())


@workflow.defn
async def tell_on(to: str, first: int, count: int) -> list[list[int]]:
    """Tell it numbers whatever becomes of that; return which it has, and which not."""
    handle = workflow.get_external_workflow_handle(to)
    told: list[list[int]] = [[], []]
    for n in range(first, first + count):
        try:
            await handle.signal("take", n)
        except ApplicationError:
            told[1].append(n)
        else:
            told[0].append(n)

        # Now and then long enough for the other one to end.
        await asyncio.sleep(workflow.random().uniform(0, 0.1))

    return told


@workflow.defn
class Until:
    """Ends as soon as it has so many numbers, or a few more that came with the last one."""

    def __init__(self) -> None:
        self.got: list[int] = []

    @workflow.run
    async def run(self, enough: int) -> list[int]:
        await workflow.wait_condition(lambda: len(self.got) >= enough)
        return self.got

    @workflow.signal
    def take(self, number: int) -> None:
        self.got.append(number)


@pytest.mark.parametrize("where", ["near", "far", "memory"])
def test_what_is_told_around_the_end_of_a_run_is_handled_or_refused_and_never_lost(
    store_url, where
):
    """Four runs tell a fifth one numbers, which ends after a few of them, again and again."""
    url = f"memory://{uuid.uuid4()}" if where == "memory" else store_url

    async def main():
        refused = 0
        async with (
            working(url, workflows=[Until]) as near,
            await Client.connect(url) as far,
            Worker(far if where == "far" else near, task_queue="other", workflows=[tell_on]),
        ):
            for enough in (1, 5, 12):
                until = await begin(near, Until.run, enough, id=f"until-{enough}")
                tellers = [
                    await far.start_workflow(
                        tell_on,
                        args=[f"until-{enough}", 100 * n, 8],
                        id=f"teller-{enough}-{n}",
                        task_queue="other",
                    )
                    for n in range(4)
                ]
                got = await until.result()
                results = [await teller.result() for teller in tellers]
                assert sorted(got) == sorted(n for has, _ in results for n in has)
                for n, (has, has_not) in enumerate(results):
                    mine = list(range(100 * n, 100 * n + 8))
                    assert has + has_not == mine
                    assert [g for g in got if g in mine] == has
                    refused += len(has_not)

        return refused

    assert asyncio.run(main()) > 10


# Bad input


@workflow.defn
async def wrong_count(to: str) -> None:
    await workflow.get_external_workflow_handle(to).signal(Inbox.take)


@workflow.defn
async def no_id() -> None:
    workflow.get_external_workflow_handle("")


@workflow.defn
async def no_name(to: str) -> None:
    await workflow.get_external_workflow_handle(to).signal("")


def test_wrong_calls_say_what_is_wrong_and_send_nothing(store_url):
    async def main():
        async with working(store_url, workflows=[Inbox, wrong_count, no_id, no_name]) as client:
            inbox = await begin(client, Inbox.run, "ann", id="inbox")
            for code, args, said in [
                (wrong_count, ["inbox"], "signal 'take' takes 1 argument"),
                (no_id, [], "a workflow id must not be empty"),
                (no_name, ["inbox"], "the name of a signal must not be empty"),
            ]:
                handle = await begin(client, code, *args, id=code.__name__)
                with pytest.raises(WorkflowStalledError, match=said):
                    await handle.result(on_stall="raise")

            await inbox.signal("end")
            assert await inbox.result() == []

    asyncio.run(main())
    with pytest.raises(NotInWorkflowError):
        workflow.get_external_workflow_handle("a")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("argument", r"signal 'take' to run 'inbox' #1 with other arguments.*differ at \$\[0\]"),
        ("name", r"got signal 'put' to run 'inbox' #1"),
        ("run", r"got signal 'take' to run 'other' #1"),
        ("cancel", r"got cancellation of run 'inbox' #1"),
        ("nothing", r"recorded signal 'take' to run 'inbox' #1, got nothing more"),
    ],
)
def test_code_that_tells_something_else_on_replay_is_found(store_url, change, said):
    now = "same"

    @workflow.defn(name="changing")
    async def changing() -> None:
        to = "other" if now == "run" else "inbox"
        handle = workflow.get_external_workflow_handle(to)
        if now == "cancel":
            await handle.cancel()
        elif now == "nothing":
            await workflow.wait_condition(lambda: False)
        else:
            await handle.signal("put" if now == "name" else "take", {"text": now[:1]})

    async def main():
        nonlocal now
        async with working(store_url, workflows=[Inbox, changing]) as client:
            await begin(client, Inbox.run, "ann", id="inbox")
            handle = await begin(client, changing, id="changing")
            await handle.result()
            recorded = await handle.fetch_history()

        replayer = Replayer(workflows=[changing])
        await replayer.replay_workflow(recorded)
        now = change
        with pytest.raises(NonDeterminismError, match=said):
            await replayer.replay_workflow(recorded)

    asyncio.run(main())
