"""Records ↔ JSON's own types: readable, and back again without loss.

Recorded values stand as the JSON that they are, not as text. One that holds a float which JSON
lacks stands as ``{"$tagged": …}`` with ``{"$float": "inf"}`` inside; what would not come back as
the same bytes at all, as ``{"$bytes": base64}``.
"""

from __future__ import annotations

import base64
import json
import types
import typing
from functools import lru_cache
from typing import Any

import msgspec

from durable_core import history as h
from durable_core.exceptions import StoreCorruptError
from durable_core.payloads import _json

__all__ = ["plain", "restored"]

_BYTES, _TAGGED = "$bytes", "$tagged"


def plain(record: Any) -> Any:
    """Return a record in JSON's own types, with its payloads decoded."""
    if isinstance(record, h.Payload):
        return _plain_bytes(record.data)

    if isinstance(record, msgspec.Struct):
        tag = type(record).__struct_config__.tag
        found = {} if tag is None else {"type": tag}
        for field in msgspec.structs.fields(type(record)):
            value = getattr(record, field.name)
            if value != field.default:
                found[field.name] = plain(value)

        return found

    if isinstance(record, (list, tuple)):
        return [plain(part) for part in record]

    return _plain_bytes(record) if isinstance(record, bytes) else record


def restored(type_: Any, value: Any) -> Any:
    """Return the record of a type that `plain` made JSON of.

    Raises:
        StoreCorruptError: It is no such record.
    """
    try:
        return _restored(type_, value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorruptError(
            f"this is no {getattr(type_, '__name__', type_)} as a history holds it: {error}"
        ) from error


def _plain_bytes(data: bytes) -> Any:
    tagged = data[:1] == _json.TAGGED
    try:
        value = json.loads(data[1:] if tagged else data)
    except ValueError:
        value = None

    shown = {_TAGGED: value} if tagged else value
    if (tagged or not _marks(value)) and _bytes(shown) == data:
        return shown

    return {_BYTES: base64.b64encode(data).decode()}


def _marks(value: Any) -> set[str]:
    return {_BYTES, _TAGGED} & value.keys() if isinstance(value, dict) else set()


def _bytes(value: Any) -> bytes:
    marks = _marks(value)
    if _BYTES in marks:
        return base64.b64decode(value[_BYTES])

    if _TAGGED in marks:
        return _json.TAGGED + _compact(value[_TAGGED])

    return msgspec.json.encode(value)


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _restored(type_: Any, value: Any) -> Any:
    if type_ is h.Payload:
        return h.Payload(data=_bytes(value))

    if type_ is bytes:
        return _bytes(value)

    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        given = {name: part for name, part in value.items() if name != "type" or not _tag(type_)}
        hints = _hints(type_)
        return type_(**{name: _restored(hints[name], part) for name, part in given.items()})

    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if origin is tuple:
        return tuple(_restored(args[0], part) for part in value)

    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None

        structs = [a for a in args if isinstance(a, type) and issubclass(a, msgspec.Struct)]
        tagged = {_tag(cls): cls for cls in structs}
        if len(structs) > 1:
            return _restored(tagged[value["type"]], value)

        return _restored(structs[0], value) if structs else value

    return value


def _tag(cls: type[msgspec.Struct]) -> Any:
    return cls.__struct_config__.tag


@lru_cache(maxsize=64)
def _hints(cls: type[msgspec.Struct]) -> dict[str, Any]:
    return typing.get_type_hints(cls)
