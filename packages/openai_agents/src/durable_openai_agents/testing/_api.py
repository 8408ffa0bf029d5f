"""The two APIs of OpenAI as tables: how a request is read and how an answer is written.

Answers are written whole. A streamed answer would be one more function per API, from the same
`ModelRequest` and `Answer` to server-sent events; until then `stream: true` is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ._answer import CREATED_AT, Answer, call_id, derived_id, encoded_arguments, token_counts
from ._json import JsonObject, as_object, as_objects, as_text
from ._request import BadRequestError, ModelRequest, public_headers, text_of


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API: reads a body into a `ModelRequest`, writes an `Answer` as a body."""

    read: Callable[[JsonObject, Mapping[str, str]], ModelRequest]
    write: Callable[[ModelRequest, Answer], dict[str, object]]


def read_request(path: str, body: JsonObject, headers: Mapping[str, str]) -> ModelRequest:
    """Return what a policy sees of a body that was posted to `path`, such as `/v1/responses`.

    Raises:
        BadRequestError: It asks for something that the model server cannot do.
    """
    if path not in DIALECTS:
        raise BadRequestError(f"no API at {path}; there are {', '.join(DIALECTS)}")

    if body.get("stream"):
        raise BadRequestError(
            "this model server does not stream; send the request without `stream`"
        )

    for name in ("previous_response_id", "conversation"):
        if body.get(name):
            raise BadRequestError(f"this model server keeps no state; send the items, not `{name}`")

    return DIALECTS[path].read(body, headers)


def _read_responses(body: JsonObject, headers: Mapping[str, str]) -> ModelRequest:
    given = body.get("input")
    items = ({"role": "user", "content": given},) if isinstance(given, str) else as_objects(given)
    tools = {
        as_text(tool.get("name")) or as_text(tool.get("type")): as_object(tool.get("parameters"))
        for tool in as_objects(body.get("tools"))
    }
    form = as_object(as_object(body.get("text")).get("format"))
    return ModelRequest(
        api="responses",
        model=as_text(body.get("model")),
        instructions=as_text(body.get("instructions")),
        items=items,
        tools=tools,
        output_schema=as_object(form["schema"]) if form.get("type") == "json_schema" else None,
        body=body,
        headers=public_headers(headers),
    )


def _write_response(request: ModelRequest, answer: Answer) -> dict[str, object]:
    output: list[dict[str, object]] = []
    none: list[object] = []
    if answer.text is not None:
        part = {"type": "output_text", "text": answer.text, "annotations": none, "logprobs": none}
        output.append(
            {
                "id": derived_id("msg", request),
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )

    output.extend(
        {
            "id": derived_id("fc", request, index),
            "type": "function_call",
            "status": "completed",
            "call_id": call_id(request, index),
            "name": call.name,
            "arguments": encoded_arguments(call),
        }
        for index, call in enumerate(answer.calls)
    )
    sent, given = token_counts(request, answer)
    return {
        "id": derived_id("resp", request),
        "object": "response",
        "created_at": float(CREATED_AT),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions or None,
        "metadata": {},
        "model": request.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": sent,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": given,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sent + given,
        },
    }


def _read_chat(body: JsonObject, headers: Mapping[str, str]) -> ModelRequest:
    messages = as_objects(body.get("messages"))
    leading = 0
    while leading < len(messages) and messages[leading].get("role") in {"system", "developer"}:
        leading += 1

    tools = [as_object(tool.get("function")) for tool in as_objects(body.get("tools"))]
    form = as_object(body.get("response_format"))
    schema = as_object(as_object(form.get("json_schema")).get("schema"))
    return ModelRequest(
        api="chat",
        model=as_text(body.get("model")),
        instructions="\n".join(text_of(message.get("content")) for message in messages[:leading]),
        items=tuple(item for message in messages[leading:] for item in _items_of(message)),
        tools={as_text(tool.get("name")): as_object(tool.get("parameters")) for tool in tools},
        output_schema=schema if form.get("type") == "json_schema" else None,
        body=body,
        headers=public_headers(headers),
    )


def _items_of(message: JsonObject) -> list[JsonObject]:
    """Return one chat message as items of the Responses API."""
    content = message.get("content")
    if message.get("role") == "tool":
        output = text_of(content)
        call = message.get("tool_call_id")
        return [{"type": "function_call_output", "call_id": call, "output": output}]

    if message.get("role") != "assistant":
        parts = (
            content if isinstance(content, str) else [_input_part(p) for p in as_objects(content)]
        )
        return [{"role": message.get("role"), "content": parts}]

    items: list[JsonObject] = []
    if text_of(content):
        part = {"type": "output_text", "text": text_of(content)}
        items.append({"type": "message", "role": "assistant", "content": [part]})

    for call in as_objects(message.get("tool_calls")):
        function = as_object(call.get("function"))
        items.append(
            {
                "type": "function_call",
                "call_id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )

    return items


def _input_part(part: JsonObject) -> JsonObject:
    if part.get("type") == "text":
        return {"type": "input_text", "text": part.get("text")}

    if part.get("type") == "image_url":
        image = as_object(part.get("image_url"))
        return {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail")}

    return part


def _write_chat(request: ModelRequest, answer: Answer) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call_id(request, index),
                "type": "function",
                "function": {"name": call.name, "arguments": encoded_arguments(call)},
            }
            for index, call in enumerate(answer.calls)
        ]

    sent, given = token_counts(request, answer)
    finish = "tool_calls" if answer.calls else "stop"
    return {
        "id": derived_id("chatcmpl", request),
        "object": "chat.completion",
        "created": CREATED_AT,
        "model": request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {
            "prompt_tokens": sent,
            "completion_tokens": given,
            "total_tokens": sent + given,
        },
    }


DIALECTS: Mapping[str, Dialect] = {
    "/v1/responses": Dialect(read=_read_responses, write=_write_response),
    "/v1/chat/completions": Dialect(read=_read_chat, write=_write_chat),
}
"""The APIs by the path that they are posted to."""
