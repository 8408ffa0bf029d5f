"""Runs that ask people: each question is answered once, or withdrawn, and no answer is lost."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import random
import sys
import types
import uuid
from pathlib import Path
from typing import Literal

import msgspec
import pydantic
import pytest
from durable_core import Client, adapter, execute_workflow, workflow
from durable_core.client import WorkflowHistory
from durable_core.exceptions import (
    AnswerError,
    DefinitionError,
    EncodeError,
    NonDeterminismError,
    NotInWorkflowError,
    NotSupported,
    RequestClosedError,
    WorkflowNotFoundError,
    WorkflowStalledError,
)
from durable_core.testing import PositionalEngine
from durable_core.worker import Replayer
from support.asking import (
    CODE,
    Even,
    Refund,
    Size,
    amount,
    approval,
    asked,
    begin,
    chain,
    gullible,
    in_time,
    insistent,
    several,
    until_told,
    working,
)

LARGE = "x" * 100_000
PATIENT = 30.0


@pytest.fixture(params=[1000, 0], ids=["kept", "replayed"])
def serving(request):
    """Return what serves the runs, in memory or replayed at every activation."""
    return lambda url, **more: working(url, **{"max_cached_workflows": request.param, **more})


def requests_of(history):
    return [e for e in history.timeline() if e.kind == "request"]


# Answers


@pytest.mark.parametrize("yes", [True, False])
def test_people_approve_and_reject_and_the_run_knows_who_and_when(url, serving, yes):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, approval, {"cents": 5})
            (request,) = await asked(handle)
            assert (request.id, request.kind, request.question) == ("1", "refund", {"cents": 5})
            assert (request.summary, request.workflow_type) == ("a refund", "approval")
            assert request.schema == {"type": "boolean"}
            assert request.yes_or_no
            before = dt.datetime.now(dt.UTC)
            assert request.time <= before
            tell = handle.approve if yes else handle.reject
            assert await tell(by="ann", note="as always") == request
            value, by, note, time = await handle.result()
            assert (value, by, note) == (yes, "ann", "as always")
            assert before.timestamp() <= time <= dt.datetime.now(dt.UTC).timestamp()
            history = await handle.fetch_history()
            (entry,) = requests_of(history)
            assert (entry.name, entry.status, entry.result) == ("refund", "answered", yes)
            assert entry.detail == "by ann: as always"
            assert await handle.requests() == []
            assert WorkflowHistory.from_json(history.to_json()) == history
            await Replayer(workflows=CODE).replay_workflow(history)

    asyncio.run(main())


def test_who_answers_is_the_client_if_nobody_is_named(url, serving):
    async def main():
        async with serving(url) as client, await Client.connect(url, identity="far") as far:
            handle = await begin(client, approval, None)
            await asked(handle)
            await far.get_workflow_handle("w").approve()
            assert (await handle.result())[:3] == [True, "far", ""]

    asyncio.run(main())


class Model(pydantic.BaseModel):
    cents: int = pydantic.Field(gt=0)
    when: dt.datetime | None = None


class One(msgspec.Struct, tag="one"):
    number: int


class Two(msgspec.Struct, tag="two"):
    text: str


NOW = dt.datetime(2026, 1, 5, 9, 30, tzinfo=dt.UTC)
# The type, an answer, and what does not fit.
TYPED = {
    "bool": (bool, True, 1),
    "int": (int, 5, "5"),
    "float": (float, 1.5, None),
    "text": (str, "yes", 1),
    "bytes": (bytes, b"\x00\xff", "%"),
    "none": (int | None, None, "x"),
    "literal": (Literal["a", "b"], "b", "c"),
    "enum": (Size, Size.LARGE, "middle"),
    "dataclass": (Refund, Refund(5, "why"), {"cents": "5"}),
    "list": (list[Refund], [Refund(1), Refund(2)], [{"cents": 1}, {}]),
    "dict": (dict[str, int], {"a": 1}, {"a": "1"}),
    "tuple": (tuple[int, str], (1, "a"), [1]),
    "set": (set[int], {1, 2}, [None]),
    "time": (dt.datetime, NOW, "tomorrow"),
    "date": (dt.date, NOW.date(), "2026-13-01"),
    "duration": (dt.timedelta, dt.timedelta(days=2), "two days"),
    "decimal": (decimal.Decimal, decimal.Decimal("1.10"), "much"),
    "uuid": (uuid.UUID, uuid.UUID(int=7), "7"),
    "model": (Model, Model(cents=5), {"cents": 0}),
    "models": (list[Model], [Model(cents=5, when=NOW)], [{"cents": 1, "when": "soon"}]),
    "tagged": (One | Two, Two("a"), {"type": "three"}),
}


@workflow.defn
async def typed(name: str) -> bool:
    type_, expected, _ = TYPED[name]
    answer = await workflow.request("typed", name, type_)
    return type(answer.value) is type(expected) and answer.value == expected


@pytest.mark.parametrize("name", TYPED)
def test_an_answer_comes_back_as_its_type_and_what_does_not_fit_is_refused(
    name, store_url, serving
):
    _, answer, misfit = TYPED[name]

    async def main():
        async with (
            serving(store_url, workflows=[typed]) as client,
            await Client.connect(store_url) as far,
        ):
            handle = await begin(client, typed, name)
            (request,) = await asked(handle)
            with pytest.raises(
                AnswerError, match=r"request 1 \('typed'\).*does not fit: at \$"
            ) as e:
                await far.answer(request, misfit)

            assert "schema" in str(e.value)
            assert [r.id for r in await handle.requests()] == ["1"]
            assert (await handle.fetch_history()).waiting == []
            await far.answer(request, answer)
            assert await handle.result() is True

    asyncio.run(main())


def test_an_answer_that_has_no_json_form_is_refused_and_the_request_stays(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, amount, 5)
            await asked(handle)
            with pytest.raises(EncodeError, match="the answer to request 1"):
                await handle.answer(object())

            for who in ({"by": 5}, {"note": None}):
                with pytest.raises(TypeError, match="must be a text, got"):
                    await handle.answer({"cents": 3}, **who)

            with pytest.raises(AnswerError, match="not finite"):
                await handle.answer({"cents": float("nan")})

            await handle.answer({"cents": 3, "reason": "r"}, by="ann")
            assert await handle.result() == [3, "r", "ann"]

    asyncio.run(main())


def test_the_second_answer_is_told_who_gave_the_first_and_when(url, serving):
    """Before and after the run has it, and after its end."""

    async def main():
        async with await Client.connect(url) as far:
            handle = await begin(far, chain, 2)
            async with serving(url):
                (request,) = await asked(handle)

            # Nobody serves the run now.
            await far.answer(request, 5, by="ann")
            assert await handle.requests() == []
            told = []

            async def again():
                with pytest.raises(
                    RequestClosedError,
                    match=r"request 1 \('number'\) of run 'w' was answered by 'ann' on 20\d\d-",
                ) as error:
                    await far.answer(request, 6, by="bob")

                with pytest.raises(RequestClosedError):
                    await handle.answer(6, request_id="1")

                told.append((error.value.by, error.value.time))

            await again()
            async with serving(url):
                await asked(handle)
                await again()
                await handle.answer(7)
                assert await handle.result() == [5, 7]

            await again()
            assert len(set(told)) == 1
            assert told[0][0] == "ann"

    asyncio.run(main())


def test_an_answer_to_nothing_is_refused_and_says_why(url, serving):
    async def main():
        async with serving(url) as client:
            with pytest.raises(WorkflowNotFoundError, match="no run with the workflow id 'x'"):
                await client.get_workflow_handle("x").answer(1)

            handle = await begin(client, several, 2)
            await asked(handle, 2)
            with pytest.raises(AnswerError, match=r"made no request with the id '99'"):
                await handle.answer(1, request_id="99")

            with pytest.raises(AnswerError, match=r"2 requests .* its id: 1 \(number n0\), 2 \("):
                await handle.answer(1)

            with pytest.raises(AnswerError, match=r"no request for yes or no of run 'w' waits"):
                await handle.approve()

            with pytest.raises(AnswerError, match=r"expected integer, got true"):
                await handle.approve("1")

            await handle.answer(1, request_id="2")
            await handle.answer(0)
            assert await handle.result() == [0, 1]
            with pytest.raises(
                AnswerError, match=r"waits for an answer: it has ended \(completed\)"
            ):
                await handle.answer(1)

            ended = await begin(client, until_told, PATIENT, id="ended")
            (request,) = await asked(ended)
            await ended.terminate()
            with pytest.raises(RequestClosedError, match=r"the run has ended \(terminated\)") as e:
                await client.answer(request, 1)

            assert e.value.by is e.value.time is None

    asyncio.run(main())


def test_answers_may_come_in_any_order_and_of_any_size(url, serving):
    async def main():
        async with serving(url, workflows=[*CODE, large]) as client:
            handle = await begin(client, several, 20)
            waiting = list(await asked(handle, 20))
            assert [r.key for r in waiting] == [f"n{n}" for n in range(20)]
            random.Random(3).shuffle(waiting)
            for request in waiting:
                await client.answer(request, request.question * 2)

            assert await handle.result() == [n * 2 for n in range(20)]
            handle = await begin(client, large, LARGE, id="large")
            (request,) = await asked(handle)
            assert request.question == LARGE
            await client.answer(request, LARGE + "y")
            assert await handle.result() == len(LARGE) + 1
            await Replayer(workflows=[large]).replay_workflow(await handle.fetch_history())

    asyncio.run(main())


@workflow.defn
async def large(text: str) -> int:
    return len((await workflow.request("large", text, str)).value)


# Lists


def test_requests_of_all_runs_are_listed_and_filtered_page_by_page(url):
    async def main():
        async with working(url) as client:
            runs = [await begin(client, several, 50, id=f"s{n}") for n in range(9)]
            runs.append(await begin(client, approval, "q", id="a"))
            for handle in runs[:-1]:
                await asked(handle, 50)

            await asked(runs[-1])
            found = [r async for r in client.list_requests()]
            assert len(found) == 451
            places = [(r.time, r.run_id, int(r.id)) for r in found]
            assert places == sorted(places)
            paged, last = [], None
            while page := [r async for r in client.list_requests(limit=37, after=last)]:
                paged += page
                last = page[-1]

            assert paged == found

            async def count(**which):
                return len([r async for r in client.list_requests(**which)])

            assert await count(kind="refund") == await count(workflow_type="approval") == 1
            assert await count(kind="number", workflow_id="s3") == 50
            assert await count(kind="none") == await count(workflow_id="s") == 0
            assert await count(limit=0) == 0
            async with await Client.connect(url, namespace="other") as other:
                assert [r async for r in other.list_requests()] == []

            # What is answered is not listed, also if its run does not know it yet.
            await client.answer(found[0], 1)
            assert await count() == 450

    asyncio.run(main())


def test_a_request_that_waits_for_ever_is_listed_with_the_others(url):
    """Also if its time is later than any calendar's."""

    async def main():
        async with working(url) as client:
            for n, seconds in enumerate((float("inf"), 1e13, 1e300)):
                await asked(await begin(client, in_time, seconds, id=f"{n}"))

            found = [r async for r in client.list_requests()]
            assert [r.due for r in found] == [None] * 3
            for request in found:
                await client.answer(request, 1)
                handle = client.get_workflow_handle(request.workflow_id)
                assert await handle.result() == "answered 1"

    asyncio.run(main())


# What the code may change


def asks(question, answer_type, summary):
    @workflow.defn(name="flow")
    async def flow() -> str:
        answer = await workflow.request("k", question, answer_type, summary=summary)
        return f"{answer.value}"

    return flow


def test_the_question_is_compared_on_replay_and_the_rest_is_not(store_url):
    """An answer is one to the question that was shown."""

    async def main():
        old = asks({"cents": 5}, int, "five")
        async with working(store_url, workflows=[old], activities=[]) as client:
            handle = await begin(client, old)
            await asked(handle)

        async with await Client.connect(store_url) as client:
            handle = client.get_workflow_handle("w")
            history = await handle.fetch_history()
            await Replayer(workflows=[asks({"cents": 5}, float, "5")]).replay_workflow(history)
            with pytest.raises(NonDeterminismError, match=r"request 'k' #1 .*cents"):
                await Replayer(workflows=[asks({"cents": 6}, int, "five")]).replay_workflow(history)

            await handle.answer(3)

        new = asks({"cents": 5}, float, "5")
        async with working(store_url, workflows=[new], activities=[]) as client:
            assert await client.get_workflow_handle("w").result() == "3.0"

    asyncio.run(main())


def test_an_answer_that_only_its_type_refuses_can_be_asked_for_again(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, insistent)
            for n in (1, 3, 4):
                await asked(handle)
                await handle.answer({"number": n})

            assert await handle.result() == [4, 2]
            handle = await begin(client, gullible, id="g")
            await asked(handle)
            await handle.answer({"number": 3})
            with pytest.raises(WorkflowStalledError, match="3 is odd"):
                await handle.result(on_stall="raise")

            # The answer stays, for mended code.
            assert len(requests_of(await handle.fetch_history())) == 1

    asyncio.run(main())


class Live:
    """No data."""


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"answer_type": Live}, DefinitionError, "the answer of request 'k' is to be .*Live"),
        ({"answer_type": Refund | Even}, DefinitionError, "more than one dataclass"),
        ({"question": Live()}, EncodeError, "the question of request 'k' cannot be recorded"),
        ({"kind": ""}, ValueError, "must not be empty"),
        ({"kind": 5}, TypeError, "the kind of a request must be a text, got 5"),
        ({"key": None}, TypeError, "the key of a request must be a text, got None"),
        ({"summary": b"x"}, TypeError, "the summary"),
        ({"timeout": float("nan")}, ValueError, "nan"),
        ({"on_reminder": asyncio.sleep}, ValueError, "say when by remind_after or"),
        ({"timeout": -1}, ValueError, "cannot wait for -1"),
        ({"remind_after": dt.timedelta(-1)}, ValueError, "negative"),
        ({"remind_every": 0}, ValueError, "more than 0"),
    ],
)
def test_what_cannot_be_asked_says_why(store_url, changes, error, text):
    @workflow.defn
    async def bad() -> str:
        given = {"kind": "k", "question": None, **changes}
        with pytest.raises(error, match=text):
            await workflow.request(**given)

        return "raised"

    async def main():
        async with working(store_url, workflows=[bad]) as client:
            handle = await begin(client, bad)
            assert await handle.result(on_stall="raise") == "raised"

    asyncio.run(main())


def test_asking_outside_of_a_workflow_says_so():
    async def main():
        with pytest.raises(NotInWorkflowError):
            await workflow.request("k")

    asyncio.run(main())


def test_an_engine_that_asks_nobody_says_so():
    engine = PositionalEngine()

    async def code():
        with pytest.raises(NotSupported, match="the positional engine cannot ask people"):
            await workflow.request("k")

        here = adapter.current_engine()
        assert not here.capabilities.requests
        with pytest.raises(NotSupported, match="its capability `requests` says so"):
            here.request(adapter.Request(kind="k"))

        return "said"

    assert asyncio.run(engine.run(code)) == "said"


def test_an_adapter_asks_through_its_engine(store_url):
    @workflow.defn
    async def adapted() -> str:
        engine = adapter.current_engine()
        assert engine.capabilities.requests
        answer = await engine.request(adapter.Request(kind="tool", question=["x"], key="call-1"))
        return f"{answer.value} {answer.by}"

    async def main():
        async with working(store_url, workflows=[adapted]) as client:
            handle = await begin(client, adapted)
            (request,) = await asked(handle)
            assert (request.kind, request.key, request.question) == ("tool", "call-1", ["x"])
            await handle.reject(by="ann")
            assert await handle.result() == "False ann"

    asyncio.run(main())


# Runs that nobody holds


def test_a_run_of_plain_code_is_answered_by_another_client(store_url, monkeypatch):
    monkeypatch.setenv("DURABLE_URL", store_url)

    async def main():
        running = asyncio.ensure_future(execute_workflow(amount, 5, id="w"))
        async with await Client.connect(store_url, identity="far") as far:
            while not [r async for r in far.list_requests()]:
                await asyncio.sleep(0.01)

            await far.get_workflow_handle("w").answer({"cents": 3})
            assert await running == [3, "", "far"]

    asyncio.run(main())


def test_the_example_of_the_documentation_runs(store_url):
    text = (Path(__file__).resolve().parents[2] / "docs" / "humans.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    module = types.ModuleType("example")
    sys.modules["example"] = module
    exec(compile(example, "humans.md", "exec"), vars(module))

    async def main():
        more = {"workflows": [module.refund], "activities": [module.mail]}
        async with working(store_url, **more) as client:
            handle = await begin(client, module.refund, "o-1", 500)
            await asked(handle)
            await handle.approve(by="ann")
            while not (waiting := [r for r in await handle.requests() if r.kind == "amount"]):
                await asyncio.sleep(0.002)

            assert waiting[0].summary == "how much of order o-1?"
            await handle.answer({"cents": 300}, by="bob")
            assert await handle.result() == "300 cents, says bob"
            handle = await begin(client, module.refund, "o-2", 500, id="no")
            await asked(handle)
            await handle.reject(by="ann", note="too late")
            assert await handle.result() == "ann said no: too late"

    try:
        asyncio.run(main())
    finally:
        del sys.modules["example"]


def test_an_answer_to_a_paused_or_stalled_run_waits_for_it(url, serving):
    async def main():
        async with serving(url) as client:
            handle = await begin(client, chain, 1)
            await asked(handle)
            await handle.pause()
            await handle.answer(5)
            assert await handle.requests() == []
            assert (await handle.describe()).status.value == "running"
            await handle.unpause()
            assert await handle.result() == [5]

    asyncio.run(main())


def test_answers_and_signals_of_one_sender_keep_their_order(url, serving):
    @workflow.defn
    class Ordered:
        def __init__(self) -> None:
            self.seen = []

        @workflow.run
        async def run(self) -> list[str]:
            asked_ = asyncio.ensure_future(workflow.request("k", None, str))
            asked_.add_done_callback(lambda done: self.seen.append(done.result().value))
            await workflow.wait_condition(lambda: len(self.seen) == 3)
            return self.seen

        @workflow.signal
        def put(self, text: str) -> None:
            self.seen.append(text)

    async def main():
        async with serving(url, workflows=[Ordered]) as client:
            for n in range(20):
                handle = await begin(client, Ordered.run, id=f"{n}")
                await asked(handle)
                await handle.signal(Ordered.put, "a")
                await handle.answer("b")
                await handle.signal(Ordered.put, "c")
                assert await handle.result() == ["a", "b", "c"]

    asyncio.run(main())
