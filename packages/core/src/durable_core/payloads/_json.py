"""Python values ↔ JSON bytes, by the types of annotations. Never pickle.

`msgspec` does the work; pydantic models pass through their own validation, and `_forms` helps with
annotations that msgspec refuses. Non-finite floats, which JSON lacks, are tagged, and only payloads
that hold one pay for it: the tag is announced by a prefix that is no JSON.

Whoever knows the annotation passes it to both directions. Without one a value is recorded all the
same, as whoever starts a workflow by its name does, and comes back by the types of the reader.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from durable_core._signatures import short
from durable_core.exceptions import DecodeError, EncodeError

from ._forms import Native, form_of, without_marks
from ._models import enc_hook, name_of
from ._unions import NAME

__all__ = [
    "TAGGED",
    "canonical",
    "decode",
    "decode_args",
    "decode_untyped",
    "encode",
    "fields_of",
    "lower",
    "lower_args",
    "sort_sets",
    "split",
]

TAGGED = b"\x00"
_FLOAT = "$float"


# What JSON has itself: it is encoded as it is.
_OWN = frozenset({str, int, bool, float})


def lower(value: Any, type_: Any, *, what: str) -> Any:
    """Return what to encode of a value, so that `decode` finds back to it by its annotation.

    Raises:
        EncodeError: The value does not fit the annotation.
    """
    if type_ is Any or (type_ is type(value) and type_ in _OWN):
        return value

    try:
        return form_of(type_).lower(value)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EncodeError(f"{what} cannot be recorded as {name_of(type_)}: {error}") from error


def lower_args(args: tuple[Any, ...], types: tuple[Any, ...], *, what: str) -> tuple[Any, ...]:
    """Return what to encode of arguments, the i-th as ``types[i]``; see `lower`.

    Raises:
        EncodeError: An argument does not fit its type.
    """
    lowered = list(args)
    for i, (value, type_) in enumerate(zip(args, types, strict=False)):
        if type_ is not Any and not (type_ is type(value) and type_ in _OWN):
            lowered[i] = lower(value, type_, what=f"argument {i + 1} of {what}")

    return tuple(lowered)


def encode(value: Any, *, what: str) -> bytes:
    """Return the JSON of a value; mappings and lists keep their order.

    Args:
        value: Anything built of dataclasses, msgspec structs, pydantic models, enums, datetimes,
            UUIDs, bytes, decimals, paths, and JSON's own types; or what `lower` made of it.
        what: What is being encoded, for the message.

    Raises:
        EncodeError: The value, or something inside it, has no JSON form.
    """
    try:
        data = _encoder.encode(value)
        # JSON has no NaN: msgspec writes null, which is also what None becomes, so look closer
        # then.
        if b"null" in data:
            plain = msgspec.to_builtins(value, enc_hook=enc_hook)
            if _has_non_finite(plain):
                return (
                    TAGGED
                    + json.dumps(_tag(plain), separators=(",", ":"), ensure_ascii=False).encode()
                )

    except EncodeError as error:
        raise EncodeError(
            f"{what} cannot be recorded: {error}{_locate(value)}. {_REMEDY}"
        ) from None
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise EncodeError(
            f"{what} cannot be recorded: {error}{_locate(value)}. {_REMEDY}"
        ) from error

    return data


def decode(data: bytes, type_: Any, *, what: str) -> Any:
    """Return the value of recorded JSON as ``type_``; as JSON's own types if that is `Any`.

    Raises:
        DecodeError: The record does not fit the type.
    """
    try:
        if type_ is Any:
            return _plain(data)

        form = form_of(type_)
        if data[:1] == TAGGED:
            return form.lift(_plain(data))

        if not isinstance(form, Native):
            return form.lift(_plain(data))

        if _MARK in data:
            # Recorded when the annotation was a union: its marks are no part of the value.
            return form.lift(without_marks(_plain(data)))

        return form.decode(data)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        text = data[:80].decode(errors="replace")
        raise DecodeError(
            f"{what} does not fit {name_of(type_)}: {error}; the record begins {text}"
        ) from error


def decode_untyped(data: bytes, *, what: str) -> Any:
    """Return recorded JSON in JSON's own types, without what only typed readers need.

    Raises:
        DecodeError: The record is no JSON.
    """
    return without_marks(decode(data, Any, what=what))


def decode_args(data: bytes, types: tuple[Any, ...], *, what: str) -> tuple[Any, ...]:
    """Return recorded arguments, the i-th as ``types[i]``, the rest as JSON's own types.

    Raises:
        DecodeError: An argument does not fit its type.
    """
    return tuple(
        decode(part, types[i] if i < len(types) else Any, what=f"argument {i + 1} of {what}")
        for i, part in enumerate(split(data))
    )


def split(data: bytes) -> list[bytes]:
    """Return the JSON of each element of a recorded array.

    Raises:
        DecodeError: The record is no array.
    """
    try:
        if data[:1] == TAGGED:
            return [TAGGED + json.dumps(part).encode() for part in json.loads(data[1:])]

        return [bytes(part) for part in _raw_list.decode(data)]
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise DecodeError(f"{data[:80].decode(errors='replace')} is no array: {error}") from error


def canonical(value: Any, *, what: str) -> bytes:
    """Return bytes that are equal for equal values, whatever the order of keys and sets.

    Raises:
        EncodeError: The value has no JSON form.
    """
    try:
        data = _canonical_encoder.encode(value)
    except Exception:  # noqa: BLE001  # unorderable sets take the slow path, the rest is reported there
        data = b""

    if data and b"null" not in data:
        return data

    plain = encode(value, what=what)
    tagged = plain[:1] == TAGGED
    if data and not tagged:
        return data

    tree = sort_sets(json.loads(plain[1:] if tagged else plain), value)
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


_REMEDY = (
    "Pass data (dataclasses, pydantic or msgspec models, JSON types); live objects such as "
    "clients, locks and functions stay outside of what is recorded"
)


def _canonical_hook(value: Any) -> Any:
    return sort_sets(enc_hook(value), value)


_MARK = f'"{NAME}"'.encode()
_encoder = msgspec.json.Encoder(enc_hook=enc_hook)
_canonical_encoder = msgspec.json.Encoder(enc_hook=_canonical_hook, order="deterministic")
_any_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_raw_list: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


def _plain(data: bytes) -> Any:
    if data[:1] == TAGGED:
        return json.loads(data[1:], object_hook=_untag)

    return _any_decoder.decode(data)


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)

    if isinstance(value, dict):
        return any(_has_non_finite(v) for v in value.values())

    return isinstance(value, (list, tuple)) and any(_has_non_finite(v) for v in value)


def _tag(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}

    if isinstance(value, dict):
        if _FLOAT in value:
            raise EncodeError(
                f"a mapping with the key {_FLOAT!r} beside a non-finite float is ambiguous"
            )

        return {k: _tag(v) for k, v in value.items()}

    return [_tag(v) for v in value] if isinstance(value, (list, tuple)) else value


def _untag(mapping: dict[str, Any]) -> Any:
    return float(mapping[_FLOAT]) if mapping.keys() == {_FLOAT} else mapping


def sort_sets(tree: Any, live: Any) -> Any:
    """Sort the lists in ``tree`` that are sets in ``live`` by their encoded bytes.

    Invariant: encoding walks a set in the order in which it iterates, so the two can be zipped.
    """
    if isinstance(tree, dict):
        parts = fields_of(live)
        return {k: sort_sets(v, parts[k]) if k in parts else v for k, v in tree.items()}

    if not isinstance(tree, list):
        return tree

    live = getattr(live, "root", live)
    if not isinstance(live, (set, frozenset, list, tuple)) or len(live) != len(tree):
        return tree

    inside = [sort_sets(t, part) for t, part in zip(tree, live, strict=True)]
    if isinstance(live, (set, frozenset)):
        inside.sort(key=lambda item: json.dumps(item, sort_keys=True))

    return inside


def fields_of(value: Any) -> dict[str, Any]:
    """Return the parts of a mapping or an object by the names under which they are encoded."""
    cls = type(value)
    if isinstance(value, dict):
        return {str(k): v for k, v in value.items()}

    if isinstance(value, msgspec.Struct):
        names = dict(zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True))
    elif hasattr(cls, "__pydantic_fields__"):
        names = {name: name for name in cls.__pydantic_fields__}
    else:
        names = {name: name for name in getattr(cls, "__dataclass_fields__", ())}

    return {encoded: getattr(value, name, None) for encoded, name in names.items()}


def _locate(value: Any, path: str = "$", depth: int = 0) -> str:
    """Return `` (at $.path, a Type)`` of the first part that has no JSON form, or nothing."""
    if depth > 20:
        return ""

    if isinstance(value, dict) and (key := _odd_key(value)):
        return f" (at {path}, {key})"

    children: list[tuple[str, Any]] = []
    if isinstance(value, (list, tuple, set, frozenset)):
        children = [(f"{path}[{i}]", v) for i, v in enumerate(value)]
    else:
        children = [(f"{path}.{k}", v) for k, v in fields_of(value).items()]

    for child_path, child in children:
        found = _locate(child, child_path, depth + 1)
        if found:
            return found

    try:
        _encoder.encode(value)
    except Exception:  # noqa: BLE001  # whatever it is, this is the part that cannot be encoded
        return "" if children and path == "$" else f" (at {path}, a {name_of(type(value))})"

    return ""


def _odd_key(mapping: dict[Any, Any]) -> str:
    """Return what is said of a key that JSON cannot hold, or nothing."""
    for key in mapping:
        try:
            _encoder.encode({key: None})
        except Exception:  # noqa: BLE001  # whatever it is, this is the key
            kind = name_of(type(key))
            return f"the key {short(key)}, a {kind}: pass a list of pairs instead of a mapping"

    return ""
