"""Narrow decoded JSON to the shape that the code expects, without `Any`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

JsonObject: TypeAlias = Mapping[str, object]
"""A decoded JSON object; its values are narrowed where they are read."""


def as_object(value: object) -> JsonObject:
    """Return `value` if it is a JSON object, else an empty one."""
    return cast("JsonObject", value) if isinstance(value, Mapping) else {}


def as_objects(value: object) -> tuple[JsonObject, ...]:
    """Return the JSON objects of a JSON array, in order; anything else is left out."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()

    return tuple(as_object(item) for item in cast("Sequence[object]", value) if as_object(item))


def as_text(value: object) -> str:
    """Return `value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def parse_object(text: str | bytes) -> JsonObject:
    """Return the JSON object in `text`.

    Raises:
        ValueError: `text` is no JSON, or JSON of another kind.
    """
    value: object = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")  # noqa: TRY004 - callers treat both as malformed input

    return cast("JsonObject", value)


def canonical(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: object) -> object:
    """Return a read-only mapping as the dict that `json` knows how to write."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))

    raise TypeError(f"not JSON: {type(value).__name__}")
