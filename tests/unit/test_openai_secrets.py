"""Credentials of a model call, and errors without them."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import pytest
from agents import HostedMCPTool, ModelSettings, OpenAIResponsesModel, WebSearchTool
from durable_openai_agents._secrets import hide, secrets_of, secrets_sent
from openai import AsyncOpenAI

PLAIN = ModelSettings()
KEY = "sk-0123456789"


def test_the_credentials_of_a_call_are_found_wherever_they_are_given():
    client = AsyncOpenAI(
        api_key=KEY,
        base_url="https://me:pass-word@models.example.com/v1",
        webhook_secret="whsec-0123",
        default_headers={"x-token": "Bearer of-default", "x-title": "My application"},
        default_query={"sig": "of-the-query", "api-version": "2024-06-01-preview"},
    )
    settings = ModelSettings(
        extra_headers={"x-api-key": "of-settings", "x-team": "looks-like-0123456789"},
        extra_query={"access_token": "of-extra-query", "region": "europe-west"},
        extra_body={"deep": [{"token": "of-the-body", "model": "gpt-4o-mini-2024-07-18"}]},
    )
    hosted = HostedMCPTool(
        tool_config={
            "type": "mcp",
            "server_label": "a-label-for-people",
            "authorization": "of-the-tool",
            "headers": {"x-secret": "of-its-header", "content-type": "application/json"},
        }
    )
    model = OpenAIResponsesModel("gpt-5", client)
    assert secrets_of(model, settings, [hosted, WebSearchTool()]) == {
        *(KEY, "pass-word", "whsec-0123", "Bearer of-default", "of-default", "of-the-query"),
        *("of-settings", "looks-like-0123456789", "of-extra-query", "of-the-body"),
        *("of-the-tool", "of-its-header"),
    }


def test_the_credentials_of_the_request_that_was_sent_are_found_too():
    request = httpx.Request(
        "POST",
        "https://me:pass-word@models.example.com/v1?sig=of%2Bthe+query&api-version=2024-06-01",
        headers={"Authorization": "Bearer from-a-function", "Cookie": "of-the-gateway"},
    )
    cause = httpx.ConnectError("no")  # tells of no request
    error = httpx.HTTPStatusError("no", request=request, response=httpx.Response(400))
    error.__cause__ = cause
    assert secrets_sent(error) == {
        *("pass-word", "of%2Bthe+query", "of+the query", "of-the-gateway"),
        *("Bearer from-a-function", "from-a-function"),
    }


def test_a_model_of_somebody_elses_has_a_key_or_none():
    assert secrets_of(SimpleNamespace(api_key=KEY), PLAIN, []) == {KEY}
    assert secrets_of(object(), None, []) == set()
    assert secrets_sent(ValueError("no")) == set()


def test_a_short_text_is_no_secret():
    settings = ModelSettings(extra_headers={"x-key": "fast"}, extra_body={"token": "flex"})
    assert secrets_of(object(), settings, []) == set()


class Problem(Exception):
    """Holds what the text says, once more."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 401)
        self.body = {"error": [{"text": text}], "number": 1}
        self.client = object()


def test_an_error_loses_them_in_all_that_it_holds_and_keeps_the_rest():
    error = Problem(f"no such key: {KEY}!")
    client = error.client
    error.add_note(f"used {KEY}")
    hide(error, [KEY])
    assert error.args == ("no such key: [hidden]!", 401)
    assert error.body == {"error": [{"text": "no such key: [hidden]!"}], "number": 1}
    assert error.client is client
    assert error.__notes__ == ["used [hidden]"]


def test_its_causes_and_the_parts_of_a_group_lose_them_too():
    with pytest.raises(ExceptionGroup) as caught:
        try:
            raise ValueError(KEY)
        except ValueError as error:
            raise ExceptionGroup("several", [Problem(KEY), error]) from Problem(KEY)

    group = caught.value
    group.__cause__.__cause__ = group  # a ring
    hide(group, [KEY])
    for error in (*group.exceptions, group.__cause__, group.__context__):
        assert error.args[0] == "[hidden]"


def test_the_longest_is_replaced_first():
    settings = ModelSettings(extra_headers={"key": "secret-1", "token": "secret-1-and-more"})
    error = ValueError("secret-1-and-more")
    hide(error, secrets_of(object(), settings, []))
    assert str(error) == "[hidden]"
