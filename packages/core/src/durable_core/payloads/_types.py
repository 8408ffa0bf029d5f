"""What annotations say: the class of their values, and how those look in JSON."""

from __future__ import annotations

import collections.abc as c
import dataclasses
import datetime as dt
import decimal
import enum
import sys
import types
import typing
import uuid
from typing import Any, Union, get_args, get_origin

import msgspec

from ._models import is_model, is_path

__all__ = [
    "ARRAYS",
    "MAPPINGS",
    "arms",
    "class_of",
    "is_alias",
    "is_typeddict",
    "kinds",
    "kinds_of_value",
    "plain",
    "substitute",
    "unknown_class",
    "without_variables",
]

# What an abstract annotation comes back as.
ARRAYS: dict[Any, type] = {
    **dict.fromkeys((list, c.Sequence, c.MutableSequence, c.Collection, c.Iterable), list),
    **dict.fromkeys((set, c.Set, c.MutableSet), set),
    frozenset: frozenset,
}
MAPPINGS: tuple[Any, ...] = (dict, c.Mapping, c.MutableMapping)
_WRAPPERS = {"Annotated", "ClassVar", "Final", "NotRequired", "ReadOnly", "Required"}
_NOTHING_KNOWN = ("Never", "NoReturn", "Self")
_TEXTS = (str, bytes, bytearray, memoryview, dt.datetime, dt.date, dt.time, dt.timedelta)

_ANY = frozenset({"null", "bool", "int", "float", "str", "array", "object"})


def plain(type_: Any) -> Any:
    """Return an annotation without its wrappers and aliases.

    A type variable is what it is bound to; what is not known (yet) is `Any`.
    """
    while True:
        origin: Any = get_origin(type_)
        name = getattr(origin or type_, "__name__", None) or getattr(type_, "_name", None)
        if type_ is None:
            return types.NoneType

        if origin is typing.Annotated or (origin is not None and name in _WRAPPERS):
            type_ = get_args(type_)[0]
        elif isinstance(type_, typing.NewType):
            type_ = type_.__supertype__
        elif origin is not None and is_alias(origin):
            type_ = substitute(
                origin.__value__, dict(zip(origin.__type_params__, get_args(type_), strict=False))
            )
        elif is_alias(type_):
            type_ = type_.__value__
        elif isinstance(type_, typing.TypeVar):
            type_ = _of_variable(type_)
        elif isinstance(type_, (typing.ForwardRef, str)) or name in _NOTHING_KNOWN:
            return Any
        else:
            return str if name == "LiteralString" else type_


def _of_variable(variable: typing.TypeVar) -> Any:
    constraints: Any = variable.__constraints__
    if constraints:
        return Union[constraints]  # noqa: UP007

    bound = variable.__bound__
    if isinstance(bound, typing.ForwardRef):
        module = sys.modules.get(getattr(variable, "__module__", ""))
        bound = vars(module).get(bound.__forward_arg__) if module else None

    return Any if bound is None else bound


def without_variables(type_: Any) -> Any:
    """Return an annotation with its open type variables replaced by what they are bound to."""
    if isinstance(type_, typing.TypeVar):
        return plain(type_)

    parameters = getattr(type_, "__parameters__", ()) if get_origin(type_) is not None else ()
    return substitute(type_, {p: plain(p) for p in parameters if isinstance(p, typing.TypeVar)})


def arms(type_: Any) -> list[Any]:
    """Return the members of a union, in order; the annotation itself if it is none."""
    inner = plain(type_)
    if get_origin(inner) not in (Union, types.UnionType):
        return [type_]

    return [arm for arg in get_args(inner) for arm in arms(arg)]


def class_of(type_: Any) -> type | None:
    """Return the class of an annotation's values, or None if it may be any."""
    inner = plain(type_)
    found = get_origin(inner) or inner
    if found in (object, types.UnionType) or not isinstance(found, type):
        return None

    if found in ARRAYS:
        return ARRAYS[found]

    if found in MAPPINGS or is_typeddict(found):
        return dict

    return type(found()) if is_path(found) else found


def kinds(type_: Any) -> frozenset[str]:
    """Return how values of an annotation may look in JSON."""
    inner = plain(type_)
    if get_origin(inner) is typing.Literal:
        return frozenset().union(*(kinds_of_value(v) for v in get_args(inner)))

    cls = class_of(inner)
    if cls is None:
        return _ANY

    if issubclass(cls, enum.Enum):
        return _kinds_of_enum(cls)

    for base, kind in (
        (types.NoneType, "null"),
        (bool, "bool"),
        (int, "int"),
        (float, "float"),
        ((*_TEXTS, uuid.UUID, decimal.Decimal), "str"),
        ((list, tuple, set, frozenset), "array"),
        (dict, "object"),
    ):
        if issubclass(cls, base):
            return frozenset({kind})

    if issubclass(cls, msgspec.Struct):
        return frozenset({"array" if cls.__struct_config__.array_like else "object"})

    if is_path(cls):
        return frozenset({"str"})

    known = dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__") or is_model(cls)
    may_be_anything = getattr(cls, "__pydantic_root_model__", False)
    return frozenset({"object"}) if known and not may_be_anything else _ANY


def kinds_of_value(tree: Any) -> frozenset[str]:
    """Return the kind of a piece of JSON, or of what will become one."""
    return kinds(type(tree)) if tree is not None else frozenset({"null"})


def unknown_class(type_: Any, outside: tuple[Any, ...] = ()) -> Any:
    """Return what inside an annotation nobody can build from JSON, or None."""
    inner = plain(type_)
    if get_origin(inner) is typing.Literal or any(type_ is t for t in outside):
        return None

    for arg in get_args(inner):
        found = unknown_class(arg, (*outside, type_)) if arg is not ... else None
        if found is not None:
            return found

    cls = class_of(inner)
    return inner if cls is not None and not (_is_known(cls) or _is_pydantics(inner, cls)) else None


def _is_known(cls: type) -> bool:
    import msgspec.inspect

    return (
        issubclass(cls, (enum.Enum, msgspec.Struct))
        or is_path(cls)
        or is_model(cls)
        or dataclasses.is_dataclass(cls)
        or hasattr(cls, "_field_defaults")
        or not isinstance(msgspec.inspect.type_info(cls), msgspec.inspect.CustomType)
    )


def _is_pydantics(type_: Any, cls: type) -> bool:
    """Return whether pydantic brings back what msgspec writes: mappings, and values of its own."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not (issubclass(cls, dict) or cls.__module__.startswith("pydantic")):
        return False

    try:
        pydantic.TypeAdapter(type_)
    except pydantic.errors.PydanticUserError:
        return False

    return True


def _kinds_of_enum(cls: type[enum.Enum]) -> frozenset[str]:
    values = {type(m.value) for m in cls}
    return frozenset({values.pop().__name__}) if values in ({str}, {int}) else _ANY


def is_typeddict(cls: type) -> bool:
    """Return whether this is a `TypedDict`, also one of ``typing_extensions``."""
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def is_alias(type_: object) -> bool:
    """Return whether this was made by a ``type`` statement."""
    return type(type_).__name__ == "TypeAliasType"


def substitute(type_: Any, bound: dict[Any, Any]) -> Any:
    """Return an annotation with type variables replaced."""
    if isinstance(type_, typing.TypeVar):
        return bound.get(type_, type_)

    parameters = getattr(type_, "__parameters__", ())
    if not bound or not parameters or isinstance(type_, type):
        return type_

    return type_[tuple(bound.get(p, p) for p in parameters)]
