"""Activities that may happen at most once: what follows a failure, a shutdown, a second call."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from durable_core import activity, execute_workflow, workflow
from durable_core.common import RetryPolicy
from durable_core.exceptions import (
    ActivityError,
    ApplicationError,
    DefinitionError,
    NotStarted,
    OutcomeUnknown,
    WorkflowFailureError,
)
from support.talking import begin, working
from support.waiting import eventually

SOON = RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=3)
calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh():
    calls.clear()


@activity.defn(delivery="at_most_once", retry_policy=SOON)
async def act(how: str) -> str:
    calls.append(how)
    if how == "fails":
        raise ConnectionError("cut off")

    if how == "starts late" and len(calls) < 3:
        raise NotStarted("not yet")

    if how == "never starts":
        raise NotStarted("no")

    if how == "hangs":
        await asyncio.Event().wait()

    return f"did {how}"


@activity.defn(retry_policy=SOON)
async def plain(how: str) -> str:
    return await act(how)


@workflow.defn
async def acting(how: str) -> str:
    return await act(how)


@workflow.defn
async def called(how: str) -> str:
    try:
        return await workflow.execute_activity(plain, how, delivery="at_most_once")
    except ActivityError as error:
        return f"{type(error.cause).__name__} after {error.attempts}"


@workflow.defn
async def catching(how: str) -> str:
    try:
        return await act(how)
    except OutcomeUnknown as error:
        return f"unknown: {error}"


def opened(store_url):
    return working(store_url, workflows=[acting, called, catching], activities=[act, plain])


def test_only_what_did_not_start_is_tried_again(store_url):
    async def main():
        async with opened(store_url) as client:
            for how, result, times in (
                ("works", "did works", 1),
                ("fails", "ConnectionError after 1", 1),
                ("starts late", "did starts late", 3),
                ("never starts", "NotStarted after 3", 3),
            ):
                calls.clear()
                handle = await begin(client, called, how, id=how)
                assert await handle.result() == result
                assert len(calls) == times, how

    asyncio.run(main())


def test_what_a_shutdown_cut_off_is_unknown(store_url):
    async def main():
        async with opened(store_url) as client:
            await begin(client, catching, "hangs")
            await eventually(lambda: calls, "the body")

        async with opened(store_url) as client:
            said = await client.get_workflow_handle("w").result()
            assert said.startswith("unknown: activity 'act' had begun when its worker died")

    asyncio.run(main())
    assert calls == ["hangs"]


def test_a_failed_run_that_is_called_again_does_not_try_it_again(store_url, monkeypatch):
    monkeypatch.setenv("DURABLE_URL", store_url)

    async def main():
        for _ in range(2):
            with pytest.raises(WorkflowFailureError) as caught:
                await execute_workflow(acting, "fails", id="w", on_failed="resume")

            assert isinstance(caught.value.cause, ConnectionError | ApplicationError)

    asyncio.run(main())
    assert calls == ["fails"]


def test_an_unknown_delivery_is_refused_where_it_is_named(store_url):
    with pytest.raises(DefinitionError, match="at_most_once.*got 'exactly_once'"):
        activity.defn(delivery="exactly_once")(len_of)

    @workflow.defn
    async def wrong() -> None:
        await workflow.execute_activity(plain, "x", delivery="twice")

    async def main():
        async with working(store_url, workflows=[wrong], activities=[plain]) as client:
            handle = await begin(client, wrong)
            with pytest.raises(Exception, match="got 'twice'"):
                while True:
                    try:
                        await asyncio.wait_for(handle.result(on_stall="raise"), 0.05)
                    except TimeoutError:
                        continue

    asyncio.run(main())


async def len_of(text: str) -> int:
    return len(text)
