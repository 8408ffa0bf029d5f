"""Whether a piece of JSON fits a JSON Schema of `_schemas`, and if not, where and why.

The keywords that `_schemas` and pydantic write are checked; of a format, those that are a class of
Python's. What else stands in a schema is for readers.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["misfit"]

_FORMATS: dict[str, Any] = {
    "date-time": dt.datetime,
    "time": dt.time,
    "date": dt.date,
    "duration": dt.timedelta,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
}
_COMPARED: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "minimum": (lambda value, limit: value >= limit, "at least"),
    "exclusiveMinimum": (lambda value, limit: value > limit, "more than"),
    "maximum": (lambda value, limit: value <= limit, "at most"),
    "exclusiveMaximum": (lambda value, limit: value < limit, "less than"),
    "multipleOf": (lambda value, limit: value % limit == 0, "a multiple of"),
}
_MOST_NAMED = 20


def misfit(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return where and why a value does not fit, such as ``at $.cents: expected integer``.

    Args:
        value: In JSON's own types.
        schema: Of what is expected.
    """
    return _Check(schema).misfit(value, schema, "$")


class _Check:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._definitions: Mapping[str, Any] = root.get("$defs", {})

    def misfit(self, value: Any, schema: Any, path: str) -> str | None:
        if schema is True or schema is False:
            return None if schema else f"at {path}: nothing is expected there"

        if "$ref" in schema:
            found = self._definitions.get(schema["$ref"].rpartition("/")[2], {})
            return self.misfit(value, found, path)

        for arms in (schema.get("anyOf"), schema.get("oneOf")):
            if arms and (problem := self._of_any(value, arms, path)):
                return problem

        for part in schema.get("allOf", ()):
            if problem := self.misfit(value, part, path):
                return problem

        kind = schema.get("type")
        if kind is not None and not _is_of(value, kind):
            kinds = kind if isinstance(kind, str) else " or ".join(kind)
            return f"at {path}: expected {kinds}, got {_shown(value)}"

        allowed = [schema["const"]] if "const" in schema else schema.get("enum")
        if allowed is not None and not any(_same(value, a) for a in allowed):
            names = ", ".join(_shown(a) for a in allowed[:_MOST_NAMED])
            one = "one of " if len(allowed) > 1 else ""
            return f"at {path}: expected {one}{names}, got {_shown(value)}"

        match value:
            case bool() | None:
                return None
            case int() | float():
                return _of_number(value, schema, path)
            case str():
                return _of_text(value, schema, path)
            case list():
                return self._of_array(value, schema, path)
            case dict():
                return self._of_object(value, schema, path)
            case _:
                return None

    def _of_any(self, value: Any, arms: Sequence[Any], path: str) -> str | None:
        problems: list[str] = []
        for arm in arms:
            problem = self.misfit(value, arm, path)
            if problem is None:
                return None

            problems.append(problem)

        # The one that came furthest is most likely the one that was meant.
        return max(problems, key=lambda p: p.partition(":")[0].count(".")) if problems else None

    def _of_array(self, value: list[Any], schema: Mapping[str, Any], path: str) -> str | None:
        for name, fits, word in (
            ("minItems", len(value) >= schema.get("minItems", 0), "at least"),
            ("maxItems", len(value) <= schema.get("maxItems", len(value)), "at most"),
        ):
            if not fits:
                return f"at {path}: expected {word} {schema[name]} items, got {len(value)}"

        prefix = schema.get("prefixItems", ())
        rest = schema.get("items", True)
        for i, part in enumerate(value):
            expected = prefix[i] if i < len(prefix) else rest
            if problem := self.misfit(part, expected, f"{path}[{i}]"):
                return problem

        return None

    def _of_object(self, value: dict[str, Any], schema: Mapping[str, Any], path: str) -> str | None:
        known = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                return f"at {path}: {name!r} is missing"

        others = schema.get("additionalProperties", True)
        for name, part in value.items():
            if name not in known and others is False:
                return f"at {path}: {name!r} is not expected; there are {', '.join(known)}"

            if problem := self.misfit(part, known.get(name, others), f"{path}.{name}"):
                return problem

        keys = schema.get("propertyNames")
        found = (self.misfit(name, keys, f"{path} (a key)") for name in value) if keys else ()
        return next((problem for problem in found if problem), None)


def _is_of(value: Any, kind: str | Sequence[str]) -> bool:
    if not isinstance(kind, str):
        return any(_is_of(value, k) for k in kind)

    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def _same(value: Any, allowed: Any) -> bool:
    # 1 is no True.
    return type(value) is type(allowed) and value == allowed


def _of_number(value: float, schema: Mapping[str, Any], path: str) -> str | None:
    for name, (fits, word) in _COMPARED.items():
        if name in schema and not fits(value, schema[name]):
            return f"at {path}: expected {word} {schema[name]}, got {value}"

    return None


def _of_text(value: str, schema: Mapping[str, Any], path: str) -> str | None:
    for name, fits, word in (
        ("minLength", len(value) >= schema.get("minLength", 0), "at least"),
        ("maxLength", len(value) <= schema.get("maxLength", len(value)), "at most"),
    ):
        if not fits:
            return f"at {path}: expected {word} {schema[name]} characters, got {len(value)}"

    pattern = schema.get("pattern")
    if pattern is not None and not re.search(pattern, value):
        return f"at {path}: expected a text like {pattern}, got {_shown(value)}"

    form = schema.get("format")
    if form in _FORMATS:
        try:
            msgspec.convert(value, _FORMATS[form])
        except msgspec.ValidationError:
            return f"at {path}: expected a {form}, got {_shown(value)}"

    if schema.get("contentEncoding") == "base64":
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return f"at {path}: expected base64, got {_shown(value)}"

    return None


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:59]}…"
