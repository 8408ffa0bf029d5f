"""What callers get wrong: each error names the value and the remedy, and nothing is harmed."""

from __future__ import annotations

import asyncio

import durable_core
import pytest
from durable_core import Client, Worker, _defaults, activity, workflow
from durable_core.exceptions import (
    ActivityError,
    ArgumentError,
    CallError,
    DefinitionError,
    DuplicateNameError,
    EncodeError,
    NotInActivityError,
    NotInWorkflowError,
    WorkflowFailureError,
    WorkflowNotFoundError,
)
from support.doubling import Double, double, run_once
from support.ledger import Ledger
from support.rows import rows
from support.waiting import until

# Values that cannot be recorded


def test_a_result_that_cannot_be_encoded_fails_the_activity_without_a_retry(tmp_path, store_url):
    ledger = Ledger(tmp_path / "ledger")

    @activity.defn
    async def opens() -> object:
        ledger.write()
        return object()

    @workflow.defn
    class Opening:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity(opens)

    with pytest.raises(WorkflowFailureError) as caught:
        asyncio.run(durable_core.execute_workflow(Opening.run, id="w", url=store_url))

    error = caught.value.cause
    assert isinstance(error, ActivityError)
    assert error.attempts == 1
    assert "the result of activity 'opens'" in str(error.cause)
    assert ledger.counts() == {"opens": 1}


def test_an_input_that_cannot_be_encoded_is_refused_before_anything_is_written(store_url):
    async def main():
        with pytest.raises(EncodeError, match=r"the input of workflow 'Double'.*Pass data"):
            await durable_core.execute_workflow(Double.run, object(), id="w", url=store_url)

        async with await Client.connect(store_url) as client:
            with pytest.raises(EncodeError, match="the input of workflow 'Double'"):
                await client.start_workflow(Double.run, {1j}, id="w", task_queue="q")

            with pytest.raises(WorkflowNotFoundError, match=r"workflow id 'w'.*durable list"):
                await client.get_workflow_handle("w").describe()

    asyncio.run(main())


def test_an_activity_argument_that_cannot_be_encoded_is_a_bug_of_the_workflow(store_url):
    @workflow.defn
    class Passing:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity(double, lambda: 1)

    async def main():
        with pytest.raises(EncodeError, match="the arguments of activity 'double'"):
            await durable_core.execute_workflow(Passing.run, id="w", url=store_url)

        async with await Client.connect(store_url) as client:
            described = await client.get_workflow_handle("w").describe()
            assert "the arguments of activity 'double'" in described.stalled
            assert described.history_length == 0

    asyncio.run(main())


@workflow.defn
class Summing:
    @workflow.run
    async def run(self, numbers: list[int], factor: float = 1) -> float:
        return sum(numbers) * factor


def refusals(args):
    """Return what each way to start a workflow says of these arguments; nothing is written."""
    url = "sqlite:///refusals.db"

    async def main():
        async with await Client.connect(url) as client:
            worker = Worker(client, task_queue="served", workflows=[Summing])
            starts = (
                lambda: durable_core.execute_workflow(Summing.run, args=args, id="w", url=url),
                lambda: client.start_workflow(Summing.run, args=args, id="w", task_queue="nobody"),
                lambda: client.start_workflow("Summing", args=args, id="w", task_queue="served"),
                lambda: client.execute_workflow(Summing, args=args, id="w", task_queue="served"),
            )
            async with worker:
                for start in starts:
                    with pytest.raises(CallError) as caught:
                        await start()

                    found.append(caught.value)
                    with pytest.raises(WorkflowNotFoundError):
                        await client.get_workflow_handle("w").describe()

    found = []
    asyncio.run(main())
    assert len(found) == 4
    return found


def test_a_wrong_number_of_arguments_of_a_workflow_is_refused_before_anything_is_written():
    for args, got in (([], "none"), ([[1], 2.5, 3], "3: [1], 2.5, 3")):
        for error in refusals(args):
            assert isinstance(error, ArgumentError)
            assert str(error).startswith(
                "workflow 'Summing' takes 2 arguments (numbers, factor=…), "
                f"got {got}. Pass one argument"
            )


def test_an_argument_of_a_workflow_that_does_not_fit_is_refused_before_anything_is_written():
    for args, says in (
        (
            [["a"]],
            "argument 'numbers' of workflow 'Summing' does not fit list[int]: Expected `int`",
        ),
        ([(1, 2)], "argument 'numbers' of workflow 'Summing' would not come back"),
        ([[1], "2"], "argument 'factor' of workflow 'Summing' does not fit float"),
    ):
        for error in refusals(args):
            assert isinstance(error, EncodeError)
            assert says in str(error)


def test_an_input_that_is_too_large_is_refused_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(_defaults, "PAYLOAD_LIMIT", 1000)
    for error in refusals([[1] * 1000]):
        assert isinstance(error, EncodeError)
        assert "the input of workflow 'Summing' has 2,003 bytes, the limit is 1,000" in str(error)


def test_an_input_of_a_workflow_that_is_known_only_by_its_name_may_not_be_too_large_either(
    store_url, monkeypatch
):
    monkeypatch.setattr(_defaults, "PAYLOAD_LIMIT", 1000)

    async def main():
        async with await Client.connect(store_url) as client:
            with pytest.raises(EncodeError, match="the input of workflow 'Unknown' has"):
                await client.start_workflow("Unknown", "x" * 1000, id="w", task_queue="q")

            # What its arguments are is for its worker to say.
            await client.start_workflow("Unknown", args=[1, (2,)], id="w", task_queue="q")

    asyncio.run(main())


def test_a_result_that_is_too_large_fails_the_activity_and_stalls_the_workflow(
    store_url, monkeypatch
):
    monkeypatch.setattr(_defaults, "PAYLOAD_LIMIT", 1000)

    @activity.defn
    def large() -> str:
        return "x" * 1000

    @workflow.defn
    class Large:
        @workflow.run
        async def run(self, from_activity: bool) -> str:
            return await workflow.execute_activity(large) if from_activity else "x" * 1000

    async def main():
        with pytest.raises(WorkflowFailureError) as caught:
            await durable_core.execute_workflow(Large.run, True, id="a", url=store_url)

        with pytest.raises(EncodeError, match="the result of workflow 'Large' has 1,002 bytes"):
            await durable_core.execute_workflow(Large.run, False, id="b", url=store_url)

        return caught.value.cause

    error = asyncio.run(main())
    assert (type(error), error.attempts) == (ActivityError, 1)
    assert "the result of activity 'large' has 1,002 bytes, the limit is 1,000" in str(error.cause)


def test_a_result_that_does_not_fit_its_annotation_fails_the_activity_without_a_retry(
    tmp_path, store_url
):
    ledger = Ledger(tmp_path / "ledger")

    @activity.defn
    async def counts() -> list[int]:
        ledger.write()
        return ("one",)

    @workflow.defn
    class Counting:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity(counts)

    with pytest.raises(WorkflowFailureError) as caught:
        asyncio.run(durable_core.execute_workflow(Counting.run, id="w", url=store_url))

    assert caught.value.cause.attempts == 1
    assert "the result of activity 'counts' does not fit list[int]" in str(caught.value.cause.cause)
    assert ledger.counts() == {"counts": 1}


# Names


def test_two_workflows_or_two_activities_of_one_name_are_refused(store_url):
    @workflow.defn(name="Double")
    class Other:
        @workflow.run
        async def run(self) -> None: ...

    @activity.defn(name="double")
    async def other() -> None: ...

    async def main():
        async with await Client.connect(store_url) as client:
            with pytest.raises(DuplicateNameError, match=r"'Double'.*Other.*workflow\.defn\(name"):
                Worker(client, task_queue="q", workflows=[Double, Other])

            with pytest.raises(DuplicateNameError, match=r"'double'.*other.*activity\.defn\(name"):
                Worker(client, task_queue="q", activities=[double, other])

            Worker(client, task_queue="q", workflows=[Double, Double], activities=[double, double])

    try:
        asyncio.run(main())
    finally:
        # Defined last, so it was the one that embedded runs find by name.
        activity.defn(double)


def test_what_is_no_workflow_or_no_activity_is_refused(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            with pytest.raises(DefinitionError, match=r"is no workflow.*@workflow\.defn"):
                Worker(client, task_queue="q", workflows=[int])

            with pytest.raises(DefinitionError, match=r"is no activity.*@activity\.defn"):
                Worker(client, task_queue="q", activities=[print])

            with pytest.raises(DefinitionError, match="is no workflow"):
                await client.start_workflow(print, id="w", task_queue="q")

            with pytest.raises(ValueError, match="one argument positionally or several by args="):
                await client.start_workflow(Double.run, 1, args=[1], id="w", task_queue="q")

            with pytest.raises(ValueError, match="max_concurrent_activities must be 1 or more"):
                Worker(client, task_queue="q", max_concurrent_activities=0)

    asyncio.run(main())


def test_calls_outside_of_workflows_and_activities_say_so():
    with pytest.raises(NotInWorkflowError, match="not inside a workflow"):
        workflow.now()

    with pytest.raises(NotInWorkflowError, match="not inside a workflow"):
        asyncio.run(workflow.execute_activity(double, 1))

    with pytest.raises(NotInActivityError, match="not inside an activity"):
        activity.info()

    with pytest.raises(CallError):
        workflow.uuid4()


SERVE = """
import asyncio, sys
from durable_core import Client, Worker
from support.doubling import Double, double

async def main():
    known = [double] if "double" in sys.argv else []
    async with await Client.connect() as client:
        await Worker(client, task_queue="q", workflows=[Double], activities=known).run()

asyncio.run(main())
"""


def test_a_run_whose_activity_is_not_registered_stalls_and_goes_on_where_it_is(
    processes, store_url
):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = await client.start_workflow("Double", 4, id="w", task_queue="q")
            ignorant = processes.start(SERVE, DURABLE_URL=store_url)
            while (described := await handle.describe()).stalled is None:
                await client.changes.wait(timeout=1.0, interval=0.01)

            assert "does not know an activity 'double'" in described.stalled
            assert "Worker(activities=[…])" in described.stalled
            until(lambda: "stalled" in ignorant.output, "the log of the worker")
            ignorant.kill()
            processes.start(SERVE, "double", DURABLE_URL=store_url)
            assert await handle.result() == 8
            assert (await handle.describe()).stalled is None

    asyncio.run(main())


# Workflow ids


@pytest.mark.parametrize("id", ["", "x" * 10_000])
def test_a_workflow_id_that_is_empty_or_endless_is_refused(id, store_url):
    async def main():
        with pytest.raises(ValueError, match="a workflow id has 1 to 1000 characters") as one:
            await durable_core.execute_workflow(Double.run, 1, id=id, url=store_url)

        async with await Client.connect(store_url) as client:
            with pytest.raises(ValueError, match="1 to 1000 characters"):
                await client.start_workflow(Double.run, 1, id=id, task_queue="q")

        assert len(str(one.value)) < 200

    asyncio.run(main())


@pytest.mark.parametrize("id", ["x" * 1000, "a/b c'\"\\;--%", "日本語 🙂", " ", "\n", "[1, 2]"])
def test_a_workflow_id_may_hold_any_character(id, store_path, store_url):
    assert run_once(store_url, id=id) == 8
    assert run_once(store_url, id=id) == 8
    assert rows(store_path, "SELECT workflow_id FROM run") == [(id,)]
