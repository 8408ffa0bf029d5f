"""What `DurableRunner` makes of failures of the model's server, over real HTTP."""

from __future__ import annotations

import asyncio
import datetime
from itertools import pairwise
from typing import Any

import openai
import pytest
from agents import (
    ModelRetryBackoffSettings,
    ModelRetrySettings,
    ModelSettings,
    OpenAIProvider,
    RunConfig,
    Runner,
    function_tool,
    retry_policies,
)
from durable_core.common import RetryPolicy
from durable_openai_agents import CallOptions, DurableRunner, RunOptions
from support.agents_bench import ECHO, agent, call, say
from support.agents_projection import project, same

pytest_plugins = ["support.agents_fixtures"]

BOTH_APIS = pytest.mark.parametrize("api", ["responses", "chat"])
AT_ONCE = RetryPolicy(initial_interval=datetime.timedelta(milliseconds=1), maximum_attempts=2)
AGAIN = RunOptions(on_failed="raise")
TWICE = RunOptions(model=CallOptions(retry_policy=AT_ONCE))


def attempts(bench, id: str = "run") -> list[list[tuple[str, str]]]:
    """Return outcome and failure type of the attempts of each model call."""
    calls = bench.activities(id, "openai_agents.model")
    return [[(a.outcome, a.failure.type if a.failure else "") for a in c.attempts] for c in calls]


# -- failures that are final -------------------------------------------------------------------

FINAL = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    422: openai.UnprocessableEntityError,
}


@pytest.mark.parametrize("status", FINAL)
@BOTH_APIS
def test_a_refused_request_fails_the_run_at_once(bench, api, status):
    bench.api = api
    bench.fault("status", status=status, message="not like this", times=None)
    plain, live, recorded = bench.compare_failures(agent("Greeter", say("hello")))
    for error in (plain, live, recorded):
        assert type(error) is FINAL[status]
        assert error.status_code == status
        assert error.body == plain.body
        assert (error.code, error.type, error.param) == (plain.code, plain.type, plain.param)
        assert error.message == plain.message
        assert error.response.status_code == status
        assert str(error.request.url) == str(plain.request.url)
        assert error.request.method == "POST"

    assert attempts(bench) == [[("failed", f"openai.{FINAL[status].__name__}")]]


def test_a_refused_request_is_made_once(bench):
    bench.fault("status", status=401, times=None)
    bench.failure(agent("Greeter", say("hello")))
    assert [(r.status, r.retry) for r in bench.requests()] == [(401, 0)]


def test_a_failure_late_in_a_run_keeps_what_was_done_before(bench):
    @function_tool
    async def work() -> str:
        bench.ran.append("work")
        return "done"

    bench.fault("status", status=400, turn=1, times=2)
    worker = agent("Worker", call("work"), ECHO, tools=[work])
    errors = [bench.failure(worker, workflow_id="run") for _ in range(2)]
    assert [type(e) for e in errors] == [openai.BadRequestError] * 2
    assert bench.ran == ["work"]
    assert [r.status for r in bench.requests()] == [200, 400, 400]
    assert [a.status for a in bench.activities()] == ["completed", "completed", "failed"]
    bench.run_once(worker, workflow_id="run")
    assert bench.ran == ["work"]
    assert [r.status for r in bench.requests()] == [200, 400, 400, 200]
    last = bench.activities()[-1]
    assert [a.outcome for a in last.attempts] == ["failed", "failed", "completed"]


# -- failures that pass ------------------------------------------------------------------------

PASSING = {
    408: openai.APIStatusError,
    409: openai.ConflictError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
}


@pytest.mark.parametrize("status", PASSING)
@BOTH_APIS
def test_a_passing_failure_is_tried_again(bench, api, status, caplog):
    bench.api = api
    bench.fault("status", status=status, retry_after=0)
    result = bench.run_once(agent("Greeter", say("hello")), workflow_id="run")
    assert result.final_output == "hello"
    # Retries of the client itself would be counted in its header.
    assert [(r.status, r.retry) for r in bench.requests()] == [(status, 0), (200, 0)]
    assert attempts(bench) == [
        [("failed", f"openai.{PASSING[status].__name__}"), ("completed", "")]
    ]
    [warned] = [r for r in caplog.records if "next attempt" in r.getMessage()]
    assert warned.levelname == "WARNING"
    assert "openai_agents.model" in warned.getMessage()


def test_the_result_after_a_retry_is_that_without_one(bench):
    greeter = agent("Greeter", say("hello"))
    plain = bench.plainly(greeter)
    bench.fault("status", status=503, retry_after=0, times=3)
    live = bench.run_once(greeter, workflow_id="run")
    bench.forget()
    recorded = bench.run_once(greeter, workflow_id="run")
    assert bench.requests() == []
    for result in (live, recorded):
        same(project(result, greeter), project(plain, greeter), "the result")


@pytest.mark.parametrize("seconds", [0.6, 1.3])
def test_retry_after_is_waited_for(bench, seconds, caplog):
    bench.fault("status", status=429, retry_after=seconds, times=2)
    assert bench.run_once(agent("Greeter", say("hello")), workflow_id="run").final_output == "hello"
    gaps = [later - earlier for earlier, later in pairwise(bench.times())]
    assert len(gaps) == 2
    assert all(seconds <= gap < seconds + 1 for gap in gaps)
    messages = [r.getMessage() for r in caplog.records if "next attempt" in r.getMessage()]
    assert all(f"in {seconds:.1f} s" in message for message in messages)
    [call] = bench.activities()
    assert [a.number for a in call.attempts] == [1, 2, 3]
    assert all(a.ended >= a.started for a in call.attempts)


def test_without_retry_after_the_delays_grow(bench):
    bench.fault("status", status=500, times=2)
    bench.run_once(agent("Greeter", say("hello")))
    first, second = (later - earlier for earlier, later in pairwise(bench.times()))
    assert 0.5 <= first < 1
    assert 1 <= second < 2


def test_six_attempts_are_the_most(bench):
    bench.fault("status", status=503, retry_after=0, message="overloaded", times=None)
    greeter = agent("Greeter", say("hello"))
    live = bench.failure(greeter, workflow_id="run")
    assert type(live) is openai.InternalServerError
    assert [(r.status, r.retry) for r in bench.requests()] == [(503, 0)] * 6
    assert attempts(bench) == [[("failed", "openai.InternalServerError")] * 6]
    assert all("overloaded" in a.failure.message for a in bench.activities()[0].attempts)
    bench.forget()
    recorded = bench.failure(greeter, workflow_id="run", options=AGAIN)
    assert bench.requests() == []
    assert (type(recorded), str(recorded)) == (type(live), str(live))
    assert recorded.response.headers["retry-after"] == "0"


def test_each_model_call_has_six_attempts_of_its_own(bench):
    @function_tool
    async def work() -> str:
        return "done"

    for turn in (0, 1):
        bench.fault("status", status=503, retry_after=0, turn=turn, times=5)

    assert (
        bench.run_once(agent("Worker", call("work"), ECHO, tools=[work])).final_output == '["done"]'
    )
    assert len(bench.requests()) == 12


@pytest.mark.parametrize("kind", ["cut", "hang"])
@BOTH_APIS
def test_a_lost_or_silent_connection_is_tried_again(bench, api, kind):
    bench.api = api
    bench.fault(kind)
    result = bench.run_once(
        agent("Greeter", say("hello")),
        workflow_id="run",
        config={"client": {"timeout": 0.4}},
        options=TWICE,
    )
    assert result.final_output == "hello"
    expected = "openai.APITimeoutError" if kind == "hang" else "openai.APIConnectionError"
    [[(outcome, failure), last]] = attempts(bench)
    assert (outcome, last) == ("failed", ("completed", ""))
    assert failure == expected or failure.endswith("RemoteProtocolError")
    assert [r.retry for r in bench.requests()] == [0, 0]


def test_the_timeout_is_that_of_the_users_client(bench):
    bench.fault("hang", times=None)
    greeter = agent("Greeter", say("hello"))
    config = {"client": {"timeout": 0.3}}
    live = bench.failure(greeter, workflow_id="run", config=config, options=TWICE)
    gaps = [later - earlier for earlier, later in pairwise(bench.times())]
    assert len(gaps) == 1
    assert 0.3 <= gaps[0] < 2
    bench.forget()
    recorded = bench.failure(greeter, workflow_id="run", config=config, options=AGAIN)
    assert bench.requests() == []
    for error in (live, recorded):
        assert type(error) is openai.APITimeoutError
        assert str(error) == "Request timed out."


def test_a_server_that_is_not_there_is_tried_again_and_then_reported(bench):
    greeter = agent("Greeter", say("hello"))

    async def run(options: RunOptions) -> Any:
        async with openai.AsyncOpenAI(
            base_url="http://127.0.0.1:9/v1", api_key="sk-test"
        ) as client:
            config = RunConfig(
                model_provider=OpenAIProvider(openai_client=client), tracing_disabled=True
            )
            with pytest.raises(openai.APIConnectionError) as raised:
                await DurableRunner.run(
                    greeter, "hi", run_config=config, workflow_id="run", options=options
                )

            return raised.value

    live, recorded = asyncio.run(run(TWICE)), asyncio.run(run(AGAIN))
    assert attempts(bench) == [[("failed", "openai.APIConnectionError")] * 2]
    assert (type(recorded), str(recorded)) == (type(live), str(live))
    assert str(recorded.request.url) == "http://127.0.0.1:9/v1/responses"


def test_the_users_policy_says_how_often(bench):
    bench.fault("status", status=503, times=None)
    policy = RetryPolicy(initial_interval=datetime.timedelta(milliseconds=1), maximum_attempts=3)
    options = RunOptions(model=CallOptions(retry_policy=policy))
    error = bench.failure(agent("Greeter", say("hello")), options=options)
    assert type(error) is openai.InternalServerError
    assert len(bench.requests()) == 3


def test_a_limit_on_one_attempt_is_kept(bench):
    bench.fault("delay", seconds=5.0)
    limit = CallOptions(
        start_to_close_timeout=datetime.timedelta(seconds=0.2), retry_policy=AT_ONCE
    )
    error = bench.failure(
        agent("Greeter", say("hello")), workflow_id="run", options=RunOptions(model=limit)
    )
    assert "start-to-close" in str(error)


# -- retries by the settings of the SDK --------------------------------------------------------


def retrying(bench, noted: list[Any], *, max_retries: int = 2, **backoff: Any) -> ModelSettings:
    """Return settings that retry 503 in the SDK, and note what the policy is told."""

    def policy(context: Any) -> bool:
        advice = context.provider_advice
        normalized = context.normalized
        noted.append(
            (
                type(context.error).__name__,
                context.attempt,
                normalized.status_code,
                normalized.error_code,
                normalized.message,
                normalized.retry_after,
                normalized.is_network_error,
                normalized.is_timeout,
                advice
                and (advice.suggested, advice.retry_after, advice.replay_safety, advice.reason),
            )
        )
        return normalized.status_code == 503

    options = {"initial_delay": 0.01, "max_delay": 0.05, **backoff}
    settings = ModelRetrySettings(
        max_retries=max_retries, policy=policy, backoff=ModelRetryBackoffSettings(**options)
    )
    return ModelSettings(retry=settings)


@pytest.mark.counts_executions
@pytest.mark.parametrize("jitter", [True, False])
@BOTH_APIS
def test_the_sdks_own_retries_are_honoured_and_not_multiplied(bench, api, jitter):
    bench.api = api
    seen: list[list[Any]] = []
    results = []
    for runner, id in (
        (Runner, {}),
        (DurableRunner, {"workflow_id": "run"}),
        (DurableRunner, {"workflow_id": "run"}),
    ):
        noted: list[Any] = []
        greeter = agent(
            "Greeter", say("hello"), model_settings=retrying(bench, noted, jitter=jitter)
        )
        bench.forget()
        if len(results) < 2:
            bench.fault("status", status=503, times=2)

        # The SDK leaves the first attempt to the client, whose own retries are off for the
        # comparison.
        config = {"client": {"max_retries": 0}} if runner is Runner else None
        results.append(bench.run_once(greeter, runner=runner, config=config, **id))
        seen.append(noted)
        assert len(bench.requests()) == (3 if len(results) < 3 else 0)

    assert len(seen[0]) == 2
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]
    assert [r.context_wrapper.usage.requests for r in results] == [3, 3, 3]
    projections = [project(result) for result in results]
    same(projections[1], projections[0], "the live result")
    same(projections[2], projections[0], "the recorded result")
    assert attempts(bench) == [
        [("failed", "openai.InternalServerError")],
        [("failed", "openai.InternalServerError")],
        [("completed", "")],
    ]


def test_the_sdks_own_retries_end_where_they_say(bench):
    noted: list[Any] = []
    greeter = agent("Greeter", say("hello"), model_settings=retrying(bench, noted))
    bench.fault("status", status=503, times=None)
    error = bench.failure(greeter, workflow_id="run")
    assert type(error) is openai.InternalServerError
    assert [r.retry for r in bench.requests()] == [0] * 3
    bench.forget()
    again = bench.failure(greeter, workflow_id="run", options=AGAIN)
    assert type(again) is openai.InternalServerError
    assert bench.requests() == []


def test_the_sdks_own_retries_leave_other_failures_alone(bench):
    noted: list[Any] = []
    greeter = agent("Greeter", say("hello"), model_settings=retrying(bench, noted))
    bench.fault("status", status=500, times=None)
    assert type(bench.failure(greeter)) is openai.InternalServerError
    assert len(bench.requests()) == 1


@pytest.mark.counts_executions
@pytest.mark.parametrize("kind", ["cut", "hang"])
def test_the_sdks_own_retries_see_lost_connections(bench, kind):
    seen = []
    for runner in (Runner, DurableRunner):
        noted: list[Any] = []
        settings = retrying(bench, noted)
        settings.retry.policy = retry_policies.any(
            settings.retry.policy, retry_policies.network_error()
        )
        bench.fault(kind)
        config = {"client": {"timeout": 0.4, "max_retries": 0}}
        bench.run_once(
            agent("Greeter", say("hello"), model_settings=settings), runner=runner, config=config
        )
        seen.append(noted)

    assert seen[1] == seen[0]


def test_retry_after_is_waited_for_by_the_sdks_own_retries(bench):
    settings = ModelSettings(
        retry=ModelRetrySettings(max_retries=1, policy=retry_policies.provider_suggested())
    )
    bench.fault("status", status=429, retry_after=0.7)
    greeter = agent("Greeter", say("hello"), model_settings=settings)
    for _ in range(2):
        assert bench.run_once(greeter, workflow_id="run").final_output == "hello"

    [gap] = [later - earlier for earlier, later in pairwise(bench.times())]
    assert 0.7 <= gap < 1.7


def test_a_timeout_of_the_model_settings_ends_the_call(bench):
    greeter = agent("Greeter", say("hello"), model_settings=ModelSettings(timeout=0.3))
    bench.fault("hang", times=None)
    plain, live, recorded = bench.compare_failures(greeter)
    assert type(recorded).__name__ == "ModelTimeoutError"
    [timed_out] = bench.activities()
    assert timed_out.status == "cancelled"
