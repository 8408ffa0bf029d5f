"""Model responses ↔ JSON, field by field as the client library builds them.

Unset fields stay unset and unknown ones are kept, since both show in the next request; and a
response that drifted from the schema is built all the same, as the client library does.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from typing import Any

from agents import ModelResponse
from agents.items import TResponseOutputItem
from agents.usage import Usage, deserialize_usage
from openai import BaseModel
from openai._models import construct_type
from pydantic import TypeAdapter, ValidationError

__all__ = ["called", "dump", "load"]


def dump(response: ModelResponse) -> dict[str, Any]:
    """Return a response in JSON's own types."""
    record: dict[str, Any] = {}
    for field in fields(response):
        value = getattr(response, field.name)
        if field.name == "output":
            value = [_dump_item(item) for item in value]
        elif field.name == "usage":
            value = _usage().dump_python(value, mode="json", exclude_unset=True)

        record[field.name] = value

    return record


def load(record: dict[str, Any]) -> ModelResponse:
    """Return the response of a record; fields that this SDK does not know are left out."""
    known = {field.name for field in fields(ModelResponse)}
    values = {name: value for name, value in record.items() if name in known}
    values["output"] = [
        construct_type(type_=TResponseOutputItem, value=item) for item in values["output"]
    ]
    try:
        values["usage"] = _usage().validate_python(values["usage"])
    except ValidationError:
        # Incomplete, as some providers leave it.
        values["usage"] = deserialize_usage(values["usage"])

    return ModelResponse(**values)


def called(response: ModelResponse) -> set[str]:
    """Return the names of the functions and handoffs that a response calls."""
    calls = [item for item in response.output if getattr(item, "type", None) == "function_call"]
    return {str(getattr(item, "name", "")) for item in calls}


def _dump_item(item: Any) -> Any:
    if isinstance(item, BaseModel):
        # Some types are built lazily and cannot be dumped before.
        type(item).model_rebuild()
        return item.model_dump(mode="json", exclude_unset=True, warnings=False)

    return item


@lru_cache(maxsize=1)
def _usage() -> TypeAdapter[Usage]:
    return TypeAdapter(Usage)
