"""Digests of arguments, and the verdict when two differ (ENGINE R9).

The digest is the fast path: equal digests mean equal arguments. Different ones do not yet mean a
mismatch: the recorded argument is decoded with today's type and encoded again, so that a field
added with a default, or a value that today's type spells differently, is no difference.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from durable_core.exceptions import DecodeError

from . import _json
from ._models import forget_not_set

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ALGORITHM", "address", "changed_keys", "difference", "digest"]

ALGORITHM = "blake2b-128"


def digest(value: Any, *, what: str) -> str:
    """Return the digest of a value's canonical form, with its algorithm in front.

    Raises:
        EncodeError: The value has no JSON form.
    """
    return f"{ALGORITHM}:{blake2b(_json.canonical(value, what=what), digest_size=16).hexdigest()}"


# Of items: a payload, an item of a list, the list.
_ROLES = ("payload", "item", "list")


def is_address(key: str, scope: str, data: bytes) -> bool:
    """Return whether these bytes are those that an address was made of."""
    return any(address(scope, role, data) == key for role in _ROLES)


def address(scope: str, role: str, data: bytes) -> str:
    """Return the address of an item: equal content has one address within a scope and role."""
    key = blake2b(f"{scope}\0{role}".encode(), digest_size=32).digest()
    return blake2b(data, digest_size=16, key=key).hexdigest()


def difference(
    recorded: bytes, live: tuple[Any, ...], types: tuple[Any, ...], *, what: str
) -> str | None:
    """Return the path of the first difference between recorded and live arguments, or None.

    Both sides are brought to today's types first, so only what survives counts.
    """
    try:
        decoded = _json.decode_args(recorded, types, what=what)
    except DecodeError as error:
        return f"$ ({error})"

    # The live side goes through the same decoding: an annotation may normalise a value.
    data = _json.encode(_json.lower_args(live, types, what=what), what=what)
    there = _json.decode_args(data, types, what=what)
    for value in (*decoded, *there):
        _complete(value)

    # Without an annotation a set was decoded as a list: only the live side knows what it is.
    a, b = (
        json.dumps(forget_not_set(_json.sort_sets(json.loads(c), live)), sort_keys=True)
        for c in (
            _json.canonical(_json.lower_args(side, types, what=what), what=what)
            for side in (decoded, there)
        )
    )
    return None if a == b else _first(json.loads(a), json.loads(b), "$")


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the keys under which two mappings of JSON's own types differ, sorted."""
    keys = sorted({*before, *after})
    return [k for k in keys if k not in before or k not in after or not _same(before[k], after[k])]


def _complete(value: Any) -> None:
    """Put defaults into dataclasses: msgspec's decoder, and so its encoder, leaves them out."""
    own = getattr(value, "__dict__", None)
    for name in getattr(type(value), "__dataclass_fields__", ()):
        if own is not None and name not in own:
            object.__setattr__(value, name, getattr(value, name))

    parts = (
        value
        if isinstance(value, (list, tuple, set, frozenset))
        else _json.fields_of(value).values()
    )
    for part in parts:
        _complete(part)


def _first(a: Any, b: Any, path: str) -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if key not in a or key not in b or not _same(a[key], b[key]):
                if key in a and key in b:
                    return _first(a[key], b[key], f"{path}.{key}")

                where = "only recorded" if key in a else "only in the code"
                return f"{path}.{key} ({where})"

    if isinstance(a, list) and isinstance(b, list):
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            if not _same(x, y):
                return _first(x, y, f"{path}[{i}]")

        return f"{path} (length {len(a)} recorded, {len(b)} now)"

    return f"{path}: recorded {_short(a)}, now {_short(b)}"


def _same(a: Any, b: Any) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
