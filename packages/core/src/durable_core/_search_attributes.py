"""Search attributes: typed facts of a run by which runs are found and counted.

A value has two forms: the Python value that users give and get, and the *recorded* one, which is
plain data: text, number, bool, or a tuple of texts. A time is recorded as text in UTC with all its
digits, so that texts sort as the times do.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from itertools import pairwise
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast, overload

from . import _defaults
from .exceptions import SearchAttributeError

__all__ = [
    "BUILTIN",
    "Recorded",
    "SearchAttributeIndexedValueType",
    "SearchAttributeKey",
    "SearchAttributePair",
    "SearchAttributeUpdate",
    "TypedSearchAttributes",
    "check_total",
    "key_of",
    "lifted",
    "lowered",
    "lowered_pairs",
    "recorded_time",
    "untyped",
]

V = TypeVar("V", str, int, float, bool, datetime, Sequence[str])
D = TypeVar("D")

Recorded = str | int | float | bool | tuple[str, ...]
"""A value as it is recorded."""

BUILTIN = (
    *("WorkflowId", "RunId", "WorkflowType", "ExecutionStatus", "StartTime", "CloseTime"),
    "TaskQueue",
)
"""What every run has, by the names that filters use."""

_INT = 1 << 63


class SearchAttributeIndexedValueType(IntEnum):
    """The types of search attributes."""

    TEXT = 1
    KEYWORD = 2
    INT = 3
    DOUBLE = 4
    BOOL = 5
    DATETIME = 6
    KEYWORD_LIST = 7

    @property
    def kind(self) -> str:
        """Its name in records and messages, such as ``KeywordList``."""
        return self.name.title().replace("_", "")


_Type = SearchAttributeIndexedValueType
_TYPES = {each.kind: each for each in _Type}


@dataclass(frozen=True, slots=True)
class SearchAttributeKey(Generic[V]):
    """Name and type of a search attribute. Make one by a method ``for_…``.

    A name has one type in a namespace: that with which it was first used.

    Attributes:
        name: Of the attribute.
        indexed_value_type: Its type.
    """

    name: str
    indexed_value_type: SearchAttributeIndexedValueType

    @property
    def value_type(self) -> type[V]:
        """The Python type of its values."""
        return cast("type[V]", _PYTHON[self.indexed_value_type])

    def value_set(self, value: V) -> SearchAttributeUpdate[V]:
        """Return what sets it, for `durable_core.workflow.upsert_search_attributes`."""
        return SearchAttributeUpdate(self, value)

    def value_unset(self) -> SearchAttributeUpdate[V]:
        """Return what takes it away, for `durable_core.workflow.upsert_search_attributes`."""
        return SearchAttributeUpdate(self, None)

    @staticmethod
    def for_text(name: str) -> SearchAttributeKey[str]:
        """Return the key of a text for people, of which words are searched."""
        return SearchAttributeKey(name, _Type.TEXT)

    @staticmethod
    def for_keyword(name: str) -> SearchAttributeKey[str]:
        """Return the key of a text that is compared as a whole."""
        return SearchAttributeKey(name, _Type.KEYWORD)

    @staticmethod
    def for_int(name: str) -> SearchAttributeKey[int]:
        """Return the key of a whole number of 64 bits."""
        return SearchAttributeKey(name, _Type.INT)

    @staticmethod
    def for_float(name: str) -> SearchAttributeKey[float]:
        """Return the key of a number; its type is called ``Double``."""
        return SearchAttributeKey(name, _Type.DOUBLE)

    @staticmethod
    def for_bool(name: str) -> SearchAttributeKey[bool]:
        """Return the key of a bool."""
        return SearchAttributeKey(name, _Type.BOOL)

    @staticmethod
    def for_datetime(name: str) -> SearchAttributeKey[datetime]:
        """Return the key of a time with a time zone; it comes back in UTC."""
        return SearchAttributeKey(name, _Type.DATETIME)

    @staticmethod
    def for_keyword_list(name: str) -> SearchAttributeKey[Sequence[str]]:
        """Return the key of a list of texts, each of which is compared as a whole."""
        return SearchAttributeKey(name, _Type.KEYWORD_LIST)


_PYTHON: dict[SearchAttributeIndexedValueType, Any] = {
    _Type.TEXT: str,
    _Type.KEYWORD: str,
    _Type.INT: int,
    _Type.DOUBLE: float,
    _Type.BOOL: bool,
    _Type.DATETIME: datetime,
    _Type.KEYWORD_LIST: Sequence[str],
}


class SearchAttributePair(NamedTuple, Generic[V]):
    """A search attribute and its value."""

    key: SearchAttributeKey[V]
    value: V


@dataclass(frozen=True, slots=True)
class SearchAttributeUpdate(Generic[V]):
    """A change of a search attribute: `SearchAttributeKey.value_set` and ``value_unset`` make it.

    Attributes:
        key: Of the attribute.
        value: What it is set to; None takes it away.
    """

    key: SearchAttributeKey[V]
    value: V | None


@dataclass(frozen=True)
class TypedSearchAttributes(Collection[SearchAttributePair[Any]]):
    """Search attributes with their values, sorted by name; immutable.

    Attributes:
        search_attributes: The pairs.

    Raises:
        ValueError: Two of them have one name.
    """

    search_attributes: Sequence[SearchAttributePair[Any]]

    empty: ClassVar[TypedSearchAttributes]
    """None at all."""

    def __post_init__(self) -> None:
        """Sort them."""
        pairs = tuple(sorted(self.search_attributes, key=lambda pair: pair.key.name))
        object.__setattr__(self, "search_attributes", pairs)
        for one, next_ in pairwise(pairs):
            if one.key.name == next_.key.name:
                raise ValueError(
                    f"the search attribute {one.key.name!r} is given twice: give it one value"
                )

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.search_attributes)

    def __iter__(self) -> Iterator[SearchAttributePair[Any]]:
        """Iterate over the pairs."""
        return iter(self.search_attributes)

    def __contains__(self, key: object) -> bool:
        """Return whether an attribute of this name and type is there."""
        return any(pair.key == key for pair in self.search_attributes)

    def __getitem__(self, key: SearchAttributeKey[V]) -> V:
        """Return the value of an attribute.

        Raises:
            KeyError: There is none of this name and type.
        """
        for pair in self.search_attributes:
            if pair.key == key:
                return cast("V", pair.value)

        raise KeyError(key.name)

    @overload
    def get(self, key: SearchAttributeKey[V]) -> V | None: ...

    @overload
    def get(self, key: SearchAttributeKey[V], default: D) -> V | D: ...

    def get(self, key: SearchAttributeKey[Any], default: Any = None) -> Any:
        """Return the value of an attribute, or the default if it is not there."""
        try:
            return self[key]
        except KeyError:
            return default

    def updated(self, *search_attributes: SearchAttributePair[Any]) -> TypedSearchAttributes:
        """Return these with others added, or put in the place of those of the same name."""
        pairs = {pair.key.name: pair for pair in (*self.search_attributes, *search_attributes)}
        return TypedSearchAttributes(list(pairs.values()))


TypedSearchAttributes.empty = TypedSearchAttributes(search_attributes=())


# Values ↔ recorded values


def key_of(name: str, kind: str) -> SearchAttributeKey[Any]:
    """Return a key by the name of its type."""
    return SearchAttributeKey(name, _TYPES[kind])


def lowered(key: SearchAttributeKey[Any], value: Any) -> Recorded | None:
    """Return the recorded form of a value; None for an empty list, which is no value.

    Raises:
        SearchAttributeError: Name or value cannot be kept.
    """
    _check_name(key.name)
    type_ = key.indexed_value_type
    found: Recorded | None = _LOWER[type_](value)
    if found is None:
        shown = repr(value)
        raise SearchAttributeError(
            f"the search attribute {key.name!r} is of the type {type_.kind} and takes "
            f"{_TAKES[type_]}, got {shown if len(shown) <= 60 else shown[:57] + '…'}"
        )

    if found == ():
        return None

    if (size := size_of(found)) > _defaults.ATTRIBUTE_SIZE:
        raise SearchAttributeError(
            f"the value of the search attribute {key.name!r} takes {size} bytes, and may take "
            f"{_defaults.ATTRIBUTE_SIZE}: shorten it, or put it into the memo"
        )

    return found


def lowered_pairs(attributes: object) -> dict[str, tuple[str, Recorded]]:
    """Return type and recorded value of search attributes by name.

    Raises:
        SearchAttributeError: They are no `TypedSearchAttributes`, or one of them cannot be kept.
    """
    if attributes is None:
        return {}

    if not isinstance(attributes, TypedSearchAttributes):
        raise SearchAttributeError(
            f"search attributes are TypedSearchAttributes, got {type(attributes).__name__}: pass "
            "TypedSearchAttributes([SearchAttributePair(SearchAttributeKey.for_keyword('Name'), "
            "'value')])"
        )

    found: dict[str, tuple[str, Recorded]] = {}
    for pair in attributes.search_attributes:
        value = lowered(pair.key, pair.value)
        if value is not None:
            found[pair.key.name] = pair.key.indexed_value_type.kind, value

    check_total(found)
    return found


def check_total(attributes: Mapping[str, tuple[str, Recorded]]) -> None:
    """Check that there is not too much of it for one run.

    Raises:
        SearchAttributeError: There is.
    """
    if len(attributes) > _defaults.ATTRIBUTES:
        raise SearchAttributeError(
            f"a run may have {_defaults.ATTRIBUTES} search attributes, got {len(attributes)}: put "
            "what is not searched for into the memo"
        )

    size = sum(len(name.encode()) + size_of(v) for name, (_, v) in attributes.items())
    if size > _defaults.ATTRIBUTES_SIZE:
        raise SearchAttributeError(
            f"the search attributes of a run may take {_defaults.ATTRIBUTES_SIZE} bytes, got "
            f"{size}: put what is not searched for into the memo"
        )


def lifted(kind: str, value: Recorded) -> Any:
    """Return the Python value of a recorded one."""
    if kind == _Type.DATETIME.kind:
        return datetime.fromisoformat(cast("str", value))

    return list(value) if isinstance(value, tuple) else value


def untyped(attributes: Iterable[SearchAttributePair[Any]]) -> dict[str, list[Any]]:
    """Return values by name, each as a list: temporalio's older form."""
    found: dict[str, list[Any]] = {}
    for key, value in attributes:
        is_list = key.indexed_value_type is _Type.KEYWORD_LIST
        found[key.name] = list(value) if is_list else [value]

    return found


def recorded_time(value: datetime) -> str:
    """Return the recorded form of a time that has a time zone."""
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def size_of(value: Recorded) -> int:
    """Return how many bytes a recorded value takes."""
    match value:
        case str():
            return len(value.encode())
        case tuple():
            return sum(len(each.encode()) for each in value)
        case _:
            return 8


def _check_name(name: Any) -> None:
    rule = f"a search attribute has a name of 1 to {_defaults.ATTRIBUTE_NAME} characters"
    if not isinstance(name, str) or not 1 <= len(name) <= _defaults.ATTRIBUTE_NAME:
        raise SearchAttributeError(f"{rule}, got {name!r}")

    if "`" in name or not name.isprintable():
        raise SearchAttributeError(f"{rule} that can be printed, no backquote, got {name!r}")

    if name in BUILTIN:
        raise SearchAttributeError(
            f"every run has a {name}: give the search attribute another name"
        )


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or "\0" in value:
        return None

    try:
        value.encode()
    except UnicodeEncodeError:
        return None

    # Not that of a subclass, such as an enum.
    return str.__str__(value)


def _int(value: Any) -> int | None:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if is_int and -_INT <= value < _INT else None


def _float(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None

    try:
        found = float(value)
    except OverflowError:
        return None

    # There is no other zero in a filter.
    return found + 0.0 if math.isfinite(found) else None


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _datetime(value: Any) -> str | None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        return None

    try:
        return recorded_time(value)
    except OverflowError:
        return None


def _texts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return None

    found = tuple(_text(each) for each in value)
    return None if None in found else cast("tuple[str, ...]", found)


_LOWER: dict[SearchAttributeIndexedValueType, Any] = {
    _Type.TEXT: _text,
    _Type.KEYWORD: _text,
    _Type.INT: _int,
    _Type.DOUBLE: _float,
    _Type.BOOL: _bool,
    _Type.DATETIME: _datetime,
    _Type.KEYWORD_LIST: _texts,
}
_TAKES = {
    _Type.TEXT: "a str without NUL",
    _Type.KEYWORD: "a str without NUL",
    _Type.INT: "an int of 64 bits",
    _Type.DOUBLE: "a finite float",
    _Type.BOOL: "a bool",
    _Type.DATETIME: "a datetime with a time zone",
    _Type.KEYWORD_LIST: "a list of str without NUL",
}
