"""Errors of model clients come back as themselves, and are retried by their kind."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import time
from typing import Any

import agents.exceptions
import httpx2
import openai
import pytest
from agents import (
    UserError,
)
from agents.guardrail import GuardrailFunctionOutput, InputGuardrail, InputGuardrailResult
from durable_core.payloads import _json
from durable_core.payloads._failures import Registry
from durable_openai_agents import _errors


def through_json(value: Any) -> Any:
    """Return what the engine gives back of a record."""
    return _json.decode(_json.encode(value, what="a record"), Any, what="a record")


# -- errors ------------------------------------------------------------------------------------

STATUSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    408: openai.APIStatusError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}
URL = "https://api.example.com/v1/responses"


def request(url: str = URL) -> Any:
    return httpx2.Request("POST", url, headers={"authorization": "Bearer sk-secret"})


def status_error(status: int, *, body: Any = None, **headers: str) -> openai.APIStatusError:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = httpx2.Response(
        status, headers=headers, request=request(f"{URL}?key=sk-secret"), json=body
    )
    return STATUSES[status](f"Error code: {status}", response=answer, body=body)


def rebuilt(error: BaseException) -> BaseException:
    """Return what the engine makes of the record of an exception."""
    registry = Registry()
    failure = registry.record(error)
    assert "sk-secret" not in str(failure)
    return registry.rebuild(failure)


@pytest.mark.parametrize("status", STATUSES)
def test_an_error_of_a_status_comes_back_as_itself(status):
    body = {"message": "no", "type": "t", "param": "p", "code": "c", "extra": [1, {"a": None}]}
    error = status_error(
        status, body=body, x_request_id="req_1", retry_after="7", content_type="application/json"
    )
    again = rebuilt(error)
    assert type(again) is type(error)
    assert (str(again), again.message, again.args) == (str(error), error.message, error.args)
    assert (again.status_code, again.body, again.request_id) == (status, body, "req_1")
    assert (again.type, again.param, again.code) == ("t", "p", "c")
    assert again.response.status_code == status
    assert again.response.headers["retry-after"] == "7"
    assert (again.request.method, str(again.request.url)) == ("POST", URL)


@pytest.mark.parametrize("body", [None, "text", ["list"], {"error": "text"}, {}])
def test_an_error_comes_back_whatever_the_server_said(body):
    again = rebuilt(status_error(500, body=body))
    assert type(again) is openai.InternalServerError
    assert again.body == body


def test_only_known_headers_are_recorded():
    again = rebuilt(
        status_error(429, set_cookie="sk-secret", openai_organization="sk-secret", retry_after="1")
    )
    assert set(again.response.headers) == {"retry-after", "content-type"} - (
        set() if "content-type" in again.response.headers else {"content-type"}
    )


def test_a_date_to_retry_after_is_recorded_as_seconds():
    due = email.utils.format_datetime(
        datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60), usegmt=True
    )
    again = rebuilt(status_error(429, retry_after=due))
    assert 50 < float(again.response.headers["retry-after"]) <= 60


def test_a_kind_of_error_that_the_client_no_longer_has_comes_back_as_its_base():
    class Renamed(openai.APIStatusError):
        pass

    answer = httpx2.Response(418, request=request())
    again = rebuilt(Renamed("a teapot", response=answer, body=None))
    assert type(again) is openai.APIStatusError
    assert (again.status_code, str(again)) == (418, "a teapot")


def test_lost_connections_and_timeouts_come_back_with_their_cause():
    cause = httpx2.ConnectError("refused")
    error = openai.APIConnectionError(
        message="Connection error.", request=request(f"{URL}?key=sk-secret")
    )
    error.__cause__ = cause
    again = rebuilt(error)
    assert type(again) is openai.APIConnectionError
    assert (str(again), str(again.request.url)) == ("Connection error.", URL)
    assert "refused" in str(again.__cause__)
    timeout = rebuilt(openai.APITimeoutError(request()))
    assert type(timeout) is openai.APITimeoutError
    assert str(timeout) == "Request timed out."


def test_a_kind_of_lost_connection_that_is_unknown_comes_back_as_its_base():
    class Renamed(openai.APIConnectionError):
        pass

    again = rebuilt(Renamed(message="gone", request=request()))
    assert (type(again), str(again)) == (openai.APIConnectionError, "gone")


SDK_ERRORS = [
    agents.exceptions.AgentsException("a"),
    agents.exceptions.UserError("you"),
    agents.exceptions.ModelBehaviorError("the model"),
    agents.exceptions.MaxTurnsExceeded("too many"),
    agents.exceptions.ToolTimeoutError(tool_name="slow", timeout_seconds=0.5),
    agents.exceptions.ModelTimeoutError(1.5),
]


@pytest.mark.parametrize("error", SDK_ERRORS, ids=lambda e: type(e).__name__)
def test_an_error_of_the_sdk_comes_back_as_itself(error):
    again = rebuilt(error)
    assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
    assert vars(again) == vars(error)


def test_an_error_of_the_sdk_with_live_objects_comes_back_without_them():
    guardrail = InputGuardrail(guardrail_function=lambda *_: None, name="strict")
    output = GuardrailFunctionOutput(output_info=object(), tripwire_triggered=True)
    error = agents.exceptions.InputGuardrailTripwireTriggered(
        InputGuardrailResult(guardrail, output)
    )
    again = rebuilt(error)
    assert type(again) is agents.exceptions.InputGuardrailTripwireTriggered
    assert str(again) == str(error)


def test_an_error_of_the_users_comes_back_as_the_sdks_that_it_extends():
    class Refusal(UserError):
        def __init__(self, code: int) -> None:
            self.code = code
            super().__init__(f"refused: {code}")

    again = rebuilt(Refusal(7))
    assert (type(again), str(again), again.code) == (UserError, "refused: 7", 7)


# -- retries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        *((status_error(status), status in {408, 409, 429, 500, 503}) for status in STATUSES),
        (status_error(400, x_should_retry="true"), True),
        (status_error(401, x_should_retry="true"), True),
        (status_error(500, x_should_retry="false"), False),
        (status_error(429, x_should_retry="false"), False),
        (status_error(429, x_should_retry="maybe"), True),
        (openai.APIConnectionError(request=request()), True),
        (openai.APITimeoutError(request()), True),
        (httpx2.ConnectError("no"), True),
        (httpx2.ReadTimeout("slow"), True),
        (httpx2.InvalidURL("bad"), False),
        (openai.OpenAIError("no key"), False),
        (
            openai.APIResponseValidationError(httpx2.Response(200, request=request()), body=None),
            False,
        ),
        (agents.exceptions.ModelBehaviorError("odd"), False),
        (UserError("wrong"), False),
        (ValueError("a bug"), False),
        (TimeoutError("mine"), False),
        (asyncio.CancelledError(), False),
    ],
    ids=lambda v: (
        f"{type(v).__name__} {getattr(v, 'status_code', '')}"
        if isinstance(v, BaseException)
        else str(v)
    ),
)
def test_which_failures_are_tried_again(error, retry):
    assert _errors.decide(error).retry is retry


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({}, None, None),
        ({"retry_after": "0"}, 0, 0),
        ({"retry_after": "3"}, 3, 3),
        ({"retry_after": "2.5"}, 2.5, 2.5),
        ({"retry_after_ms": "250"}, 0.25, 0.25),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25, 0.25),
        ({"retry_after": "600"}, 600, 600),
        ({"retry_after": "601"}, None, None),
        ({"retry_after": "-1"}, None, None),
        ({"retry_after": "soon"}, None, None),
        ({"retry_after": ""}, None, None),
        ({"retry_after": "nan"}, None, None),
        ({"retry_after": "inf"}, None, None),
        ({"retry_after_ms": "soon"}, None, None),
    ],
    ids=str,
)
def test_how_long_a_server_may_ask_to_wait(headers, least, most):
    after = _errors.decide(status_error(429, **headers)).after
    if least is None:
        assert after is None
    else:
        assert after is not None
        assert least <= after <= most


@pytest.mark.parametrize(("seconds", "heeded"), [(120, True), (-5, False), (5000, False)])
def test_a_server_may_name_the_time_until_when_to_wait(seconds, heeded):
    due = email.utils.formatdate(time.time() + seconds, usegmt=True)
    after = _errors.decide(status_error(429, retry_after=due)).after
    if heeded:
        assert after is not None
        assert seconds - 30 < after <= seconds
    else:
        assert after is None


def test_a_final_failure_has_no_delay():
    assert _errors.decide(status_error(401, retry_after="3")).after is None
