"""Python values ↔ JSON bytes, by the types of annotations. Never pickle.

`msgspec` does the work; pydantic models pass through their own validation. Non-finite floats, which
JSON lacks, are tagged, and only payloads that hold one pay for it: the tag is announced by a prefix
that is no JSON.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import msgspec

from durable_core.exceptions import DecodeError, EncodeError

__all__ = ["canonical", "decode", "decode_args", "encode", "fields_of", "sort_sets"]

_TAGGED = b"\x00"
_FLOAT = "$float"


def encode(value: Any, *, what: str) -> bytes:
    """Return the JSON of a value; mappings and lists keep their order.

    Args:
        value: Anything built of dataclasses, msgspec structs, pydantic models, enums, datetimes,
            UUIDs, bytes, decimals, and JSON's own types.
        what: What is being encoded, for the message.

    Raises:
        EncodeError: The value, or something inside it, has no JSON form.
    """
    try:
        data = _encoder.encode(value)
        # JSON has no NaN: msgspec writes null, which is also what None becomes, so look closer
        # then.
        if b"null" in data:
            plain = msgspec.to_builtins(value, enc_hook=_enc_hook)
            if _has_non_finite(plain):
                return (
                    _TAGGED
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
        if data[:1] == _TAGGED:
            plain = json.loads(data[1:], object_hook=_untag)
            return plain if type_ is Any else _convert(plain, type_)

        if type_ is Any:
            return _any_decoder.decode(data)

        return _decoder(type_)(data)
    except (msgspec.ValidationError, msgspec.DecodeError, TypeError, ValueError) as error:
        text = data[:80].decode(errors="replace")
        raise DecodeError(
            f"{what} does not fit {_name(type_)}: {error}; the record begins {text}"
        ) from error


def decode_args(data: bytes, types: tuple[Any, ...], *, what: str) -> tuple[Any, ...]:
    """Return recorded arguments, the i-th as ``types[i]``, the rest as JSON's own types.

    Raises:
        DecodeError: An argument does not fit its type.
    """
    if data == b"[]":
        return ()

    if data[:1] == _TAGGED:
        parts = [json.dumps(part).encode() for part in json.loads(data[1:])]
        parts = [_TAGGED + part for part in parts]
    else:
        parts = [bytes(part) for part in _raw_list.decode(data)]

    return tuple(
        decode(part, types[i] if i < len(types) else Any, what=f"argument {i + 1} of {what}")
        for i, part in enumerate(parts)
    )


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
    tagged = plain[:1] == _TAGGED
    if data and not tagged:
        return data

    tree = sort_sets(json.loads(plain[1:] if tagged else plain), value)
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


_REMEDY = (
    "Pass data (dataclasses, pydantic or msgspec models, JSON types); live objects such as "
    "clients, locks and functions stay outside of what is recorded"
)


def _enc_hook(value: Any) -> Any:
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None:
        if isinstance(value, pydantic.BaseModel):
            # `round_trip` leaves out computed fields, which validation may refuse.
            return value.model_dump(mode="json", by_alias=False, round_trip=True)

        if isinstance(value, type(pydantic.AnyUrl("http://x"))):
            return str(value)

    raise EncodeError(f"{_name(type(value))} has no JSON form")


def _canonical_hook(value: Any) -> Any:
    return sort_sets(_enc_hook(value), value)


def _dec_hook(type_: Any, value: Any) -> Any:
    if type_ is object:
        return value

    pydantic = sys.modules.get("pydantic")
    if pydantic is not None:
        model: Any = type_
        if isinstance(type_, type) and issubclass(type_, pydantic.BaseModel):
            try:
                return model.model_validate(value, **_BY_NAME)
            except pydantic.ValidationError:
                # A strict model takes a date, a set, … as JSON has it only from JSON.
                return model.model_validate_json(json.dumps(value), **_BY_NAME)

        return pydantic.TypeAdapter(type_).validate_python(value, **_BY_NAME)

    raise TypeError(f"no way to build {_name(type_)} from JSON")


# A model may have one alias for reading and another for writing; its names are always the same.
_BY_NAME: dict[str, Any] = {"by_alias": False, "by_name": True}
_encoder = msgspec.json.Encoder(enc_hook=_enc_hook)
_canonical_encoder = msgspec.json.Encoder(enc_hook=_canonical_hook, order="deterministic")
_any_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_raw_list: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


@lru_cache(maxsize=1024)
def _decoder(type_: Any) -> Callable[[bytes], Any]:
    try:
        return msgspec.json.Decoder(type_, dec_hook=_dec_hook).decode
    except TypeError:
        # Such as a union of models: what msgspec cannot tell apart, pydantic may.
        adapter = _pydantic_adapter(type_)
        if adapter is None:
            raise

        return partial(adapter.validate_json, **_BY_NAME)


def _convert(plain: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(plain, type_, dec_hook=_dec_hook, str_keys=True)
    except msgspec.ValidationError:
        raise
    except TypeError:
        adapter = _pydantic_adapter(type_)
        if adapter is None:
            raise

        return adapter.validate_python(plain, **_BY_NAME)


def _pydantic_adapter(type_: Any) -> Any:
    """Return pydantic's adapter for a type, or None if pydantic is not in use or not able."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return None

    try:
        return pydantic.TypeAdapter(type_)
    except pydantic.errors.PydanticUserError:
        return None


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
        return "" if children and path == "$" else f" (at {path}, a {_name(type(value))})"

    return ""


def _name(type_: Any) -> str:
    if isinstance(type_, type):
        return (
            type_.__qualname__
            if type_.__module__ == "builtins"
            else f"{type_.__module__}.{type_.__qualname__}"
        )

    return str(type_)
