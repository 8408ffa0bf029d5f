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
from functools import lru_cache
from typing import Any

import pydantic

__all__ = ["dump", "load"]

_log = logging.getLogger("durable_openai_agents")
_warned: set[str] = set()
_PLAIN = (bool, int, float, str)
_CLASS, _VALUE = "$class", "$value"


class _NoFormError(Exception):
    """A part of an output would not come back as it was; names its class."""


def dump(value: Any, *, warn: bool = True) -> Any:
    """Return an output in JSON's own types, as its text if it would not come back as it was."""
    try:
        return _dump(value)
    except _NoFormError as error:
        # All of it as text: a list that holds one odd object shows that as `repr`, not as `str`.
        name = str(error)
        if warn and name not in _warned:
            _warned.add(name)
            _log.warning(
                "a tool returned a %s, which is recorded as its text: return text, JSON types, a "
                "dataclass or a pydantic model to have it back as it was",
                name,
            )

        return str(value)


def _dump(value: Any) -> Any:
    cls: type = type(value)
    if value is None or cls in _PLAIN:
        return value

    if cls is dict and all(type(k) is str for k in value) and _CLASS not in value:
        return {k: _dump(v) for k, v in value.items()}

    if cls is list:
        return [_dump(v) for v in value]

    if cls is tuple:
        return {_CLASS: "tuple", _VALUE: [_dump(v) for v in value]}

    if _loadable(cls):
        try:
            record = _adapter(cls).dump_python(
                value, mode="json", by_alias=False, round_trip=True, warnings="none"
            )
            if str(_validated(cls, record)) == str(value):
                return {_CLASS: _name(cls), _VALUE: record}
        except Exception as error:  # serializers and validators are user code
            raise _NoFormError(_name(cls)) from error

    raise _NoFormError(_name(cls))


def load(record: Any) -> Any:
    """Return the output of a record."""
    if isinstance(record, dict):
        if _CLASS not in record:
            return {k: load(v) for k, v in record.items()}

        if record[_CLASS] == "tuple":
            return tuple(load(v) for v in record[_VALUE])

        cls = _find(record[_CLASS])
        if cls is None:
            return record[_VALUE]

        try:
            return _validated(cls, record[_VALUE])
        except Exception:  # noqa: BLE001  # the class has changed, as if it were gone
            return record[_VALUE]

    return [load(v) for v in record] if isinstance(record, list) else record


def _loadable(cls: type) -> bool:
    # Pydantic puts a `Page[int]` into its module only once it was asked for.
    return "[" not in cls.__qualname__ and _find(_name(cls)) is cls


def _find(name: str) -> type | None:
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)

    kinds = (enum.Enum, pydantic.BaseModel)
    if isinstance(found, type) and (dataclasses.is_dataclass(found) or issubclass(found, kinds)):
        return found

    return None


def _validated(cls: type, record: Any) -> Any:
    return _adapter(cls).validate_python(record, by_alias=False, by_name=True)


@lru_cache(maxsize=256)
def _adapter(cls: type) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(cls)


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
