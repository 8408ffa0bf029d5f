"""What tools return ↔ JSON, so that it comes back as what it was.

The SDK turns a tool's output into text by ``str()``, which differs between a dataclass and the
mapping that it is encoded to. So parts that are no JSON carry the name of their class, which must
be a dataclass, a pydantic model or an enum that is loaded in the process; anything else is recorded
as its text, which is all that the model gets to see of it.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import sys
from typing import Any

import pydantic

__all__ = ["dump", "load"]

_log = logging.getLogger("durable_openai_agents")
_warned: set[type] = set()
_CLASS, _VALUE = "$class", "$value"


def dump(value: Any) -> Any:
    """Return an output in JSON's own types."""
    if value is None or (
        isinstance(value, (bool, int, float, str)) and not isinstance(value, enum.Enum)
    ):
        return value

    if isinstance(value, dict) and all(isinstance(k, str) for k in value) and _CLASS not in value:
        return {k: dump(v) for k, v in value.items()}

    if isinstance(value, list):
        return [dump(v) for v in value]

    if isinstance(value, tuple) and type(value) is tuple:
        return {_CLASS: "tuple", _VALUE: [dump(v) for v in value]}

    if _loadable(type(value)):
        try:
            return {
                _CLASS: _name(type(value)),
                _VALUE: _adapter(type(value)).dump_python(value, mode="json"),
            }
        except pydantic.errors.PydanticSchemaGenerationError:
            pass

    if type(value) not in _warned:
        _warned.add(type(value))
        _log.warning(
            "a tool returned a %s, which is recorded as its text: return text, JSON types, a "
            "dataclass or a pydantic model to have it back as it was",
            _name(type(value)),
        )

    return str(value)


def load(record: Any) -> Any:
    """Return the output of a record."""
    if isinstance(record, dict):
        if _CLASS not in record:
            return {k: load(v) for k, v in record.items()}

        if record[_CLASS] == "tuple":
            return tuple(load(v) for v in record[_VALUE])

        cls = _find(record[_CLASS])
        return _adapter(cls).validate_python(record[_VALUE]) if cls is not None else record[_VALUE]

    return [load(v) for v in record] if isinstance(record, list) else record


def _loadable(cls: type) -> bool:
    return _find(_name(cls)) is cls


def _find(name: str) -> type | None:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)

    kinds = (enum.Enum, pydantic.BaseModel)
    if isinstance(found, type) and (dataclasses.is_dataclass(found) or issubclass(found, kinds)):
        return found

    return None


def _adapter(cls: type) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(cls)


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
