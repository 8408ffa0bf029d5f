"""Values without annotations ↔ JSON that says itself what it holds: the state of exceptions.

JSON's own types are written as they are, others as ``{"$type": name, "$value": …}``. Classes of
users are named, and brought back only if the reader finds the class by that name.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import sys
import uuid
from collections.abc import Callable
from typing import Any

from ._classes import find_class, qualified_name
from ._forms import form_of, json_of
from ._layouts import layout
from ._models import is_model, is_path
from ._same import difference, parts_of

__all__ = ["Find", "UnrecordableError", "dump", "load", "untagged"]

_TYPE, _VALUE = "$type", "$value"
_LEAVES = (type(None), bool, int, float, str)
_KNOWN: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        bytes,
        bytearray,
        dt.date,
        dt.datetime,
        dt.time,
        dt.timedelta,
        decimal.Decimal,
        uuid.UUID,
    )
}
_FIELDS = ("__dataclass_fields__", "__struct_fields__", "_field_defaults")
_ARRAYS: dict[str, Any] = {cls.__name__: cls for cls in (tuple, set, frozenset)}

Find = Callable[[str], type | None]


class UnrecordableError(TypeError):
    """A value would not come back as it is."""


def dump(value: Any, seen: dict[str, type] | None = None) -> Any:
    """Return a value in JSON's own types.

    Args:
        value: The value.
        seen: Takes the classes that `load` has to find, by name.

    Raises:
        UnrecordableError: It would not come back as it is.
    """
    cls: type = type(value)
    if cls in _LEAVES:
        return value

    if cls is list:
        return [dump(part, seen) for part in value]

    if cls is dict:
        if all(type(k) is str for k in value) and _TYPE not in value:
            return {k: dump(v, seen) for k, v in value.items()}

        return {_TYPE: "dict", _VALUE: [[dump(k, seen), dump(v, seen)] for k, v in value.items()]}

    if cls in _ARRAYS.values():
        return {_TYPE: cls.__name__, _VALUE: [dump(part, seen) for part in value]}

    name = _name(value)
    if seen is None:
        seen = {}

    seen[name] = cls
    tree = {_TYPE: name, _VALUE: _dump_object(value, cls, seen)}
    try:
        back = load(tree, seen.get)
    except (LookupError, ValueError, TypeError) as error:
        raise UnrecordableError(str(error)) from error

    if difference(value, back) is not None:
        raise UnrecordableError(f"a {name} would not come back as it is")

    return tree


def load(tree: Any, find: Find) -> Any:
    """Return the value of what `dump` returned.

    Raises:
        LookupError: A class is not found by its name.
        ValueError, TypeError: The JSON does not fit a class.
    """
    if isinstance(tree, list):
        return [load(part, find) for part in tree]

    if not isinstance(tree, dict):
        return tree

    if tree.keys() != {_TYPE, _VALUE}:
        return {k: load(v, find) for k, v in tree.items()}

    name, inner = tree[_TYPE], tree[_VALUE]
    if name in _ARRAYS:
        return _ARRAYS[name](load(part, find) for part in inner)

    if name == "dict":
        return {load(k, find): load(v, find) for k, v in inner}

    cls = _KNOWN.get(name) or _path_class(name) or find(name)
    if cls is None or not _is_data(cls):
        raise LookupError(f"no class {name!r} of data is known here")

    if not _has_fields(cls):
        return form_of(cls).lift(inner)

    found = layout(cls)
    assert found is not None
    known = {field.name for field in found.fields}

    def find_inside(name: str) -> type | None:
        return find(name) or find_class(name, [cls.__module__], anywhere=True)

    return found.build({k: load(v, find_inside) for k, v in inner.items() if k in known})


def untagged(tree: Any) -> Any:
    """Return what `dump` returned without the names of types, for whoever does not know them."""
    if isinstance(tree, dict):
        if tree.keys() == {_TYPE, _VALUE}:
            return untagged(tree[_VALUE])

        return {k: untagged(v) for k, v in tree.items()}

    return [untagged(part) for part in tree] if isinstance(tree, list) else tree


def _dump_object(value: Any, cls: type, seen: dict[str, type]) -> Any:
    if not _is_data(cls):
        raise UnrecordableError(f"{qualified_name(cls)} has no JSON form")

    try:
        if _has_fields(cls):
            # By what the fields hold, and not by their annotations, which may say less.
            return {k: dump(v, seen) for k, v in (parts_of(value) or {}).items()}

        return json_of(form_of(cls).lower(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise UnrecordableError(str(error)) from error


def _has_fields(cls: Any) -> bool:
    return not is_model(cls) and any(hasattr(cls, name) for name in _FIELDS)


def _is_data(cls: Any) -> bool:
    known = cls in _KNOWN.values() or issubclass(cls, enum.Enum)
    return known or is_model(cls) or is_path(cls) or _has_fields(cls)


def _name(value: Any) -> str:
    cls = type(value)
    if is_path(cls):
        return "Path"

    return cls.__name__ if _KNOWN.get(cls.__name__) is cls else qualified_name(cls)


def _path_class(name: str) -> Any:
    pathlib = sys.modules.get("pathlib")
    return pathlib.Path if name == "Path" and pathlib is not None else None
