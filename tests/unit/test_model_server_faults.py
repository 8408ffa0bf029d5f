"""The offline model fails on demand, as the real one does by itself."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import openai
import pytest
from durable_openai_agents.testing import (
    Fault,
    FaultRule,
    ModelServer,
)
from support.model_server import (
    BOTH_APIS,
    HELLO,
    ask_once,
    client_of,
    kinds,
    wait_until,
)

# -- faults ------------------------------------------------------------------------------------


@BOTH_APIS
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_an_http_error_happens_once_and_then_the_answer_comes(api, status, error):
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="status", status=status, message="not now"))
        with pytest.raises(error, match="not now"):
            ask_once(server, api)

        assert ask_once(server, api) == "hello"
        assert kinds(server) == ["fault_added", "request", "fault", "request", "answer"]
        assert [(each.outcome, each.status) for each in server.requests()] == [
            ("fault", status),
            ("answer", 200),
        ]


def test_retry_after_is_sent_and_the_client_obeys_it():
    rule = FaultRule(fault=Fault(kind="status", status=429, retry_after=0.25), times=2)
    with ModelServer(HELLO, faults=[rule]) as server:
        assert ask_once(server, max_retries=2) == "hello"
        requests = server.requests()
        times = [event["time"] for event in server.events() if event["kind"] == "request"]

    assert [request.retry for request in requests] == [0, 1, 2]
    assert len({request.digest for request in requests}) == 1
    assert all(0.2 < late - early < 5 for early, late in pairwise(times))


def test_a_delay_is_waited_for():
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="delay", seconds=0.2))
        assert ask_once(server) == "hello"
        [request] = server.requests()

    assert request.seconds is not None
    assert 0.2 <= request.seconds < 5


@BOTH_APIS
def test_a_hanging_call_ends_when_its_client_goes_away(api):
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="hang"))
        with pytest.raises(openai.APITimeoutError):
            ask_once(server, api, timeout=0.2)

        wait_until(lambda: kinds(server)[-1] == "gone")
        assert [request.outcome for request in server.requests()] == ["gone"]
        assert ask_once(server, api) == "hello"


@BOTH_APIS
def test_a_connection_is_cut_in_the_middle_of_the_answer(api):
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="cut"))
        with pytest.raises(openai.APIConnectionError) as raised:
            ask_once(server, api)

        assert "without sending complete message body" in str(raised.value.__cause__)
        assert ask_once(server, api) == "hello"


def test_a_held_call_never_counts_as_received_when_its_client_goes_away():
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="hold"))
        with pytest.raises(openai.APITimeoutError):
            ask_once(server, timeout=0.2)

        wait_until(lambda: kinds(server)[-1] == "gone")
        assert kinds(server) == ["fault_added", "held", "gone"]
        assert server.requests() == []


def test_a_held_call_is_answered_when_its_time_is_over():
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="hold", seconds=0.1))
        assert ask_once(server) == "hello"
        assert kinds(server) == ["fault_added", "held", "request", "answer"]


def test_a_rule_picks_requests_by_number_text_and_turn():
    broken = Fault(kind="status", status=401)
    rules = [
        FaultRule(fault=broken, contains="pick me", nth=2, times=2),
        FaultRule(fault=broken, turn=1, times=None),
    ]

    async def outcomes(server: ModelServer, inputs: list[object]) -> list[bool]:
        answered = []
        async with client_of(server) as client:
            for each in inputs:
                try:
                    await client.responses.create(model="m", input=each)
                    answered.append(True)
                except openai.AuthenticationError:
                    answered.append(False)

        return answered

    second_turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with ModelServer(HELLO, faults=rules) as server:
        texts = ["pick me", "other", "pick me", "pick me", "pick me"]
        assert asyncio.run(outcomes(server, texts)) == [True, True, False, False, True]
        assert asyncio.run(outcomes(server, [second_turn] * 3)) == [False] * 3
        server.clear_faults()
        assert asyncio.run(outcomes(server, [second_turn])) == [True]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({}, "needs a `kind`"),
        ({"kind": "explode"}, "unknown fault kind"),
        ({"kind": "delay"}, "needs `seconds`"),
        ({"kind": "hang", "nht": 1}, "nht"),
        ({"kind": "hang", "nth": "1"}, "nth"),
        ({"kind": "hang", "endpoint": "moon"}, "moon"),
    ],
)
def test_a_malformed_fault_is_refused_with_what_is_wrong(rule, reason):
    with pytest.raises(ValueError, match=reason):
        FaultRule.from_json(rule)


def test_a_rule_survives_the_way_to_the_server_and_back():
    rule = FaultRule(
        fault=Fault(kind="status", status=503, retry_after=1.5),
        endpoint="ledger",
        contains="x",
        nth=3,
        times=None,
    )
    assert FaultRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule
