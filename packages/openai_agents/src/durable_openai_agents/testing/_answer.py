"""What a policy gives back, and the ids that an answer gets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ._fault import Fault
from ._json import JsonObject
from ._request import ModelRequest

CREATED_AT = 1_735_689_600
"""The time in every answer. A constant, since an answer is a function of its request alone."""


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """One tool call (or handoff) that the model asks for."""

    name: str
    arguments: JsonObject = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Answer:
    """One model output: text, function calls, or both.

    Structured output is text too: the JSON that fits the request's `output_schema`.
    """

    text: str | None = None
    calls: Sequence[FunctionCall] = ()

    def __post_init__(self) -> None:
        if self.text is None and not self.calls:
            raise ValueError("an Answer needs text or at least one function call")


Policy: TypeAlias = Callable[[ModelRequest], Answer | Fault]
"""The scripted mind of a model.

It must be a pure function of the request: a request that is sent again (a retry, a repeated call
after a crash) has to get the same answer, and the server is free to ask it in any order.
"""


def call_id(request: ModelRequest, index: int) -> str:
    """Return the id of the answer's function call number `index`.

    Equal for equal requests and, since a conversation only grows, unique within one.
    """
    return derived_id("call", request, index)


def derived_id(prefix: str, request: ModelRequest, index: int = 0) -> str:
    """Return an id that is a function of the request and `index`."""
    seed = f"{prefix}/{request.digest}/{index}"
    return f"{prefix}_{hashlib.sha256(seed.encode()).hexdigest()[:24]}"


def encoded_arguments(call: FunctionCall) -> str:
    """Return the arguments as models write them: JSON text."""
    return json.dumps(dict(call.arguments), ensure_ascii=False)


def token_counts(request: ModelRequest, answer: Answer) -> tuple[int, int]:
    """Return plausible (input, output) token counts: one per four characters, at least one."""
    sent = len(request.instructions) + sum(len(json.dumps(dict(item))) for item in request.items)
    given = len(answer.text or "") + sum(
        len(call.name) + len(encoded_arguments(call)) for call in answer.calls
    )
    return max(1, sent // 4), max(1, given // 4)
