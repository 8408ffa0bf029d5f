"""How the values of an annotation travel, where msgspec alone cannot tell them apart.

msgspec decodes most annotations, and those go its way untouched. It refuses a union whose members
look alike in JSON, such as two dataclasses, an enum and a string, or two pydantic models. There,
and on the way down to such a place, a `Form` of ours does the work: `lower` turns a value into what
msgspec can encode, `lift` turns decoded JSON back into the value.

In a union a member is written as ``{"$member": name, "$value": …}`` if another member may look like
it, and plainly if none does. A plain record is understood all the same, since it may have been
written when the annotation named fewer types: it becomes the first member that it fits.
"""

from __future__ import annotations

import collections.abc
import enum
import types
import typing
from typing import Any, get_args, get_origin

from . import _shapes as shapes
from ._layouts import layout
from ._models import NOT_SET, name_of
from ._shapes import Form, Native, json_of
from ._types import ARRAYS, MAPPINGS, arms, plain, without_variables
from ._unions import MARKS, VALUE, Union

__all__ = ["Form", "Native", "form_of", "json_of", "without_marks"]

_forms: dict[Any, Form] = {}
_MOST = 4096


def form_of(type_: Any) -> Form:
    """Return the form of an annotation.

    Raises:
        TypeError: Values of that annotation cannot be told apart in JSON, or not be built from it.
    """
    # Unions are equal in any order, but here the order says which member comes first.
    plain_class = type(type_) is type  # most are; asking for their origin costs more than the rest
    key = type_ if plain_class or get_origin(type_) is None else (type_, repr(type_))
    try:
        found = _forms.get(key)
    except TypeError:  # not hashable, such as Annotated[int, []]
        return _compile(type_, {})

    if found is None:
        if len(_forms) >= _MOST:
            _forms.clear()

        found = _forms[key] = _compile(type_, {})

    return found


def without_marks(tree: Any) -> Any:
    """Return decoded JSON as it would be without unions and models, for whoever has no types."""
    if isinstance(tree, dict):
        if tree.keys() == MARKS:
            return without_marks(tree[VALUE])

        return {k: without_marks(v) for k, v in tree.items() if k != NOT_SET}

    return [without_marks(v) for v in tree] if isinstance(tree, list) else tree


def _compile(type_: Any, under_way: dict[str, shapes.Later]) -> Form:
    type_ = without_variables(type_)
    if get_origin(type_) is collections.abc.Iterable:
        type_ = types.GenericAlias(list, get_args(type_))

    try:
        return Native(type_)
    except (TypeError, NameError, AttributeError, RecursionError) as error:
        reason = str(error).partition(" - type `")[0]

    key = f"{id(type_)} {type_!r}"
    if key in under_way:
        return under_way[key]

    later = under_way[key] = shapes.Later()
    later.form = _compose(type_, under_way, reason)
    return later.form


def _compose(type_: Any, under_way: dict[str, shapes.Later], reason: str) -> Form:
    inner = plain(type_)
    if inner is not type_:
        return _compile(inner, under_way)

    origin, args = get_origin(inner), get_args(inner)
    if origin in (typing.Union, types.UnionType):
        return Union(type_, [(arm, _compile(arm, under_way)) for arm in arms(inner)])

    if origin is typing.Literal:
        return shapes.Literal(args)

    cls = origin or inner
    if cls is tuple and args[1:] != (...,):
        return shapes.Tuple([_compile(arg, under_way) for arg in args])

    if cls in ARRAYS or cls is tuple:
        return shapes.Array(ARRAYS.get(cls, tuple), _compile(args[0] if args else Any, under_way))

    if cls in MAPPINGS and len(args) == 2:
        return shapes.Mapping(
            Native(types.GenericAlias(dict, (args[0], None))), _compile(args[1], under_way)
        )

    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return shapes.Enum(cls)

    found = layout(inner)
    if found is None:
        raise TypeError(f"{name_of(type_)} is not supported: {reason}")

    return shapes.Object(found, [_compile(field.type, under_way) for field in found.fields])
