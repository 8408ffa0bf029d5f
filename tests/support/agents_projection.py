"""What a user can see of a `RunResult`, in JSON's own types, so that two of them can be compared.

Every part is there: values with their types, items with their raw items, whose agents they are and
whether those are the caller's own objects, usage down to the single request, guardrail results.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from agents import Agent, RunResult
from openai import BaseModel as ClientModel
from pydantic import BaseModel

_AGENTS = ("agent", "source_agent", "target_agent")
_LISTS = (
    "input_guardrail_results",
    "output_guardrail_results",
    "tool_input_guardrail_results",
    "tool_output_guardrail_results",
)


def project(result: RunResult, *agents: Agent[Any]) -> dict[str, Any]:
    """Return everything that is visible of a result.

    Args:
        result: Of a run.
        agents: The caller's objects, by which the agents of the result are named: ``#0``, ``#1``, …
            An agent that is none of these very objects is named by its name alone.
    """
    usage = result.context_wrapper.usage
    return {
        "input": plain(result.input),
        "final_output": plain(result.final_output),
        "new_items": [_item(item, agents) for item in result.new_items],
        "raw_responses": [_response(response) for response in result.raw_responses],
        "usage": _usage(usage),
        "requests": len(usage.request_usage_entries),
        "input_list": plain(result.to_input_list()),
        "normalized_input_list": plain(result.to_input_list(mode="normalized")),
        "last_agent": _agent(result.last_agent, agents),
        "last_response_id": result.last_response_id,
        "interruptions": len(result.interruptions),
        "text": str(result),
        **{name: [_guardrail(r, agents) for r in getattr(result, name)] for name in _LISTS},
    }


def _usage(usage: Any) -> dict[str, Any]:
    """Return usage; of agents that ran side by side either may have been the first."""
    found: dict[str, Any] = plain(usage)
    entries = found["request_usage_entries"]
    return {**found, "request_usage_entries": sorted(entries, key=json.dumps)}


def plain(value: Any) -> Any:
    """Return a value in JSON's own types, with the types of whatever is not JSON."""
    if value is None or (
        isinstance(value, (bool, int, float, str)) and not isinstance(value, enum.Enum)
    ):
        return value

    if type(value) is dict:
        return {str(k): plain(v) for k, v in value.items()}

    if type(value) is list:
        return [plain(v) for v in value]

    tag = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, BaseModel):
        type(value).model_rebuild()
        # Of the client's own models only what was set shows in the next request.
        shown = value.model_fields_set if isinstance(value, ClientModel) else set(value.__dict__)
        fields = {name: plain(v) for name, v in value.__dict__.items() if name in shown}
        return {
            "": tag,
            **fields,
            **({"extra": plain(value.model_extra)} if value.model_extra else {}),
        }

    if dataclasses.is_dataclass(value):
        return {
            "": tag,
            **{f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)},
        }

    if isinstance(value, dict):
        return {"": tag, **{str(k): plain(v) for k, v in value.items()}}

    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return {"": tag, "items": [plain(v) for v in value]}

    return {"": tag, "repr": re.sub(r" at 0x[0-9a-f]+", "", repr(value))}


def _agent(agent: Agent[Any] | None, agents: tuple[Agent[Any], ...]) -> str | None:
    if agent is None:
        return None

    numbers = [f"#{i}" for i, known in enumerate(agents) if known is agent]
    return " ".join([agent.name, *numbers])


def _item(item: Any, agents: tuple[Agent[Any], ...]) -> dict[str, Any]:
    seen: dict[str, Any] = {"class": type(item).__name__, "type": item.type}
    seen["raw_item"] = plain(item.raw_item)
    seen["input_item"] = plain(item.to_input_item())
    seen |= {name: _agent(getattr(item, name), agents) for name in _AGENTS if hasattr(item, name)}
    if hasattr(item, "output"):
        seen["output"] = plain(item.output)

    return seen


def _response(response: Any) -> dict[str, Any]:
    return {f.name: plain(getattr(response, f.name)) for f in dataclasses.fields(response)}


def _guardrail(result: Any, agents: tuple[Agent[Any], ...]) -> dict[str, Any]:
    seen = {
        "class": type(result).__name__,
        "guardrail": result.guardrail.get_name(),
        "output": plain(result.output),
    }
    if hasattr(result, "agent"):
        seen |= {"agent": _agent(result.agent, agents), "agent_output": plain(result.agent_output)}

    return seen


def same(got: Any, expected: Any, what: str) -> None:
    """Check that two values are equal; NaN equals NaN.

    Raises:
        AssertionError: They differ; it says where.
    """
    found = list(_differences(got, expected, "$"))
    assert not found, f"{what} differs:\n" + "\n".join(found[:10])


def _differences(got: Any, expected: Any, path: str) -> Iterator[str]:
    if isinstance(got, dict) and isinstance(expected, dict):
        for name in sorted({*got, *expected}, key=str):
            if name not in got:
                yield f"{path}.{name}: is missing, expected {expected[name]!r}"
            elif name not in expected:
                yield f"{path}.{name}: got {got[name]!r}, expected none"
            else:
                yield from _differences(got[name], expected[name], f"{path}.{name}")
    elif isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        for number, (one, other) in enumerate(zip(got, expected, strict=True)):
            yield from _differences(one, other, f"{path}[{number}]")
    elif got != expected and not (got != got and expected != expected):  # noqa: PLR0124
        yield f"{path}: got {got!r}, expected {expected!r}"
