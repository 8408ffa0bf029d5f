"""One model call as a policy sees it: the same view whichever API carried it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ._json import JsonObject, as_object, as_objects, as_text, canonical, parse_object

Api: TypeAlias = Literal["responses", "chat"]

_MODEL_ITEMS = frozenset({"function_call", "reasoning"})


class BadRequestError(ValueError):
    """The request is one that this server does not answer; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """A tool call of the conversation together with what the tool gave back."""

    call_id: str
    name: str
    arguments: JsonObject
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What a policy answers.

    Args:
        api: The API that carried the request.
        model: The model that was asked for.
        instructions: The agent's instructions; leading system messages for Chat Completions.
        items: The conversation as input items of the Responses API, also for Chat Completions.
        tools: JSON schema of the arguments by function name, handoffs included. Hosted tools are
            listed by their type, with an empty schema.
        output_schema: The JSON schema that the answer's text must fit, if one was asked for.
        body: The request as it was sent.
        headers: Its headers in lower case, without the credentials.
    """

    api: Api
    model: str
    instructions: str
    items: tuple[JsonObject, ...]
    tools: Mapping[str, JsonObject]
    output_schema: JsonObject | None
    body: JsonObject
    headers: Mapping[str, str]

    @property
    def turn(self) -> int:
        """Return how many model outputs the conversation holds already.

        Items of one output stand next to each other, so two outputs with nothing between them
        count as one; agent loops always put tool outputs or a user message there.
        """
        flags = [_from_model(item) for item in self.items]
        return sum(
            here and not before for before, here in zip([False, *flags], flags, strict=False)
        )

    @property
    def agent(self) -> str:
        """Return the first line of the instructions, by which a log tells agents apart."""
        return self.instructions.strip().partition("\n")[0]

    @property
    def digest(self) -> str:
        """Return a digest of instructions and items: equal for a request that is sent again."""
        return hashlib.sha256(canonical([self.instructions, self.items]).encode()).hexdigest()[:32]

    @property
    def user_text(self) -> str:
        """Return the text of the newest user message."""
        for item in reversed(self.items):
            if item.get("role") == "user":
                return text_of(item.get("content"))

        return ""

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """Return the finished tool calls of the conversation, in the order of their calls."""
        outputs = {
            as_text(item.get("call_id")): text_of(item.get("output"))
            for item in self.items
            if item.get("type") == "function_call_output"
        }
        return tuple(
            ToolResult(
                call_id=as_text(item.get("call_id")),
                name=as_text(item.get("name")),
                arguments=_arguments(item.get("arguments")),
                output=outputs[as_text(item.get("call_id"))],
            )
            for item in self.items
            if item.get("type") == "function_call" and as_text(item.get("call_id")) in outputs
        )


def text_of(content: object) -> str:
    """Return the text of a message's content or a tool's output: a string or a list of parts."""
    if isinstance(content, str):
        return content

    return "".join(as_text(part.get("text")) for part in as_objects(content))


def public_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with names in lower case, without those that carry credentials."""
    secret = ("authorization", "cookie", "proxy-authorization", "api-key", "x-api-key")
    return {name.lower(): text for name, text in headers.items() if name.lower() not in secret}


def _from_model(item: JsonObject) -> bool:
    return item.get("type") in _MODEL_ITEMS or item.get("role") == "assistant"


def _arguments(text: object) -> JsonObject:
    try:
        return parse_object(as_text(text))
    except ValueError:
        return as_object(text)
