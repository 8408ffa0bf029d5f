"""The JSON that an annotation takes, as JSON Schema: for a process that has not the annotation.

Such as one from which a person answers a request. `_fits` checks a value against it. What a class
demands beyond its fields (a `__post_init__`, a validator) no schema tells.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from durable_core.exceptions import DefinitionError

from ._forms import form_of
from ._models import is_model, is_path, name_of
from ._types import unknown_class, without_variables

if TYPE_CHECKING:
    import msgspec.inspect as mi

__all__ = ["schema_of"]

_DEFS = "#/$defs/"
_LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
}
# A number of items is no number of characters.
_COUNTS = {"min_length": "minItems", "max_length": "maxItems"}
_TEXTS = {
    "DateTimeType": "date-time",
    "TimeType": "time",
    "DateType": "date",
    "TimeDeltaType": "duration",
    "UUIDType": "uuid",
    "DecimalType": "decimal",
}
_BYTES = {"BytesType", "ByteArrayType", "MemoryViewType"}
_SIMPLE = {
    "NoneType": "null",
    "BoolType": "boolean",
    "IntType": "integer",
    "FloatType": "number",
    "StrType": "string",
}


def schema_of(type_: Any, *, what: str) -> bytes:
    """Return the JSON Schema of an annotation, as JSON.

    Args:
        type_: The annotation.
        what: Whose answer it is, for the message.

    Raises:
        DefinitionError: Nothing of that annotation comes back from JSON, or its form is not known.
    """
    import msgspec.inspect

    try:
        form_of(type_)
        unknown = unknown_class(type_)
        if unknown is not None:
            raise TypeError(f"{name_of(unknown)} has no JSON form")

        definitions: dict[str, Any] = {}
        schema = _Schemas(definitions).of(msgspec.inspect.type_info(without_variables(type_)))
    except (TypeError, AttributeError, NameError, RecursionError) as error:
        raise DefinitionError(
            f"the answer of {what} is to be {name_of(type_)}, which cannot be described as JSON: "
            f"{error}. Ask for data: JSON types, enums, dataclasses, pydantic or msgspec models"
        ) from error

    if definitions:
        schema = {**schema, "$defs": definitions}

    return msgspec.json.encode(schema)


class _Schemas:
    """Makes schemas, and collects those of classes by their names."""

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        self._names: dict[type, str] = {}

    def of(self, info: mi.Type) -> dict[str, Any]:
        kind: str = type(info).__name__
        seen: Any = info
        if kind in _SIMPLE:
            return {"type": _SIMPLE[kind], **_limits(info, _LIMITS)}

        if kind in _TEXTS:
            # One that was written as a number is as exact in JSON.
            type_ = ["string", "number"] if kind == "DecimalType" else "string"
            return {"type": type_, "format": _TEXTS[kind]}

        if kind in _BYTES:
            return {"type": "string", "contentEncoding": "base64"}

        match kind:
            case "AnyType" | "RawType":
                return {}
            case "Metadata":
                return {**self.of(seen.type), **(seen.extra_json_schema or {})}
            case "LiteralType":
                return {"enum": list(seen.values)}
            case "EnumType":
                return {"title": seen.cls.__name__, "enum": [m.value for m in seen.cls]}
            case "UnionType":
                return {"anyOf": [self.of(t) for t in seen.types]}
            case "TupleType":
                return _tuple([self.of(t) for t in seen.item_types])
            case "ListType" | "VarTupleType" | "SetType" | "FrozenSetType" | "CollectionType":
                unique = {"uniqueItems": True} if "Set" in kind else {}
                items = self.of(seen.item_type)
                return {"type": "array", "items": items, **unique, **_limits(info, _COUNTS)}
            case "DictType" | "FrozenDictType":
                keys = _keys(self.of(seen.key_type))
                return {
                    "type": "object",
                    "additionalProperties": self.of(seen.value_type),
                    **({"propertyNames": keys} if keys else {}),
                }
            case "CustomType":
                return self._custom(seen.cls)
            case _:
                return self._object(seen)

    def _object(self, info: Any) -> dict[str, Any]:
        """Return a reference to the schema of a class with fields."""
        cls: type = info.cls
        if cls in self._names:
            return {"$ref": _DEFS + self._names[cls]}

        name = self._names[cls] = self._new_name(cls)
        # Before its fields, which may be of the class.
        self._definitions[name] = {}
        fields = {f.encode_name: self.of(f.type) for f in info.fields}
        tag = getattr(info, "tag", None)
        if tag is not None:
            fields = {info.tag_field: {"enum": [tag]}, **fields}

        found: dict[str, Any]
        if getattr(info, "array_like", False) or type(info).__name__ == "NamedTupleType":
            least = sum(f.required for f in info.fields) + (tag is not None)
            found = {**_tuple(list(fields.values())), "minItems": least}
        else:
            required = [f.encode_name for f in info.fields if f.required]
            required = required if tag is None else [info.tag_field, *required]
            found = {"type": "object", "properties": fields, "required": required}
            if getattr(info, "forbid_unknown_fields", False):
                found["additionalProperties"] = False

        self._definitions[name] = {"title": cls.__name__, **found}
        return {"$ref": _DEFS + name}

    def _custom(self, cls: Any) -> dict[str, Any]:
        """Return the schema of what msgspec does not know: of pydantic, or a path."""
        if isinstance(cls, type) and is_path(cls):
            return {"type": "string"}

        pydantic = sys.modules.get("pydantic")
        if pydantic is None:
            raise TypeError(f"{name_of(cls)} has no known JSON form")

        if is_model(cls):
            found = cls.model_json_schema(by_alias=False)
        else:
            found = pydantic.TypeAdapter(cls).json_schema(by_alias=False)

        for name, definition in found.pop("$defs", {}).items():
            self._definitions.setdefault(name, definition)

        return dict(found)

    def _new_name(self, cls: type) -> str:
        name, n = cls.__name__, 1
        while name in self._definitions:
            n += 1
            name = f"{cls.__name__}{n}"

        return name


def _tuple(items: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {"minItems": len(items), "maxItems": len(items)}
    return {"type": "array", "prefixItems": items, **counts}


def _limits(info: Any, names: dict[str, str]) -> dict[str, Any]:
    found = {name: getattr(info, attribute, None) for attribute, name in names.items()}
    return {name: limit for name, limit in found.items() if limit is not None}


def _keys(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what the keys of a mapping must be, which are texts in JSON; nothing if any may be."""
    match schema.get("type"):
        case "string":
            return {k: v for k, v in schema.items() if k != "type"}
        case "integer":
            return {"pattern": r"^-?[0-9]+$"}
        case _:
            return schema if "enum" in schema else {}
