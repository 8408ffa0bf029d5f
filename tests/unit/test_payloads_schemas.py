"""What JSON an annotation takes, and whether a piece of JSON is that."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
from collections import namedtuple
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from durable_core.exceptions import DecodeError, DefinitionError
from durable_core.payloads import _fits, _json, _schemas
from hypothesis import given, settings
from hypothesis import strategies as st


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Item:
    sku: str
    count: int = 1
    price: float | None = None


@dataclass
class Tree:
    name: str
    parts: list[Tree] = field(default_factory=list)


class Point(NamedTuple):
    x: int
    y: int = 0


class Options(TypedDict, total=False):
    fast: bool


class Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    how_many: int


class Row(msgspec.Struct, array_like=True):
    a: int
    b: str = ""


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Order(pydantic.BaseModel):
    items: list[str] = pydantic.Field(min_length=1)
    cents: int = pydantic.Field(gt=0, alias="amount")
    mood: Literal["good", "bad"] = "good"


class Nested(pydantic.BaseModel):
    order: Order | None


SHORT = Annotated[str, msgspec.Meta(min_length=1, max_length=3, pattern="^[a-z]+$")]
DIGIT = Annotated[int, msgspec.Meta(ge=0, lt=10)]
EVEN = Annotated[int, msgspec.Meta(multiple_of=2, gt=0, le=8)]
FEW = Annotated[list[int], msgspec.Meta(min_length=1, max_length=2)]

TYPES: list[Any] = [
    *(bool, int, float, str, bytes, None, Any, Color, Level, Literal[1, "a"]),
    *(dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal),
    *(list[int], set[str], tuple[int, ...], tuple[int, str], dict[str, int], dict[int, bool]),
    *(dict[Color, int], dict[uuid.UUID, int], int | None, list[int | str], Item | None),
    *(Item, Tree, Point, Options, Strict, Row, Cat | Dog, Order, Nested, list[Order]),
    *(SHORT, DIGIT, EVEN, FEW, list[Item | None]),
]
# Pydantic takes more than its own schema says, and less JSON than it takes Python.
LAX = (Order, Nested, list[Order])

TEXTS = st.sampled_from(
    [
        *("", "a", "ab", "abcd", "A", "red", "blue", "1", "-5", "1.5", "x y", "good", "true"),
        *("2026-01-05", "2026-01-05T09:30:00Z", "2026-01-05T09:30:00", "09:30:00", "P2D", "PT5M"),
        *("AAE=", "A", "00000000-0000-0000-0000-000000000007", "Cat", "Dog", "é"),
    ]
)
NAMES = st.sampled_from(
    [
        *("sku", "count", "price", "name", "parts", "fast", "howMany", "how_many", "type", "lives"),
        *("items", "cents", "amount", "mood", "order", "x", "1", "red", "a"),
        "00000000-0000-0000-0000-000000000007",
    ]
)
NUMBERS = st.integers(-3, 12) | st.floats(-2, 12, allow_nan=False).filter(lambda x: x % 1)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


def schema(type_):
    return json.loads(_schemas.schema_of(type_, what="request 'k'"))


MANY = 300
SCHEMAS = [schema(type_) for type_ in TYPES]


def decodes(type_, value):
    try:
        _json.decode(msgspec.json.encode(value), type_, what="it")
    except DecodeError:
        return False

    return True


@settings(max_examples=MANY)
@given(value=JSON, which=st.integers(0, len(TYPES) - 1))
def test_what_fits_the_schema_of_a_type_is_decoded_as_it(value, which):
    if _fits.misfit(value, SCHEMAS[which]) is None:
        assert decodes(TYPES[which], value), (value, SCHEMAS[which])


@settings(max_examples=MANY)
@given(value=JSON, which=st.integers(0, len(TYPES) - 1))
def test_what_does_not_fit_the_schema_of_a_type_is_not_decoded_as_it(value, which):
    type_ = TYPES[which]
    if type_ not in LAX and _fits.misfit(value, SCHEMAS[which]) is not None:
        assert not decodes(type_, value), (value, SCHEMAS[which])


@pytest.mark.parametrize("type_", TYPES, ids=str)
@given(data=st.data())
def test_what_a_type_is_written_as_fits_its_schema(type_, data):
    """From values of the type, built by Hypothesis from the annotation."""
    if type_ in (Order, Nested, list[Order]):
        order = Order(items=["a"], amount=data.draw(st.integers(1, 9)))
        value = {Order: order, Nested: Nested(order=order)}.get(type_, [order])
    elif any(type_ is t for t in (SHORT, DIGIT, EVEN, FEW, Any)):
        value = {SHORT: "abc", DIGIT: 9, EVEN: 8, Any: {"a": [1]}}.get(type_) or [1, 2]
    else:
        value = data.draw(_values(type_))

    tree = msgspec.json.decode(_json.encode(_json.lower(value, type_, what="it"), what="it"))
    assert _fits.misfit(tree, schema(type_)) is None, (value, tree)


def _values(type_):
    if type_ is None:
        return st.none()

    if type_ in (dt.time, dt.datetime):
        return st.times() if type_ is dt.time else st.datetimes(timezones=st.just(dt.UTC))

    number = st.floats(allow_nan=False, allow_infinity=False)
    with_floats = {Item: st.builds(Item, st.text(), st.integers(-5, 5), st.none() | number)}
    known = {
        float: number,
        decimal.Decimal: st.decimals(allow_nan=False, allow_infinity=False),
        Tree: st.builds(Tree, st.text(), st.lists(st.builds(Tree, st.text()), max_size=2)),
        dt.timedelta: st.timedeltas(dt.timedelta(-99), dt.timedelta(99)),
        **with_floats,
        Item | None: st.none() | with_floats[Item],
    }
    if type_ == list[Item | None]:
        return st.lists(st.none() | with_floats[Item], max_size=2)

    return known[type_] if type_ in known else st.from_type(type_)


@pytest.mark.parametrize(
    ("type_", "value", "problem"),
    [
        (bool, 1, "at $: expected boolean, got 1"),
        (int, True, "at $: expected integer, got true"),
        (list[int], [1, "2"], 'at $[1]: expected integer, got "2"'),
        (Item, {"count": 2}, "at $: 'sku' is missing"),
        (Item, {"sku": "a", "price": "5"}, 'at $.price: expected number, got "5"'),
        (Tree, {"name": "a", "parts": [{"name": 1}]}, "at $.parts[0].name: expected string, got 1"),
        (Color, "green", 'at $: expected one of "red", "blue", got "green"'),
        (Strict, {"howMany": 1, "x": 2}, "at $: 'x' is not expected; there are howMany"),
        (dt.date, "soon", 'at $: expected a date, got "soon"'),
        (bytes, "%", 'at $: expected base64, got "%"'),
        (DIGIT, 10, "at $: expected less than 10, got 10"),
        (SHORT, "abcd", "at $: expected at most 3 characters, got 4"),
        (FEW, [], "at $: expected at least 1 items, got 0"),
        (dict[int, str], {"a": "b"}, 'at $ (a key): expected a text like ^-?[0-9]+$, got "a"'),
        (Cat | Dog, {"type": "Cat", "lives": "9"}, 'at $.lives: expected integer, got "9"'),
        (str, {"a": "x" * 90}, f'at $: expected string, got {{"a":"{"x" * 53}…'),
    ],
)
def test_a_misfit_says_where_what_was_expected_and_what_came(type_, value, problem):
    assert _fits.misfit(value, schema(type_)) == problem


def test_the_schema_of_a_class_that_refers_to_itself_ends():
    found = schema(Tree)
    assert found["$ref"] == "#/$defs/Tree"
    parts = found["$defs"]["Tree"]["properties"]["parts"]
    assert parts == {"type": "array", "items": {"$ref": "#/$defs/Tree"}}


def test_two_classes_of_one_name_are_told_apart():
    other = msgspec.defstruct("Item", [("size", int)], module="elsewhere")
    found = schema(tuple[Item, other])
    assert set(found["$defs"]) == {"Item", "Item2"}
    assert _fits.misfit([{"sku": "a"}, {"size": 1}], found) is None
    assert _fits.misfit([{"sku": "a"}, {"sku": "a"}], found) == "at $[1]: 'size' is missing"


class Live:
    """No data."""


@pytest.mark.parametrize("type_", [Live, list[Live], object(), Item | Tree, dict[str, Live]])
def test_a_type_that_cannot_be_told_in_json_is_refused(type_):
    with pytest.raises(DefinitionError, match="the answer of request 'k' is to be .* Ask for data"):
        _schemas.schema_of(type_, what="request 'k'")


def test_a_path_is_a_text_and_a_plain_named_tuple_takes_anything():
    assert schema(Path) == {"type": "string"}
    assert _fits.misfit([1, "a"], schema(namedtuple("Pair", ["a", "b"]))) is None  # noqa: PYI024
