"""What msgspec does not know ↔ JSON: pydantic models, if pydantic is in use, and paths.

Nothing is imported for it: a class that is not loaded has no objects.

A model knows which of its fields were set, and a request that is built by ``exclude_unset`` depends
on it. So all values are recorded, and beside them the names of those that were only defaults.
"""

from __future__ import annotations

import collections.abc
import json
import sys
import types
import typing
from typing import TYPE_CHECKING, Any

import msgspec

from durable_core.exceptions import EncodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NOT_SET", "dec_hook", "enc_hook", "forget_not_set", "is_model", "is_path", "name_of"]

NOT_SET = "$not_set"

# A model may have one alias for reading and another for writing; its names are always the same.
_BY_NAME: dict[str, Any] = {"by_alias": False, "by_name": True}


def enc_hook(value: Any) -> Any:
    """Return JSON's own types for a value that msgspec does not know.

    Raises:
        EncodeError: It has no JSON form.
    """
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None:
        if isinstance(value, pydantic.BaseModel):
            # `round_trip` leaves out computed fields, which validation may refuse.
            tree = value.model_dump(mode="json", by_alias=False, round_trip=True)
            _note_not_set(value, tree)
            return tree

        if isinstance(value, type(pydantic.AnyUrl("http://x"))):
            return str(value)

    if is_path(type(value)):
        return str(value)

    raise EncodeError(f"{name_of(type(value))} has no JSON form")


def dec_hook(type_: Any, value: Any) -> Any:
    """Return a value of a type that msgspec does not know, from JSON's own types.

    Raises:
        TypeError: Nobody knows it.
        ValueError: The JSON does not fit it.
    """
    if type_ is object:
        return value

    if isinstance(type_, type) and is_path(type_) and isinstance(value, str):
        return type_(value)

    if typing.get_origin(type_) is collections.abc.Iterable:
        return msgspec.convert(
            value, types.GenericAlias(list, typing.get_args(type_)), dec_hook=dec_hook
        )

    pydantic = sys.modules.get("pydantic")
    if pydantic is not None:
        if is_model(type_):
            return _load_model(type_, value, pydantic.ValidationError)

        try:
            adapter = pydantic.TypeAdapter(type_)
        except pydantic.errors.PydanticUserError:
            pass
        else:
            return adapter.validate_python(value, **_BY_NAME)

    raise TypeError(f"{name_of(type_)} has no JSON form")


def is_model(type_: object) -> bool:
    """Return whether this is a pydantic model."""
    pydantic = sys.modules.get("pydantic")
    return (
        pydantic is not None and isinstance(type_, type) and issubclass(type_, pydantic.BaseModel)
    )


def forget_not_set(tree: Any) -> Any:
    """Return a tree without the names of fields that were not set."""
    if isinstance(tree, dict):
        return {k: forget_not_set(v) for k, v in tree.items() if k != NOT_SET}

    return [forget_not_set(v) for v in tree] if isinstance(tree, list) else tree


def name_of(type_: Any) -> str:
    """Return the name of a type for a message."""
    if isinstance(type_, type) and not hasattr(type_, "__origin__"):
        return (
            type_.__qualname__
            if type_.__module__ == "builtins"
            else f"{type_.__module__}.{type_.__qualname__}"
        )

    return str(type_)


def _load_model(model: Any, tree: Any, invalid: type[Exception]) -> Any:
    plain = forget_not_set(tree)
    try:
        loaded = model.model_validate(plain, **_BY_NAME)
    except invalid:
        # A strict model takes a date, a set, … as JSON has it only from JSON.
        loaded = model.model_validate_json(json.dumps(plain), **_BY_NAME)

    _restore_not_set(loaded, tree)
    return loaded


def _note_not_set(value: Any, tree: Any) -> None:
    for model, record in _models(value, tree):
        defaults = [n for n in type(model).model_fields if n not in model.model_fields_set]
        if defaults := [n for n in defaults if n in record]:
            record[NOT_SET] = defaults


def _restore_not_set(value: Any, tree: Any) -> None:
    for model, record in _models(value, tree):
        model.model_fields_set.difference_update(record.get(NOT_SET, ()))


def _models(value: Any, tree: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield each model inside a value with the object that stands for it in the tree.

    A serializer of the user's may have changed the shape; what it made is passed over.
    """
    if is_model(type(value)):
        if not isinstance(tree, dict):
            root = getattr(value, "root", None)
            yield from _models(root, tree) if root is not None else ()
            return

        yield value, tree
        for name in type(value).model_fields:
            if name in tree:
                yield from _models(getattr(value, name, None), tree[name])
    elif isinstance(value, dict) and isinstance(tree, dict):
        named = {k: v for k, v in tree.items() if k != NOT_SET}
        if len(value) == len(named):
            for part, record in zip(value.values(), named.values(), strict=True):
                yield from _models(part, record)
    elif isinstance(tree, list):
        if isinstance(value, (list, tuple)) and len(value) == len(tree):
            for part, record in zip(value, tree, strict=True):
                yield from _models(part, record)
    elif isinstance(tree, dict):
        for name in getattr(type(value), "__dataclass_fields__", ()):
            if name in tree:
                yield from _models(getattr(value, name, None), tree[name])


def is_path(cls: type) -> bool:
    """Return whether this is a class of paths."""
    pathlib = sys.modules.get("pathlib")
    return pathlib is not None and issubclass(cls, pathlib.PurePath)
