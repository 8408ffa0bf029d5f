"""Classes with fields: how their objects become JSON and come back, field by field."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any, get_args, get_origin

import msgspec

from durable_core._signatures import locals_of

from ._types import is_typeddict, substitute

__all__ = ["Field", "Layout", "layout"]


class Field(msgspec.Struct, frozen=True):
    """One field: its name, its name in JSON, its annotation, and whether JSON must have it."""

    name: str
    key: str
    type: Any
    required: bool


class Layout(msgspec.Struct, frozen=True):
    """How an object of a class becomes JSON and comes back.

    Attributes:
        cls: The class.
        fields: In order.
        as_array: Whether it is an array in JSON.
        constant: What else its JSON holds.
        read: Returns a field of an object.
        build: Returns an object of the fields that there are.
    """

    cls: type
    fields: tuple[Field, ...]
    as_array: bool
    constant: dict[str, Any]
    read: Callable[[Any, str], Any]
    build: Callable[[dict[str, Any]], Any]


def layout(type_: Any) -> Layout | None:
    """Return the layout of a class, or None if it has none that we know.

    Raises:
        TypeError: The class cannot be rebuilt of its fields.
    """
    cls = get_origin(type_) or type_
    if not isinstance(cls, type):
        return None

    if dataclasses.is_dataclass(cls):
        return _of_dataclass(type_, cls)

    if issubclass(cls, msgspec.Struct):
        return _of_struct(type_, cls)

    if is_typeddict(cls):
        return _of_typeddict(type_, cls)

    return _of_namedtuple(type_, cls) if hasattr(cls, "_field_defaults") else None


def _of_dataclass(type_: Any, cls: Any) -> Layout:
    pseudo = [f.name for f in cls.__dataclass_fields__.values() if _is_init_var(f)]
    if pseudo:
        raise TypeError(
            f"dataclass {cls.__qualname__} has InitVar fields ({', '.join(pseudo)}), which are "
            "not kept: make them fields"
        )

    hints = _hints(type_)
    defaults = {f.name: f for f in dataclasses.fields(cls)}
    fields = tuple(
        Field(f.name, f.name, hints.get(f.name, Any), _is_required(f)) for f in defaults.values()
    )

    def build(values: dict[str, Any]) -> Any:
        # As msgspec does: not by `__init__`, which may take something else.
        made: Any = object.__new__(cls)
        for name, declared in defaults.items():
            if name in values:
                value = values[name]
            elif declared.default_factory is not dataclasses.MISSING:
                value = declared.default_factory()
            else:
                value = declared.default

            object.__setattr__(made, name, value)

        if hasattr(made, "__post_init__"):
            made.__post_init__()

        return made

    return Layout(cls, fields, as_array=False, constant={}, read=getattr, build=build)


def _is_init_var(declared: Any) -> bool:
    return declared._field_type is dataclasses._FIELD_INITVAR  # type: ignore[attr-defined] # noqa: SLF001


def _is_required(declared: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return declared.default is missing and declared.default_factory is missing


def _of_struct(type_: Any, cls: type[msgspec.Struct]) -> Layout:
    config = cls.__struct_config__
    if config.array_like:
        raise TypeError(f"{cls.__qualname__} is array_like and has fields that need names")

    hints = _hints(type_)
    required = {f.name for f in msgspec.structs.fields(cls) if f.required} if hints else set[str]()
    keys = dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    fields = tuple(
        Field(n, keys[n], hints.get(n, Any), n in required) for n in cls.__struct_fields__
    )
    constant = {} if config.tag is None else {str(config.tag_field): config.tag}
    return Layout(
        cls,
        fields,
        as_array=False,
        constant=constant,
        read=getattr,
        build=lambda values: cls(**values),
    )


def _of_typeddict(type_: Any, cls: Any) -> Layout:
    fields: list[Field] = []
    for name, hint in _hints(type_).items():
        # Under `from __future__ import annotations` the class itself does not know.
        said = getattr(get_origin(hint), "_name", None)
        required = said == "Required" or (said != "NotRequired" and name in cls.__required_keys__)
        fields.append(Field(name, name, hint, required))

    return Layout(
        dict,
        tuple(fields),
        as_array=False,
        constant={},
        read=lambda value, name: value[name],
        build=dict,
    )


def _of_namedtuple(type_: Any, cls: Any) -> Layout:
    hints = _hints(type_)
    fields = tuple(
        Field(name, name, hints.get(name, Any), name not in cls._field_defaults)
        for name in cls._fields
    )
    return Layout(
        cls,
        fields,
        as_array=True,
        constant={},
        read=getattr,
        build=lambda values: cls(**values),
    )


def _hints(type_: Any) -> dict[str, Any]:
    """Return the annotations of a class and its bases, with type parameters filled in."""
    cls: Any = get_origin(type_) or type_
    bound = dict(zip(getattr(cls, "__parameters__", ()), get_args(type_), strict=False))
    found = {name: substitute(hint, bound) for name, hint in _own_hints(cls).items()}
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        generic = origin in (typing.Generic, typing.Protocol)
        if isinstance(origin, type) and not generic and hasattr(origin, "__annotations__"):
            for name, hint in _hints(substitute(base, bound)).items():
                found.setdefault(name, hint)

    return found


def _own_hints(cls: type) -> dict[str, Any]:
    own = inspect.get_annotations(cls)
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError:
        module = sys.modules.get(cls.__module__)
        scope = {**vars(cls), **(vars(module) if module else {}), **locals_of(cls)}
        try:
            hints = typing.get_type_hints(cls, localns=scope, include_extras=True)
        except NameError as error:
            raise TypeError(
                f"an annotation of {cls.__qualname__} cannot be resolved: {error}"
            ) from error

    return {name: hints[name] for name in own if name in hints}
