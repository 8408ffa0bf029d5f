"""Forms: how values become what msgspec can encode, and come back, kind of annotation by kind.

`Native` leaves it all to msgspec. The others walk down to a place that msgspec cannot decode; below
it there may be native forms again.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from durable_core._signatures import short

from ._layouts import Layout
from ._models import dec_hook, enc_hook, name_of
from ._same import difference

__all__ = [
    "Array",
    "Enum",
    "Form",
    "Later",
    "Literal",
    "Mapping",
    "MisfitError",
    "Native",
    "Object",
    "Tuple",
    "json_of",
]


class MisfitError(ValueError):
    """A value or a record does not fit an annotation."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{message} - at `${path}`" if path else message)
        self.message = message
        self.path = path

    def below(self, step: str) -> MisfitError:
        """Return the same one level further out."""
        return MisfitError(self.message, step + self.path)


class Form:
    """How values of one annotation become what msgspec can encode, and come back."""

    def lower(self, value: Any) -> Any:
        """Return what msgspec encodes instead of the value.

        Raises:
            MisfitError: The value does not fit the annotation.
        """
        raise NotImplementedError

    def lift(self, tree: Any) -> Any:
        """Return the value of decoded JSON.

        Raises:
            ValueError: The JSON does not fit the annotation.
            TypeError: Nobody knows how to build such a value.
        """
        raise NotImplementedError


class Native(Form):
    """An annotation that msgspec decodes by itself.

    Attributes:
        decode: Bytes to value.
    """

    def __init__(self, type_: Any) -> None:
        self.decode = msgspec.json.Decoder(type_, dec_hook=dec_hook).decode
        self._type = type_

    def lower(self, value: Any) -> Any:
        """Return the value itself."""
        return value

    def lift(self, tree: Any) -> Any:
        """Return the value of decoded JSON."""
        try:
            return msgspec.convert(tree, self._type, dec_hook=dec_hook, str_keys=True)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `$")
            raise MisfitError(message, path.removesuffix("`")) from error


class Later(Form):
    """Stands for an annotation inside itself."""

    form: Form

    def lower(self, value: Any) -> Any:
        return self.form.lower(value)

    def lift(self, tree: Any) -> Any:
        return self.form.lift(tree)


class Array(Form):
    """A list or a set of one kind of item."""

    def __init__(self, cls: type, item: Form) -> None:
        self._cls = cls
        self._item = item

    def lower(self, value: Any) -> Any:
        expect(type(value) is self._cls, self._cls, value)
        lowered = [at(f"[{i}]", self._item.lower, part) for i, part in enumerate(value)]
        if self._cls in (set, frozenset):
            lowered.sort(key=_sortable)

        return lowered

    def lift(self, tree: Any) -> Any:
        expect(isinstance(tree, list), "array", tree)
        return self._cls([at(f"[{i}]", self._item.lift, part) for i, part in enumerate(tree)])


class Tuple(Form):
    """A tuple of so many items."""

    def __init__(self, items: list[Form]) -> None:
        self._items = items

    def lower(self, value: Any) -> Any:
        expect(type(value) is tuple, tuple, value)
        return [at(f"[{i}]", item.lower, part) for i, (item, part) in enumerate(self._zip(value))]

    def lift(self, tree: Any) -> Any:
        expect(isinstance(tree, list), "array", tree)
        return tuple(
            at(f"[{i}]", item.lift, part) for i, (item, part) in enumerate(self._zip(tree))
        )

    def _zip(self, parts: Any) -> Any:
        if len(parts) != len(self._items):
            raise MisfitError(f"Expected `array` of length {len(self._items)}, got {len(parts)}")

        return zip(self._items, parts, strict=True)


class Mapping(Form):
    """A mapping whose keys are JSON's own or msgspec's."""

    def __init__(self, keys: Native, value: Form) -> None:
        self._keys = keys
        self._value = value

    def lower(self, value: Any) -> Any:
        expect(type(value) is dict, dict, value)
        return {k: at(f".{k}", self._value.lower, part) for k, part in value.items()}

    def lift(self, tree: Any) -> Any:
        expect(isinstance(tree, dict), "object", tree)
        keys = self._keys.lift(dict.fromkeys(tree))
        return {
            key: at(f".{text}", self._value.lift, part)
            for key, (text, part) in zip(keys, tree.items(), strict=True)
        }


class Object(Form):
    """An object of a class with fields."""

    def __init__(self, found: Layout, forms: list[Form]) -> None:
        self._layout = found
        self._fields = list(zip(found.fields, forms, strict=True))

    def lower(self, value: Any) -> Any:
        made = self._layout
        expect(type(value) is made.cls, made.cls, value)
        lowered: dict[str, Any] = dict(made.constant)
        for field, form in self._fields:
            if made.cls is not dict or field.name in value:
                part = made.read(value, field.name)
                lowered[field.key] = at(f".{field.name}", form.lower, part)

        if made.cls is dict:
            return _in_order_of(value, lowered)

        return list(lowered.values()) if made.as_array else lowered

    def lift(self, tree: Any) -> Any:
        if self._layout.as_array:
            expect(isinstance(tree, list), "array", tree)
            expect(len(tree) <= len(self._fields), f"array of {len(self._fields)} or less", tree)
            tree = {f.key: part for (f, _), part in zip(self._fields, tree, strict=False)}

        expect(isinstance(tree, dict), "object", tree)
        values: dict[str, Any] = {}
        for field, form in self._fields:
            if field.key in tree:
                values[field.name] = at(f".{field.key}", form.lift, tree[field.key])
            elif field.required:
                raise MisfitError(f"Object missing required field `{field.key}`")

        if self._layout.cls is dict:
            return _in_order_of(tree, values)

        return self._layout.build(values)


def _in_order_of(mapping: Any, other: dict[str, Any]) -> dict[str, Any]:
    return {key: other[key] for key in mapping if key in other}


class Enum(Form):
    """An enum whose values are no JSON, or of several kinds: its members travel by their names."""

    def __init__(self, cls: type[enum.Enum]) -> None:
        self._cls = cls

    def lower(self, value: Any) -> Any:
        expect(isinstance(value, self._cls), self._cls, value)
        return value.name

    def lift(self, tree: Any) -> Any:
        if isinstance(tree, str) and tree in self._cls.__members__:
            return self._cls[tree]

        # Whoever did not know the type has written the value.
        for member in self._cls:
            if json_of(member.value) == tree:
                return member

        raise MisfitError(f"Invalid enum value {short(tree)}")


class Literal(Form):
    """A `Literal` of enum members, which JSON holds by their values."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = values

    def lower(self, value: Any) -> Any:
        if not any(difference(value, v) is None for v in self._values):
            raise MisfitError(f"Invalid value {short(value)}")

        return value

    def lift(self, tree: Any) -> Any:
        for value in self._values:
            if difference(json_of(value), tree) is None:
                return value

        raise MisfitError(f"Invalid value {short(tree)}")


def json_of(value: Any) -> Any:
    """Return JSON's own types for what msgspec can encode."""
    return _lists(msgspec.to_builtins(value, enc_hook=enc_hook, str_keys=True))


def _lists(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _lists(v) for k, v in tree.items()}

    return [_lists(v) for v in tree] if isinstance(tree, (list, tuple)) else tree


def _sortable(tree: Any) -> bytes:
    # Beside non-finite floats, which this writes as null, the order is that of the set.
    return msgspec.json.encode(tree, enc_hook=enc_hook, order="deterministic")


def at(step: str, call: Any, part: Any) -> Any:
    try:
        return call(part)
    except MisfitError as error:
        raise error.below(step) from error.__cause__


def expect(fits: bool, what: Any, value: Any) -> None:  # noqa: FBT001
    if not fits:
        name = what if isinstance(what, str) else name_of(what)
        raise MisfitError(f"Expected `{name}`, got {short(value)}")
