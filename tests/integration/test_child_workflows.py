"""Runs that start other runs and wait for them: created, told and ended in their parents' commits."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import pytest
from durable_core import Client, Worker, activity, workflow
from durable_core.exceptions import (
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    TerminatedError,
    WorkflowFailureError,
    WorkflowNotFoundError,
)
from durable_core.worker import Replayer
from durable_core.workflow import ChildWorkflowCancellationType as Cancel
from durable_core.workflow import ParentClosePolicy
from support.talking import QUEUE, Inbox, Note, begin, both, note, ran, working

LARGE = "x" * 100_000
# Whether an activity fails.
broken = [True]


@workflow.defn
async def double(value: list[str]) -> list[str]:
    await asyncio.sleep(0.001)
    return value * 2


@workflow.defn(name="child that fails")
async def fails(text: str) -> None:
    await note(f"fails {text}")
    raise ApplicationError(text, "detail", type="Wrong")


@activity.defn
async def fragile() -> str:
    ran.append("fragile")
    if broken[0]:
        raise ApplicationError("broken", non_retryable=True)

    return "mended"


@workflow.defn
async def mendable() -> str:
    await note("before")
    return await fragile()


@workflow.defn
async def parent(child: str, args: list[object], count: int = 1) -> list[object]:
    results = await asyncio.gather(
        *(workflow.execute_child_workflow(child, args=args) for _ in range(count))
    )
    return list(results)


@workflow.defn
async def typed() -> list[str]:
    info = workflow.info()
    child = await workflow.start_child_workflow(who, id=f"{info.workflow_id}/who")
    assert child.id == f"{info.workflow_id}/who"
    facts = await child
    assert facts == [info.workflow_id, info.run_id, child.first_execution_run_id or ""]
    return await workflow.execute_child_workflow(double, [LARGE])


@workflow.defn
async def who() -> list[str]:
    own = workflow.info()
    assert own.parent is not None
    return [own.parent.workflow_id, own.parent.run_id, own.run_id]


@workflow.defn
async def talks(text: str) -> list[str]:
    child = await workflow.start_child_workflow(Inbox.run, "me", id="inbox")
    await child.signal(Inbox.take, Note(text))
    await child.signal("end")
    return [n.text for n in await child]


@workflow.defn
async def nested(depth: int) -> int:
    if not depth:
        return 0

    return 1 + await workflow.execute_child_workflow(nested, depth - 1)


CODE = [Inbox, double, fails, mendable, parent, typed, who, talks, nested]


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""
    return lambda url, *code: working(
        url,
        workflows=[*CODE, *code],
        activities=[note, fragile],
        max_cached_workflows=request.param,
    )


def test_children_return_what_they_were_given_whatever_the_size(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, typed, id="p")
            assert await handle.result() == [LARGE, LARGE]
            recorded = await handle.fetch_history()
            children = [e for e in recorded.timeline() if e.kind == "child"]
            assert [(e.name, e.status) for e in children] == [
                ("who", "completed"),
                ("double", "completed"),
            ]
            assert children[0].key == "p/who"
            assert str(uuid.UUID(children[1].key)) == children[1].key
            child = client.get_workflow_handle("p/who")
            assert (await child.describe()).workflow_type == "who"
            await Replayer(workflows=CODE).replay_workflow(recorded)
            await Replayer(workflows=CODE).replay_workflow(await child.fetch_history())

    asyncio.run(main())


def test_many_children_at_once_and_children_of_children(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, parent, "double", [["a"]], 50, id="p")
            assert await handle.result() == [["a", "a"]] * 50
            assert await (await begin(client, nested, 12, id="n")).result() == 12

    asyncio.run(main())


def test_the_children_of_one_worker_are_run_by_another(store_url):
    @workflow.defn
    async def far_parent() -> list[str]:
        return await workflow.execute_child_workflow("double", ["a"], task_queue="other")

    async def main():
        async with (
            both(store_url, workflows=[far_parent]) as (near, far),
            Worker(far, task_queue="other", workflows=[double]),
        ):
            assert await (await begin(near, far_parent, id="p")).result() == ["a", "a"]

    asyncio.run(main())


def test_a_parent_talks_to_its_child(url, serving):
    async def main():
        async with serving(url) as client:
            assert await (await begin(client, talks, "hi", id="p")).result() == ["hi"]

    asyncio.run(main())


def test_a_failed_child_fails_its_parent_and_says_why(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, parent, "child that fails", ["no"], id="p")
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()

            error = raised.value.cause
            assert isinstance(error, ChildWorkflowError)
            assert error.workflow_type == "child that fails"
            assert isinstance(error.cause, ApplicationError)
            assert (str(error.cause), error.cause.type) == ("no", "Wrong")
            assert error.cause.details == ("detail",)
            (child,) = [e for e in (await handle.fetch_history()).timeline() if e.kind == "child"]
            assert (child.status, child.key) == ("failed", error.workflow_id)
            assert child.failure.message == "no"

    asyncio.run(main())


def test_a_child_that_is_terminated_from_outside_fails_its_parent(url, serving):
    async def main():
        async with serving(url, waits_for_inbox) as client:
            handle = await begin(client, waits_for_inbox, "wait", id="p")
            child = await appeared(client, "inbox")
            await child.terminate(reason="enough")
            with pytest.raises(WorkflowFailureError) as raised:
                await handle.result()

            assert isinstance(raised.value.cause.cause, TerminatedError)
            assert str(raised.value.cause.cause) == "enough"

    asyncio.run(main())


async def appeared(client, workflow_id, least=1):
    """Return a handle on a run as soon as it has so many activations."""
    handle = client.get_workflow_handle(workflow_id)
    while True:
        with contextlib.suppress(WorkflowNotFoundError):
            if (await handle.describe()).history_length >= least:
                return handle

        await asyncio.sleep(0.01)


@workflow.defn
async def waits_for_inbox(then: str, policy: int = 1) -> str:
    child = await workflow.start_child_workflow(
        Inbox.run, "me", id="inbox", parent_close_policy=ParentClosePolicy(policy)
    )
    if then == "fail":
        raise ApplicationError("the parent failed")

    if then == "return":
        return "done"

    await child
    return "the child ended"


# What the end of a parent does to its children


@pytest.mark.parametrize("end", ["return", "fail", "terminate", "cancel"])
@pytest.mark.parametrize("policy", list(ParentClosePolicy))
def test_the_end_of_a_parent_does_to_its_children_what_their_policy_says(url, serving, end, policy):
    async def main():
        async with serving(url, waits_for_inbox) as client:
            then = end if end in {"return", "fail"} else "wait"
            handle = await begin(client, waits_for_inbox, then, int(policy), id="p")
            child = await appeared(client, "inbox")
            if end == "terminate":
                await handle.terminate(reason="enough")
            elif end == "cancel":
                await appeared(client, "p", 2)
                await handle.cancel()

            if end == "return":
                assert await handle.result() == "done"
            else:
                with pytest.raises(WorkflowFailureError):
                    await handle.result()

            if end == "cancel":
                # Its own request to end was told to the child.
                status = "canceled"
            else:
                status = {
                    ParentClosePolicy.ABANDON: "completed",
                    ParentClosePolicy.REQUEST_CANCEL: "canceled",
                }.get(policy, "terminated")

            if status == "completed":
                await child.signal(Inbox.end)
                assert await child.result() == []
                return

            with pytest.raises(WorkflowFailureError) as raised:
                await child.result()

            assert (await child.describe()).status.value == status
            if end != "cancel" and status == "canceled":
                asked = [e for e in (await child.fetch_history()).timeline() if e.kind == "cancel"]
                assert asked[0].detail == "by run p: its parent, run 'p', ended"
                # The others may not have begun by then.
                assert ran == ["cleaned up"] or end != "terminate"
            elif status == "terminated":
                assert str(raised.value.cause) == "its parent, run 'p', ended"

    asyncio.run(main())


def test_the_children_of_a_child_end_with_it(url, serving):
    @workflow.defn
    async def grandparent() -> None:
        await workflow.start_child_workflow(waits_for_inbox, args=["wait"], id="p")
        await workflow.wait_condition(lambda: False)

    async def main():
        async with serving(url, grandparent, waits_for_inbox) as client:
            handle = await begin(client, grandparent, id="g")
            await appeared(client, "inbox")
            await handle.terminate()
            for workflow_id in ("g", "p", "inbox"):
                found = client.get_workflow_handle(workflow_id)
                assert (await found.describe()).status.value == "terminated"

    asyncio.run(main())


# Cancelling


@workflow.defn
class Cancels:
    """Cancels its child by the await, or by the handle."""

    def __init__(self) -> None:
        self.go = False

    @workflow.run
    async def run(self, kind: int, how: str) -> list[str]:
        child = await workflow.start_child_workflow(
            Inbox.run,
            "me",
            id="inbox",
            cancellation_type=Cancel(kind),
            parent_close_policy=ParentClosePolicy.ABANDON,
        )
        await workflow.wait_condition(lambda: self.go)
        begun = workflow.now()
        try:
            if how == "await":
                async with asyncio.timeout(0.001):
                    await child
            else:
                child.cancel("enough")
                await child
        except TimeoutError:
            said = "timeout"
        except asyncio.CancelledError:
            said = "cancelled"
        except ChildWorkflowError as error:
            said = f"child: {type(error.cause).__name__}"
        else:
            said = "nothing"

        return [said, str(workflow.now() >= begun)]

    @workflow.signal
    def cancel_it(self) -> None:
        self.go = True


@pytest.mark.parametrize("how", ["await", "handle"])
@pytest.mark.parametrize("kind", list(Cancel))
def test_cancelling_a_child_does_what_its_cancellation_type_says(url, serving, kind, how):
    async def main():
        async with serving(url, Cancels) as client:
            handle = await begin(client, Cancels.run, int(kind), how, id="p")
            child = await appeared(client, "inbox")
            await handle.signal(Cancels.cancel_it)
            said, _ = await handle.result()
            waited = kind is Cancel.WAIT_CANCELLATION_COMPLETED
            if how == "await" and kind is Cancel.WAIT_CANCELLATION_REQUESTED:
                # The child may end in the very step in which it has the request.
                assert said in {"timeout", "child: CancelledError"}
            elif how == "await" and not waited:
                assert said == "timeout"
            else:
                assert said == "child: CancelledError"

            if kind is Cancel.ABANDON:
                await child.signal(Inbox.end)
                assert await child.result() == []
                return

            with pytest.raises(WorkflowFailureError) as raised:
                await child.result()

            assert isinstance(raised.value.cause, CancelledError)
            (asked,) = [e for e in (await child.fetch_history()).timeline() if e.kind == "cancel"]
            reason = ": enough" if how == "handle" else ""
            assert asked.detail == f"by run p{reason}"
            assert ran == ["cleaned up"]

    asyncio.run(main())


# Going on after a failure


@pytest.mark.parametrize("both_ended", [False, True])
def test_a_parent_that_is_taken_up_again_takes_up_its_failed_child(url, serving, both_ended):
    """The child goes on before its failure; what it had done is not done again."""

    async def main():
        async with serving(url) as client:
            broken[0] = True
            handle = await begin(client, parent, "mendable", [], id="p")
            with pytest.raises(WorkflowFailureError):
                await handle.result()

            (child,) = [e for e in (await handle.fetch_history()).timeline() if e.kind == "child"]
            broken[0] = False
            if both_ended:
                # The child first: its parent, which is closed, is not told how it ends.
                run = await client.store.find("default", child.key)
                await client.store.revive(run.run_id, reopen=True)
                client.changes.notify()
                assert await client.get_workflow_handle(child.key).result() == "mended"

            run = await client.store.find("default", "p")
            await client.store.revive(run.run_id, reopen=True)
            client.changes.notify()
            assert await handle.result() == ["mended"]
            assert ran == ["before", "fragile", "fragile"]
            await Replayer(workflows=CODE).replay_workflow(await handle.fetch_history())

    asyncio.run(main())


def test_children_that_ended_with_their_parent_go_on_with_it(url, serving):
    @workflow.defn
    async def waits_and_fails() -> list[str]:
        child = await workflow.start_child_workflow(Inbox.run, "me", id="inbox")
        await child.signal(Inbox.take, Note("kept"))
        await fragile()
        await child.signal(Inbox.end)
        return [n.text for n in await child]

    async def main():
        async with serving(url, waits_and_fails) as client:
            broken[0] = True
            handle = await begin(client, waits_and_fails, id="p")
            with pytest.raises(WorkflowFailureError, match="broken"):
                await handle.result()

            inbox = client.get_workflow_handle("inbox")
            assert (await inbox.describe()).status.value == "terminated"
            broken[0] = False
            run = await client.store.find("default", "p")
            await client.store.revive(run.run_id, reopen=True)
            client.changes.notify()
            assert await handle.result() == ["kept"]

    asyncio.run(main())


# From plain code


def test_runs_from_plain_code_have_children_too(store_url):
    from durable_core import embedded

    async def main():
        result = await embedded.execute_workflow(typed, id="p", url=store_url)
        assert result == [LARGE, LARGE]
        assert await embedded.execute_workflow(nested, 3, id="n", url=store_url) == 3
        with pytest.raises(WorkflowFailureError, match="no"):
            await embedded.execute_workflow(
                parent, args=["child that fails", ["no"], 1], id="f", url=store_url
            )

    asyncio.run(main())


def test_a_child_waits_for_a_worker_that_knows_it(store_url):
    @workflow.defn
    async def asks() -> list[str]:
        return await workflow.execute_child_workflow("double", ["a"], id="child")

    async def main():
        async with await Client.connect(store_url) as client:
            async with Worker(client, task_queue=QUEUE, workflows=[asks]):
                handle = await begin(client, asks, id="p")
                child = await appeared(client, "child", 0)
                assert (await child.describe()).history_length == 0

            async with Worker(client, task_queue=QUEUE, workflows=[asks, double]):
                assert await handle.result() == ["a", "a"]

    asyncio.run(main())


@activity.defn
async def own_work() -> str:
    ran.append("own")
    if broken[0]:
        raise ApplicationError("broken", non_retryable=True)

    return "mended"


@workflow.defn(name="child that fails later")
async def fails_later() -> None:
    await asyncio.sleep(0.05)
    await note("child")
    raise ApplicationError("of the child")


def test_a_child_whose_failure_was_handled_is_left_as_it_is(url):
    """Though the parent, which goes on before another failure, is told of it again."""

    @workflow.defn
    async def handles() -> str:
        own = asyncio.ensure_future(own_work())
        with contextlib.suppress(ChildWorkflowError):
            await workflow.execute_child_workflow(fails_later, id="c")

        return await own

    async def main():
        code = {"workflows": [handles, fails_later], "activities": [own_work, note]}
        async with working(url, **code) as client:
            broken[0] = True
            handle = await begin(client, handles, id="p")
            with pytest.raises(WorkflowFailureError):
                await handle.result()

            broken[0] = False
            run = await client.store.find("default", "p")
            await client.store.revive(run.run_id, reopen=True)
            client.changes.notify()
            assert await handle.result() == "mended"
            assert sorted(ran) == ["child", "own", "own"]
            child = client.get_workflow_handle("c")
            assert (await child.describe()).status.value == "failed"

    asyncio.run(main())


def test_the_result_of_a_child_by_name_is_the_same_whatever_a_worker_knows(store_url):
    @workflow.defn(name="child by name")
    async def by_name(size: int) -> Note:
        return Note("a", size)

    @workflow.defn
    class ByName:
        def __init__(self) -> None:
            self.got: object = None
            self.go = False

        @workflow.run
        async def run(self) -> list[str]:
            self.got = await workflow.execute_child_workflow("child by name", 1)
            typed = await workflow.execute_child_workflow("child by name", 2, result_type=Note)
            await workflow.wait_condition(lambda: self.go)
            return [repr(self.got), repr(typed)]

        @workflow.signal
        def on(self) -> None:
            self.go = True

    async def main():
        async with await Client.connect(store_url) as client:
            async with Worker(client, task_queue=QUEUE, workflows=[ByName, by_name]):
                handle = await begin(client, ByName.run, id="p")
                await appeared(client, "p", 5)

            async with Worker(client, task_queue=QUEUE, workflows=[ByName]):
                await handle.signal(ByName.on)
                expected = ["{'text': 'a', 'size': 1}", repr(Note("a", 2))]
                assert await handle.result(on_stall="raise") == expected

    asyncio.run(main())
