"""How questions to people end: timeouts, cancellations, failures of the run, and answers just then."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest
from durable_core import Client, RetryPolicy, activity, workflow
from durable_core.exceptions import (
    ActivityError,
    RequestClosedError,
    WorkflowFailureError,
    WorkflowNotFoundError,
)
from durable_core.worker import Replayer
from support import asking
from support.asking import (
    CODE,
    Stoppable,
    asked,
    begin,
    forgetful,
    goes_on,
    in_own_time,
    in_time,
    must_be_in_time,
    noted,
    reminding,
    until_cancelled,
    until_told,
    working,
)

LARGE = "x" * 100_000
PATIENT = 30.0
# Until a request ends by itself: longer than it takes to find it, on a busy machine.
OWN_TIME = 0.9


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""
    return lambda url, **more: working(url, **{"max_cached_workflows": request.param, **more})


def requests_of(history):
    return [e for e in history.timeline() if e.kind == "request"]


# Ends


def test_a_request_is_withdrawn_when_its_time_is_over(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, in_time, 0.05)
            (request,) = await asked(handle)
            assert (request.due - request.time).total_seconds() == pytest.approx(0.05, abs=1e-5)
            assert (
                await handle.result() == "late: nobody answered the request 'number' within 0.05 s"
            )
            with pytest.raises(RequestClosedError, match="has ended"):
                await client.answer(request, 1)

            history = await handle.fetch_history()
            assert [e.status for e in requests_of(history)] == ["timed out"]
            assert [r async for r in client.list_requests()] == []
            await Replayer(workflows=CODE).replay_workflow(history)
            assert await (await begin(client, in_time, 0, id="at once")).result() == (
                "late: nobody answered the request 'number' within 0 s"
            )

    asyncio.run(main())


def test_a_run_that_ran_out_of_time_asks_again_when_it_is_taken_up(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, must_be_in_time, 0.1)
            (request,) = await asked(handle)
            with pytest.raises(WorkflowFailureError, match="nobody answered"):
                await handle.result()

            await client.store.revive((await client.run_row("w", None)).run_id, reopen=True)
            (again,) = await asked(handle)
            assert (again.kind, again.id) != (request.kind, request.id)
            assert again.due > request.due
            with pytest.raises(RequestClosedError, match="withdrawn"):
                await client.answer(request, 1)

            await client.answer(again, 2)
            assert await handle.result() == 2

    asyncio.run(main())


@workflow.defn
async def fails_late() -> list[int]:
    """Fail with what an activity failed with, after one of two questions is answered."""
    first = asyncio.ensure_future(workflow.request("first", None, int))
    second = asyncio.ensure_future(workflow.request("second", None, int))
    failure = None
    try:
        await workflow.execute_activity(flaky, retry_policy=RetryPolicy(maximum_attempts=1))
    except ActivityError as error:
        failure = error

    await first
    if failure is not None:
        raise failure

    return [first.result().value, (await second).value]


@activity.defn
async def flaky() -> None:
    if not asking.ran:
        raise RuntimeError("not yet")


def test_what_was_answered_before_a_run_failed_is_not_asked_again(url, serving):
    async def main():
        more = {"workflows": [fails_late], "activities": [flaky]}
        async with serving(url, **more) as client:
            handle = await begin(client, fails_late)
            (first, second) = await asked(handle, 2)
            await until_async(lambda: failed(handle))
            await client.answer(first, 1)
            with pytest.raises(WorkflowFailureError, match="not yet"):
                await handle.result()

            with pytest.raises(RequestClosedError, match="ended"):
                await client.answer(second, 2)

            asking.ran.append("mended")
            await client.store.revive((await client.run_row("w", None)).run_id, reopen=True)
            (still,) = await asked(handle)
            assert still == second
            with pytest.raises(RequestClosedError, match="was answered"):
                await client.answer(first, 3)

            await client.answer(still, 2)
            assert await handle.result() == [1, 2]
            await Replayer(workflows=[fails_late]).replay_workflow(await handle.fetch_history())

    asyncio.run(main())


async def failed(handle):
    return any(e.status == "failed" for e in (await handle.fetch_history()).timeline())


async def until_async(condition):
    while not await condition():
        await asyncio.sleep(0.002)


def test_a_request_whose_task_or_run_is_cancelled_is_withdrawn(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, Stoppable.run)
            (request,) = await asked(handle)
            await handle.signal(Stoppable.stop)
            await until_async(lambda: gone(handle))
            with pytest.raises(RequestClosedError, match="the run has withdrawn it"):
                await client.answer(request, 1)

            await handle.signal(Stoppable.end)
            assert await handle.result() == "stopped"
            handle = await begin(client, until_cancelled, id="c")
            await asked(handle)
            await handle.cancel()
            assert await handle.result() == "cancelled"
            (entry,) = requests_of(await handle.fetch_history())
            assert entry.status == "withdrawn"
            assert await (await begin(client, forgetful, id="f")).result() == "ended"
            assert [r async for r in client.list_requests()] == []

    asyncio.run(main())


async def gone(handle):
    return not await handle.requests()


# Answers that come just then: accepted ones reach the run, others are refused


ENDINGS = {
    "timeout": (in_time, None, "late"),
    "own timer": (in_own_time, None, "late"),
    "end": (until_told, None, "ended"),
    "new run": (goes_on, None, "ended"),
    "stop": (Stoppable.run, "stop", "stopped"),
    "cancel": (until_cancelled, "cancel", "cancelled"),
}


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("where", ["near", "far"])
def test_an_answer_that_comes_while_its_request_ends_is_refused_or_reaches_the_run(
    how, where, store_url, serving, long
):
    """What the sender was told is what the run says that it got: never lost, never both."""
    code, message, otherwise = ENDINGS[how]
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    count = 400 if long else 20
    seen = {True: 0, False: 0}
    # Where it is decided moves with the load: it is looked for.
    shift = 0.0

    async def one(client, far, n):
        nonlocal shift
        args = [OWN_TIME] if message is None else []
        handle = await begin(client, code, *args, id=f"{n}")
        (request,) = await asked(handle)
        sender = far if where == "far" else client
        # About when it ends, by itself or by a message.
        ends = request.time.timestamp() + OWN_TIME if message is None else time.time() + 0.05
        at = ends + shift + choose.uniform(-0.01, 0.01)

        async def end():
            await asyncio.sleep(ends - time.time())
            if message == "stop":
                await handle.signal(Stoppable.stop)
            elif message == "cancel":
                with contextlib.suppress(WorkflowNotFoundError):
                    await handle.cancel()

        async def answer():
            await asyncio.sleep(at - time.time())
            try:
                await sender.answer(request, n)
            except RequestClosedError:
                return False

            return True

        accepted, _ = await asyncio.gather(answer(), end())
        shift += 0.01 if accepted else -0.01
        if message == "stop":
            await handle.signal(Stoppable.end)

        result = await asyncio.wait_for(handle.result(), PATIENT)
        expected = f"answered {n}" if accepted else otherwise
        asker = client.get_workflow_handle(f"{n}", run_id=request.run_id)
        history = await asker.fetch_history()
        (entry,) = requests_of(history)
        assert (entry.status == "answered") == accepted
        assert result.startswith(expected), (n, accepted, result)

        await Replayer(workflows=CODE).replay_workflow(history)
        seen[accepted] += 1

    async def main():
        async with serving(store_url) as client, await Client.connect(store_url) as far:
            for first in range(0, count, 10):
                await asyncio.gather(*(one(client, far, n) for n in range(first, first + 10)))

    asyncio.run(main())
    print(seen)
    assert all(seen.values()) or not long, seen


@pytest.mark.parametrize("how", ENDINGS)
def test_an_answer_that_is_accepted_while_the_end_is_being_written_wins(
    how, url, serving, monkeypatch
):
    code, message, _ = ENDINGS[how]

    async def main():
        async with serving(url) as client:
            append, sent = client.store.append, []
            handle = client.get_workflow_handle("w")

            def overtaken(made):
                if made.withdrawn or made.status != "running":
                    sent.append(asyncio.ensure_future(answered(client, handle)))
                    return after(sent[-1], append, made)

                return append(made)

            monkeypatch.setattr(client.store, "append", overtaken)
            await begin(client, code, *([0.1] if message is None else []))
            run_id = (await handle.describe()).run_id
            await requested(client.get_workflow_handle("w", run_id=run_id))
            if message == "stop":
                await handle.signal(Stoppable.stop)
                await handle.signal(Stoppable.end)
            elif message == "cancel":
                with contextlib.suppress(WorkflowNotFoundError):
                    await handle.cancel()

            assert await asyncio.wait_for(handle.result(), PATIENT) == "answered 7"
            assert [await a for a in sent] == [True] + [False] * (len(sent) - 1)
            await Replayer(workflows=CODE).replay_workflow(await handle.fetch_history())

    asyncio.run(main())


async def requested(handle):
    """Return once a run has asked; it may have gone on since."""
    await until_async(lambda: shows(handle))


async def shows(handle):
    return requests_of(await handle.fetch_history())


async def answered(client, handle):
    """Answer what a run asks, if it does; return whether that was taken."""
    for request in await handle.requests():
        with contextlib.suppress(RequestClosedError):
            await client.answer(request, 7)
            return True

    return False


def after(earlier, append, made):
    """Append when something else has happened."""
    done = asyncio.get_running_loop().create_future()

    async def go():
        await earlier
        done.set_result(await append(made))

    done.going = asyncio.ensure_future(go())
    return done


# Reminders


def test_reminders_are_noted_where_people_look_and_in_the_history(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, noted, 0.05)
            (request,) = await asked(handle)
            assert (request.reminders, request.reminded) == (0, None)
            while not (await asked(handle))[0].reminders:
                await asyncio.sleep(0.005)

            (request,) = await asked(handle)
            assert request.reminders == 1
            assert (request.reminded - request.time).total_seconds() >= 0.05
            await client.answer(request, 1)
            assert await handle.result() == 1
            told = [e for e in (await handle.fetch_history()).timeline() if e.kind == "reminder"]
            assert [e.detail for e in told] == ["reminder 1: nobody has answered"]

    asyncio.run(main())


def test_each_reminder_runs_code_of_the_workflow(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, reminding, 0.01, 0.03, "")
            (request,) = await asked(handle)
            while len(asking.ran) < 3:
                await asyncio.sleep(0.005)

            await client.answer(request, 7)
            value, numbers = await handle.result()
            assert value == 7
            assert numbers == list(range(1, len(numbers) + 1))
            assert asking.ran[:3] == ["1", "2", "3"]
            await Replayer(workflows=CODE).replay_workflow(await handle.fetch_history())

    asyncio.run(main())


def test_a_reminder_under_way_is_cancelled_when_the_answer_comes(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, reminding, 0.01, None, "hang")
            (request,) = await asked(handle)
            while "hang" not in asking.ran:
                await asyncio.sleep(0.005)

            await client.answer(request, 7)
            assert await handle.result() == [7, [1]]
            assert asking.ran == ["hang", "hung"]

    asyncio.run(main())


def test_a_reminder_that_fails_ends_the_wait_and_withdraws_the_request(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, reminding, 0.01, None, "fail")
            (request,) = await asked(handle)
            with pytest.raises(WorkflowFailureError, match="no mail server"):
                await handle.result()

            with pytest.raises(RequestClosedError):
                await client.answer(request, 1)

    asyncio.run(main())
