"""Unions whose members look alike in JSON."""

from __future__ import annotations

import typing
from typing import Any, get_args, get_origin

import msgspec

from durable_core._signatures import short

from ._models import forget_not_set, name_of
from ._same import difference
from ._shapes import Form, MisfitError, json_of
from ._types import class_of, is_alias, kinds, kinds_of_value, plain

__all__ = ["MARKS", "NAME", "VALUE", "Union"]

NAME, VALUE = "$member", "$value"
MARKS = frozenset({NAME, VALUE})


class _Member(msgspec.Struct):
    """One type of a union; ``tagged`` if another one may look like it in JSON."""

    type: Any
    form: Form
    cls: type | None
    kinds: frozenset[str]
    name: str
    tagged: bool = False

    def takes(self, value: Any) -> bool:
        """Return whether a value is of this member's class."""
        if get_origin(plain(self.type)) is typing.Literal:
            return any(difference(value, v) is None for v in get_args(plain(self.type)))

        generic = getattr(type(value), "__pydantic_generic_metadata__", None) or {}
        return self.cls is None or self.cls in (type(value), generic.get("origin"))

    def keeps(self, value: Any) -> bool:
        """Return whether a value comes back as it is from this member."""
        try:
            back = self.form.lift(json_of(self.form.lower(value)))
        except (ValueError, TypeError):
            return False

        return difference(value, back) is None


class Union(Form):
    """One of several types; see `_forms` for how their values are told apart."""

    def __init__(self, type_: Any, members: list[tuple[Any, Form]]) -> None:
        self._name = name_of(type_)
        names = _names([arm for arm, _ in members])
        self._members = [
            _Member(type=arm, form=form, cls=class_of(arm), kinds=kinds(arm), name=name)
            for (arm, form), name in zip(members, names, strict=True)
        ]
        for member in self._members:
            others = [m for m in self._members if m is not member]
            member.tagged = any(m.kinds & member.kinds for m in others)

    def lower(self, value: Any) -> Any:
        takers = [m for m in self._members if m.takes(value)]
        if not takers and type(value) is int:
            takers = [m for m in self._members if m.cls is float]

        if len(takers) > 1:
            takers = [m for m in takers if m.keeps(value)]

        if not takers:
            raise MisfitError(f"Expected `{self._name}`, got {short(value)}")

        member = takers[0]
        tree = member.form.lower(value)
        if member.tagged or (isinstance(tree, dict) and tree.keys() == MARKS):
            return {NAME: member.name, VALUE: tree}

        return tree

    def lift(self, tree: Any) -> Any:
        if isinstance(tree, dict) and tree.keys() == MARKS:
            return self._named(tree[NAME]).form.lift(tree[VALUE])

        kind = kinds_of_value(tree)
        alike = [m for m in self._members if m.kinds & kind]
        if not alike and type(tree) is int:
            alike = [m for m in self._members if m.cls is float]

        return alike[0].form.lift(tree) if len(alike) == 1 else self._first_fit(alike, tree)

    def _named(self, name: Any) -> _Member:
        for member in self._members:
            if member.name == name:
                return member

        raise MisfitError(
            f"the record holds a {short(name)}, which `{self._name}` does not name: classes of a "
            "union are recorded by their names, so keep those"
        )

    def _first_fit(self, members: list[_Member], tree: Any) -> Any:
        """Return the first member that knows every part of the record, else the first that fits."""
        fits: list[Any] = []
        problems: list[str] = []
        for member in members:
            try:
                value = member.form.lift(tree)
                again = json_of(member.form.lower(value))
            except (ValueError, TypeError) as problem:
                problems.append(f"{member.name}: {problem}")
                continue

            fits.append(value)
            if difference(forget_not_set(again), forget_not_set(tree)) is None:
                return value

        if not fits:
            why = f" ({'; '.join(problems)})" if problems else ""
            raise MisfitError(f"Expected `{self._name}`, got {short(tree)}{why}")

        return fits[0]


def _names(types_: list[Any]) -> list[str]:
    """Return names that tell types apart: as short as possible, since a record outlives modules."""
    ways = [[_class_name(t), _name_with_arguments(t), name_of(t)] for t in types_]
    return [
        next((n for i, n in enumerate(own) if [w[i] for w in ways].count(n) == 1), own[-1])
        for own in ways
    ]


def _class_name(type_: Any) -> str:
    found = get_origin(plain(type_)) or plain(type_)
    return getattr(found, "__name__", None) or str(found)


def _name_with_arguments(type_: Any) -> str:
    inside = () if is_alias(type_) else get_args(plain(type_))
    if not inside:
        return getattr(type_, "__name__", None) or _class_name(type_)

    shown = ("..." if a is ... else _name_with_arguments(a) for a in inside)
    return f"{_class_name(type_)}[{', '.join(shown)}]"
