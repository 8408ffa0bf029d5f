"""Children that cannot be started, and code that starts others on replay than it once did."""

from __future__ import annotations

import asyncio

import pytest
from durable_core import workflow
from durable_core.common import WorkflowIDReusePolicy
from durable_core.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    NonDeterminismError,
    NotInWorkflowError,
    WorkflowAlreadyStartedError,
    WorkflowFailureError,
    WorkflowStalledError,
)
from durable_core.worker import Replayer
from support.talking import Inbox, begin, working

LARGE = "x" * 100_000
# Whether an activity fails.
broken = [True]


@workflow.defn
async def double(value: list[str]) -> list[str]:
    await asyncio.sleep(0.001)
    return value * 2


@workflow.defn
async def fails(text: str) -> None:
    raise ApplicationError(text)


@workflow.defn
async def for_ever(depth: int) -> int:
    return await workflow.execute_child_workflow(for_ever, depth + 1, id=f"deep-{depth}")


CODE = [Inbox, double, fails, for_ever]


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""
    return lambda url, *code: working(
        url, workflows=[*CODE, *code], max_cached_workflows=request.param
    )


def test_an_id_in_use_is_an_error_that_can_be_caught_and_the_other_run_is_untouched(url, serving):
    @workflow.defn
    async def collides(caught: bool, reuse: int) -> str:
        try:
            await workflow.start_child_workflow(
                double, ["a"], id="inbox", id_reuse_policy=WorkflowIDReusePolicy(reuse)
            )
        except WorkflowAlreadyStartedError as error:
            if caught:
                return f"{error.workflow_id}: {error}"

            raise

        return "started"

    async def main():
        async with serving(url, collides) as client:
            inbox = await begin(client, Inbox.run, "ann", id="inbox")
            said = "inbox: no child 'inbox' was started: the workflow id 'inbox' is in use"
            assert await (await begin(client, collides, True, 1, id="a")).result() == said
            # Not caught it fails the run, and is no bug of its code.
            with pytest.raises(WorkflowFailureError, match="no child 'inbox' was started"):
                await (await begin(client, collides, False, 1, id="b")).result()

            await inbox.signal(Inbox.end)
            assert await inbox.result() == []
            # It is free now, unless what has ended counts, too.
            assert await (await begin(client, collides, True, 2, id="c")).result() == said
            assert await (await begin(client, collides, True, 3, id="d")).result() == said
            assert await (await begin(client, collides, True, 1, id="e")).result() == "started"

    asyncio.run(main())


def test_children_that_start_each_other_for_ever_come_to_an_end(store_url, monkeypatch):
    monkeypatch.setattr("durable_core._defaults.CHILD_DEPTH", 5)

    async def main():
        async with working(store_url, workflows=CODE) as client:
            with pytest.raises(WorkflowFailureError, match="is a child of a child, 5 times") as e:
                await (await begin(client, for_ever, 0, id="p")).result()

            error = e.value.cause
            for _ in range(5):
                assert isinstance(error, ChildWorkflowError)
                error = error.cause

            assert error.type == "ChildDepthError"

    asyncio.run(main())


def test_a_child_with_the_id_of_its_parent_is_refused(store_url):
    @workflow.defn
    async def itself() -> None:
        await workflow.execute_child_workflow(itself, id=workflow.info().workflow_id)

    async def main():
        async with working(store_url, workflows=[itself]) as client:
            with pytest.raises(WorkflowFailureError, match="the workflow id 'p' is in use"):
                await (await begin(client, itself, id="p")).result()

    asyncio.run(main())


def test_wrong_calls_say_what_is_wrong_and_start_nothing(store_url):
    @workflow.defn
    async def wrong(what: str) -> None:
        match what:
            case "count":
                await workflow.execute_child_workflow(double, args=[1, 2])
            case "id":
                await workflow.execute_child_workflow(double, ["a"], id="")
            case "value":
                await workflow.execute_child_workflow(double, [object()])
            case "code":
                await workflow.execute_child_workflow(print, "a")
            case _:
                await workflow.execute_child_workflow(double, ["a"], parent_close_policy=7)

    async def main():
        async with working(store_url, workflows=[wrong, double]) as client:
            for what, said in [
                ("count", "workflow 'double' takes 1 argument"),
                ("id", "a workflow id has 1 to 1000 characters, got ''"),
                ("value", "the input of workflow 'double'"),
                ("code", "is no workflow"),
                ("policy", "7 is not a valid ParentClosePolicy"),
            ]:
                handle = await begin(client, wrong, what, id=what)
                with pytest.raises(WorkflowStalledError, match=said):
                    await handle.result(on_stall="raise")

            assert [r async for r in client.list_workflows() if r.workflow_type == "double"] == []

    asyncio.run(main())
    with pytest.raises(NotInWorkflowError):
        asyncio.run(workflow.execute_child_workflow(double, ["a"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("argument", r"child 'double' id 'a' #1 with other arguments.*differ at \$\[0\]"),
        ("type", r"recorded child 'double' id 'a' #1, got child 'fails' id 'a' #1"),
        ("id", r"got child 'double' id 'b' #1"),
        ("none", r"got child 'double' #1"),
        ("nothing", r"recorded child 'double' id 'a' #1, got nothing more"),
    ],
)
def test_code_that_starts_something_else_on_replay_is_found(store_url, change, said):
    now = "same"

    @workflow.defn(name="changing")
    async def changing() -> None:
        if now == "nothing":
            await workflow.wait_condition(lambda: False)

        id_ = {"id": "b", "none": None}.get(now, "a")
        child = "fails" if now == "type" else double
        await workflow.execute_child_workflow(child, [now[:1]], id=id_)

    async def main():
        nonlocal now
        async with working(store_url, workflows=[double, changing]) as client:
            handle = await begin(client, changing, id="changing")
            await handle.result()
            recorded = await handle.fetch_history()

        replayer = Replayer(workflows=[changing])
        await replayer.replay_workflow(recorded)
        now = change
        with pytest.raises(NonDeterminismError, match=said):
            await replayer.replay_workflow(recorded)

    asyncio.run(main())
