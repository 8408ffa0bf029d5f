"""Model responses come back from the record as they were: nothing is lost or changed."""

from __future__ import annotations

from typing import Any

import pytest
from agents import (
    ModelResponse,
    Usage,
)
from agents.testing import assistant_message, function_call
from agents.usage import RequestUsage
from durable_core.payloads import _json
from durable_openai_agents import _responses
from openai._models import construct_type
from openai.types.responses import Response
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails
from support.agents_projection import plain, same


def through_json(value: Any) -> Any:
    """Return what the engine gives back of a record."""
    return _json.decode(_json.encode(value, what="a record"), Any, what="a record")


# -- model responses ---------------------------------------------------------------------------

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
}
CITATION = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 5,
    "title": "t",
    "url": "http://x/",
}
ITEMS: dict[str, dict[str, Any]] = {
    "message": MESSAGE,
    "message with logprobs": {
        **MESSAGE,
        "content": [
            {
                "type": "output_text",
                "text": "Hello",
                "annotations": [CITATION],
                "logprobs": [{"token": "H", "bytes": [72], "logprob": -0.5, "top_logprobs": []}],
            }
        ],
    },
    "message without logprobs": {
        **MESSAGE,
        "content": [{**MESSAGE["content"][0], "logprobs": None}],
    },
    "message without id and status": {
        k: v for k, v in MESSAGE.items() if k not in {"id", "status"}
    },
    "message with unknown fields": {
        **MESSAGE,
        "phase": "final_answer",
        "new_field": {"nested": [1, None]},
        "content": [{**MESSAGE["content"][0], "confidence": 0.25}],
    },
    "message with an unknown part": {**MESSAGE, "content": [{"type": "hologram", "data": "x"}]},
    "message without content": {**MESSAGE, "content": []},
    "refusal": {**MESSAGE, "content": [{"type": "refusal", "refusal": "No."}]},
    "function call": {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "f",
        "arguments": '{"a": 1}',
        "status": "completed",
    },
    "function call without id and status": {
        "type": "function_call",
        "call_id": "call_1",
        "name": "f",
        "arguments": "{}",
    },
    "function call with nulls": {
        "type": "function_call",
        "call_id": "call_1",
        "name": "f",
        "arguments": "not json",
        "id": None,
        "status": None,
    },
    "reasoning": {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Thinking"}],
        "encrypted_content": "gAAAA==",
        "status": None,
    },
    "reasoning with provider data": {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
        "provider_data": {"model": "other", "signature": "abc"},
    },
    "web search": {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "q", "sources": None},
    },
    "file search": {
        "id": "fs_1",
        "type": "file_search_call",
        "status": "completed",
        "queries": ["q"],
        "results": [
            {
                "file_id": "f",
                "score": 0.5,
                "text": "t",
                "attributes": {"a": 1.0, "b": True, "c": "d"},
            }
        ],
    },
    "code interpreter": {
        "id": "ci_1",
        "type": "code_interpreter_call",
        "code": "1 + 1",
        "container_id": "c",
        "outputs": [{"type": "logs", "logs": "2"}],
        "status": "completed",
    },
    "image": {
        "id": "ig_1",
        "type": "image_generation_call",
        "result": "iVBO",
        "status": "completed",
    },
    "computer": {
        "id": "cu_1",
        "type": "computer_call",
        "call_id": "call_1",
        "action": {"type": "click", "button": "left", "x": 1, "y": 2},
        "pending_safety_checks": [{"id": "s", "code": "c", "message": "m"}],
        "status": "completed",
    },
    "mcp call": {
        "id": "mcp_1",
        "type": "mcp_call",
        "name": "n",
        "server_label": "s",
        "arguments": "{}",
        "output": "o",
        "error": None,
    },
    "mcp tools": {
        "id": "mcpl_1",
        "type": "mcp_list_tools",
        "server_label": "s",
        "tools": [{"name": "n", "input_schema": {"type": "object"}, "annotations": None}],
    },
    "mcp approval": {
        "id": "mcpr_1",
        "type": "mcp_approval_request",
        "name": "n",
        "server_label": "s",
        "arguments": "{}",
    },
    "local shell": {
        "id": "ls_1",
        "type": "local_shell_call",
        "call_id": "call_1",
        "status": "completed",
        "action": {"type": "exec", "command": ["ls"], "env": {"A": "b"}},
    },
    "custom tool": {
        "id": "ct_1",
        "type": "custom_tool_call",
        "call_id": "call_1",
        "name": "n",
        "input": "text",
    },
    "unknown": {"id": "x_1", "type": "brand_new_call", "payload": {"deep": [{"a": None}]}},
}


def response(*items: dict[str, Any], **fields: Any) -> ModelResponse:
    """Return a response whose items the client library has parsed, as from the wire."""
    parsed = construct_type(
        type_=Response, value={"id": "resp_1", "object": "response", "output": list(items)}
    )
    usage = Usage(requests=1, input_tokens=10, output_tokens=5, total_tokens=15)
    return ModelResponse(
        **{"output": parsed.output, "usage": usage, "response_id": "resp_1", **fields}
    )


def assert_comes_back(original: ModelResponse) -> ModelResponse:
    before = plain(original)
    record = _responses.dump(original)
    same(plain(original), before, "the response after it was recorded")
    loaded = _responses.load(through_json(record))
    same(plain(loaded), before, "the response of the record")
    assert [type(item) for item in loaded.output] == [type(item) for item in original.output]
    assert loaded == original
    assert _responses.dump(loaded) == record
    return loaded


@pytest.mark.parametrize("name", ITEMS)
def test_an_item_of_a_response_comes_back_as_the_client_parsed_it(name):
    original = response(ITEMS[name])
    loaded = assert_comes_back(original)
    [first], [second] = original.output, loaded.output
    assert second.model_fields_set == first.model_fields_set
    assert second.model_extra == first.model_extra
    assert second.to_dict(warnings=False) == first.to_dict(warnings=False)
    try:
        expected = original.to_input_items()
    except Exception as error:
        with pytest.raises(type(error)):
            loaded.to_input_items()
    else:
        assert loaded.to_input_items() == expected


def test_a_response_of_many_items_keeps_their_order():
    loaded = assert_comes_back(response(*ITEMS.values()))
    assert [item.type for item in loaded.output] == [item["type"] for item in ITEMS.values()]


def test_what_the_sdks_test_doubles_make_comes_back():
    output = [assistant_message("hi"), function_call("f", {"a": [1, None]}, call_id="c")]
    assert_comes_back(ModelResponse(output=output, usage=Usage(), response_id=None))


def test_a_response_without_output_comes_back():
    assert_comes_back(ModelResponse(output=[], usage=Usage(), response_id=None))


DETAILS: dict[str, Any] = {
    "input_tokens_details": InputTokensDetails(cached_tokens=3, cache_write_tokens=1),
    "output_tokens_details": OutputTokensDetails(reasoning_tokens=2),
}


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(requests=1, input_tokens=10, output_tokens=5, total_tokens=15),
        Usage(requests=1, input_tokens=10, output_tokens=5, total_tokens=15, **DETAILS),
        Usage(
            requests=2,
            input_tokens=2**40,
            output_tokens=0,
            total_tokens=2**40,
            request_usage_entries=[
                RequestUsage(input_tokens=1, output_tokens=2, total_tokens=3, **DETAILS),
                RequestUsage(input_tokens=0, output_tokens=0, total_tokens=0, **DETAILS),
            ],
            **DETAILS,
        ),
    ],
    ids=["empty", "one", "details", "entries"],
)
def test_usage_comes_back_to_the_single_request(usage):
    loaded = assert_comes_back(response(MESSAGE, usage=usage))
    total = Usage()
    total.add(loaded.usage)
    expected = Usage()
    expected.add(usage)
    same(plain(total), plain(expected), "the sum")


def test_usage_that_a_provider_left_incomplete_is_read():
    usage = Usage(requests=1, input_tokens=3, total_tokens=3)
    usage.input_tokens_details = InputTokensDetails.model_construct(cached_tokens=None)
    loaded = _responses.load(through_json(_responses.dump(response(MESSAGE, usage=usage))))
    assert (loaded.usage.requests, loaded.usage.input_tokens) == (1, 3)
    assert loaded.usage.input_tokens_details.cached_tokens == 0


def test_request_id_and_raw_usage_come_back():
    raw = {"prompt_tokens": 1, "cost": 0.25, "nested": {"a": [None]}}
    loaded = assert_comes_back(response(MESSAGE, request_id="req_1", raw_usage=raw))
    assert (loaded.request_id, loaded.raw_usage) == ("req_1", raw)


def test_a_record_with_more_and_with_fewer_fields_is_read():
    record = through_json(_responses.dump(response(MESSAGE)))
    newer = {**record, "of_a_newer_sdk": 1}
    older = {k: v for k, v in record.items() if k not in {"request_id", "raw_usage"}}
    assert _responses.load(newer) == _responses.load(older) == response(MESSAGE)
