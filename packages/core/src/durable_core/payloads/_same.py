"""Whether a value that came back from its record is what went in, type by type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["Difference", "difference", "moves", "parts_of"]

_NoneType: type = type(None)
_EXACT = frozenset({_NoneType, bool, int, str, bytes})


class Difference(msgspec.Struct, frozen=True):
    """The first part that came back as something else.

    Attributes:
        path: Where it is, such as ``$.lines[0].sku``.
        value: What it was.
        back: What it came back as.
    """

    path: str
    value: Any
    back: Any


def difference(value: Any, back: Any, path: str = "$") -> Difference | None:
    """Return the first difference between a value and what came back of it, or None.

    Equal means equal in value and in type, at every depth, with two exceptions that annotations
    make: an int where the annotation says float may come back as that float, and a pydantic model
    that was built without type parameters as the same model with them.
    """
    cls = type(value)
    if cls is not type(back) and not _alike(value, back):
        return Difference(path, value, back)

    if cls in _EXACT:
        return None if value == back else Difference(path, value, back)

    if isinstance(value, (list, tuple)):
        return _in_sequence(value, back, path)

    if isinstance(value, dict):
        return _in_mapping(value, back, path)

    if isinstance(value, (set, frozenset)):
        return _in_set(value, back, path)

    if isinstance(value, float):
        same = repr(value) == repr(back)
    elif isinstance(value, (dt.datetime, dt.time)):
        same = _same_time(value, back)
    elif isinstance(value, Decimal):
        same = value.as_tuple() == back.as_tuple()
    else:
        parts = parts_of(value)
        if parts is not None:
            return _in_parts(parts, parts_of(back) or {}, value, back, path)

        same = _equal(value, back)

    return None if same else Difference(path, value, back)


def parts_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of an object by name, or None if it is of no kind that has any."""
    cls = type(value)
    if isinstance(value, msgspec.Struct):
        names: list[str] = list(value.__struct_fields__)
    elif hasattr(cls, "__pydantic_fields__"):
        names = [*cls.__pydantic_fields__, *(getattr(value, "__pydantic_extra__", None) or ())]
    elif hasattr(cls, "__dataclass_fields__"):
        # Not `dataclasses.fields`: a pseudo-field has no value of its own and is equal anyhow.
        names = list(cls.__dataclass_fields__)
    elif hasattr(cls, "__attrs_attrs__"):
        names = [a.name for a in cls.__attrs_attrs__]
    elif hasattr(cls, "_field_defaults"):
        names = list(cls._fields)
    else:
        return None

    return {name: getattr(value, name, None) for name in names}


def moves(value: object) -> bool:
    """Return whether a time has a zone whose distance from UTC changes, which JSON cannot hold."""
    zone = getattr(value, "tzinfo", None)
    if zone is None:
        return False

    try:
        return zone.utcoffset(None) is None
    except Exception:  # noqa: BLE001  # a zone of the user's own
        return True


def _alike(value: Any, back: Any) -> bool:
    if type(value) is int and type(back) is float:
        return value == back

    cls, other = (
        (getattr(type(v), "__pydantic_generic_metadata__", None) or {}).get("origin") or type(v)
        for v in (value, back)
    )
    return cls is other


def _in_sequence(value: Any, back: Any, path: str) -> Difference | None:
    if len(value) != len(back):
        return Difference(path, value, back)

    if _are_equal_leaves(value, back):
        return None

    for i, (part, other) in enumerate(zip(value, back, strict=True)):
        found = difference(part, other, f"{path}[{i}]")
        if found is not None:
            return found

    return None


def _are_equal_leaves(values: Any, backs: Any) -> bool:
    """Return whether only leaves are compared, and they are equal: most lists and mappings are."""
    kinds = list(map(type, values))
    return _EXACT.issuperset(kinds) and kinds == list(map(type, backs)) and values == backs


def _in_mapping(value: Any, back: Any, path: str) -> Difference | None:
    if len(value) != len(back):
        return Difference(path, value, back)

    if not _are_equal_leaves(list(value), list(back)):
        for key, other in zip(value, back, strict=True):
            if difference(key, other) is not None:
                return Difference(f"{path}, the key {key!r}", key, other)

    if _are_equal_leaves(list(value.values()), list(back.values())):
        return None

    for (key, part), other in zip(value.items(), back.values(), strict=True):
        cls = type(part)
        if cls in _EXACT and cls is type(other) and part == other:
            continue

        found = difference(part, other, f"{path}.{key}")
        if found is not None:
            return found

    return None


def _in_set(value: Any, back: Any, path: str) -> Difference | None:
    if value != back:
        return Difference(path, value, back)

    others = {other: other for other in back}
    for part in value:
        found = difference(part, others[part], f"{path}{{…}}")
        if found is not None:
            return found

    return None


def _in_parts(
    parts: dict[str, Any], others: dict[str, Any], value: Any, back: Any, path: str
) -> Difference | None:
    if parts.keys() != others.keys():
        return Difference(path, value, back)

    for name, part in parts.items():
        found = difference(part, others[name], f"{path}.{name}")
        if found is not None:
            return found

    return None


def _same_time(value: Any, back: Any) -> bool:
    # Not `==`, which knows only the moment. `fold` is no difference: it says something only of a
    # zone that moves, and those are refused.
    naive = (value.replace(tzinfo=None), back.replace(tzinfo=None))
    return (
        naive[0] == naive[1]
        and (value.tzinfo is None) == (back.tzinfo is None)
        and value.utcoffset() == back.utcoffset()
        and not moves(value)
    )


def _equal(value: Any, back: Any) -> bool:
    try:
        return bool(value == back) or (value != value and back != back)  # noqa: PLR0124
    except Exception:  # noqa: BLE001  # of a user's object, such as an array
        return False
