from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest
from durable_core.exceptions import DecodeError, EncodeError
from durable_core.payloads import _json
from hypothesis import given
from hypothesis import strategies as st

WHAT = "the result of activity 'charge'"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Flavour(enum.StrEnum):
    SWEET = "sweet"


@dataclass
class Line:
    sku: str
    cents: int
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Order:
    id: uuid.UUID
    lines: list[Line]
    placed: dt.datetime
    colour: Colour = Colour.RED
    note: str | None = None


class Point(NamedTuple):
    x: int
    y: float


class Event(msgspec.Struct, frozen=True, tag=True):
    name: str
    at: dt.datetime


class Other(msgspec.Struct, frozen=True, tag=True):
    name: str


class Person(pydantic.BaseModel):
    name: str
    born: dt.date
    tags: set[str] = set()
    score: float = 0.0


class Company(pydantic.BaseModel):
    title: str
    people: list[Person] = []


class Renamed(pydantic.BaseModel):
    first: int = pydantic.Field(alias="firstValue")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")

    when: dt.datetime
    tags: set[str]

    @pydantic.computed_field
    @property
    def count(self) -> int:
        return len(self.tags)


class Shapes(pydantic.RootModel[list[int]]):
    pass


@dataclass
class Mixed:
    person: Person
    events: list[Event]
    ratio: float


PERSON = Person(name="Ann", born=dt.date(1990, 2, 3), tags={"a", "b"}, score=1.5)
UTC = dt.datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=dt.UTC)
EAST = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))

ROUND_TRIPS = [
    (None, None),
    (True, bool),
    (0, int),
    (2**63 - 1, int),
    (-(2**63), int),
    (2**80, int),
    (1.0, float),
    (-0.0, float),
    (5e-324, float),
    (1e22, float),
    (math.inf, float),
    (-math.inf, float),
    ("", str),
    ('nul \x00, quote ", emoji 🦆, null', str),
    (b"", bytes),
    (bytes(range(256)), bytes),
    (Colour.BLUE, Colour),
    (Level.HIGH, Level),
    (Flavour.SWEET, Flavour),
    (UTC, dt.datetime),
    (EAST, dt.datetime),
    (dt.datetime(2024, 1, 1, 12, 0), dt.datetime),
    (dt.date(2024, 2, 29), dt.date),
    (dt.time(23, 59, 59, 999999), dt.time),
    (dt.timedelta(days=-3, microseconds=7), dt.timedelta),
    (uuid.UUID(int=7), uuid.UUID),
    (decimal.Decimal("1.500"), decimal.Decimal),
    ([1, "a", None], list[Any]),
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    pytest.param({"a", "b"}, set[str], id="a set of two"),
    (frozenset({1, 2}), frozenset[int]),
    ({"b": 1, "a": 2}, dict[str, int]),
    ({1: "one"}, dict[int, str]),
    ({Colour.RED: 1}, dict[Colour, int]),
    ({1: math.inf}, dict[int, float]),
    ({dt.date(2024, 1, 1): [math.inf]}, dict[dt.date, list[float]]),
    (Line("a", 1, ["x"]), Line),
    (Order(uuid.UUID(int=1), [Line("a", 1), Line("b", 2)], UTC, Colour.BLUE, None), Order),
    (Point(1, 2.5), Point),
    (Event("start", UTC), Event),
    (Other("x"), Event | Other),
    ([Event("e", UTC), Other("x")], list[Event | Other]),
    (PERSON, Person),
    (PERSON, Person | None),
    (None, Person | None),
    (Company(title="c", people=[PERSON]), Company),
    (Company(title="c"), Person | Company),
    (PERSON, Person | str),
    ("Ann", Person | str),
    ([PERSON, Company(title="c")], list[Person | Company]),
    (PERSON.model_copy(update={"score": math.inf}), Person | Company),
    (Renamed(firstValue=3), Renamed),
    (Strict(when=UTC, tags={"a"}), Strict),
    (Shapes([1, 2]), Shapes),
    (Mixed(PERSON, [Event("e", UTC)], 0.5), Mixed),
    (Mixed(PERSON, [], math.inf), Mixed),
    ({"deep": [{"person": {"a": [PERSON]}}]}, dict[str, list[dict[str, dict[str, list[Person]]]]]),
    ({"$float": "nan"}, dict[str, str]),
]


@pytest.mark.parametrize(("value", "type_"), ROUND_TRIPS, ids=lambda part: repr(part)[:40])
def test_a_recorded_value_comes_back_as_it_was(value, type_):
    back = _json.decode(_json.encode(value, what=WHAT), type_, what=WHAT)

    assert back == value
    assert type(back) is type(value)


def test_nan_comes_back_as_nan_wherever_it_stands():
    value = {"a": [1.0, math.nan], "b": None}

    back = _json.decode(_json.encode(value, what=WHAT), dict[str, Any], what=WHAT)

    assert math.isnan(back["a"][1])
    assert back["a"][0] == 1.0
    assert back["b"] is None


def test_none_is_not_taken_for_nan():
    assert _json.decode(_json.encode([None, "null"], what=WHAT), Any, what=WHAT) == [None, "null"]


def test_minus_zero_keeps_its_sign_and_a_float_stays_a_float():
    back = _json.decode(_json.encode([-0.0, 1.0, 1], what=WHAT), Any, what=WHAT)

    assert math.copysign(1, back[0]) == -1
    assert [type(part) for part in back] == [float, float, int]


def test_mappings_and_lists_keep_their_order():
    value = {"z": 1, "a": 2, "m": [3, 1, 2]}

    assert list(_json.decode(_json.encode(value, what=WHAT), Any, what=WHAT)) == ["z", "a", "m"]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats()
        | st.text(st.characters(codec="utf-8")),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(
                st.text(st.characters(codec="utf-8")).filter(lambda k: k != "$float"),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_whatever_json_can_hold_comes_back_as_it_was(value):
    back = _json.decode(_json.encode(value, what=WHAT), Any, what=WHAT)

    assert repr(back) == repr(value)


@dataclass
class Anything:
    number: int
    ratio: float
    text: str | None
    raw: bytes
    when: dt.datetime
    length: dt.timedelta
    colour: Colour
    id: uuid.UUID
    exact: decimal.Decimal
    pairs: dict[int, tuple[float, str]]
    names: frozenset[str]
    children: list[Anything]


text = st.text(st.characters(codec="utf-8"))
anythings = st.deferred(
    lambda: st.builds(
        Anything,
        number=st.integers(),
        ratio=st.floats(allow_nan=False),
        text=st.none() | text,
        raw=st.binary(),
        when=st.datetimes(timezones=st.just(dt.UTC) | st.none()),
        length=st.timedeltas(),
        colour=st.sampled_from(Colour),
        id=st.uuids(),
        exact=st.decimals(allow_nan=False, allow_infinity=False),
        pairs=st.dictionaries(
            st.integers(), st.tuples(st.floats(allow_nan=False), text), max_size=3
        ),
        names=st.frozensets(text, max_size=3),
        children=st.lists(anythings, max_size=2),
    )
)


@given(anythings)
def test_a_typed_value_comes_back_as_it_was_with_any_content(value):
    back = _json.decode(_json.encode(value, what=WHAT), Anything, what=WHAT)

    assert back == value


def test_what_cannot_be_recorded_is_named_with_its_path_its_type_and_the_remedy():
    value = {"order": [1, {"lock": threading.Lock()}]}

    with pytest.raises(EncodeError) as caught:
        _json.encode(value, what=WHAT)

    message = str(caught.value)
    assert WHAT in message
    assert "$.order[1].lock" in message
    assert "lock" in message
    assert "Pass data" in message


@pytest.mark.parametrize(
    ("value", "path", "type_"),
    [
        (object(), "$", "object"),
        ([print], "$[0]", "builtin_function_or_method"),
        ({"a": {1: {2: [object()]}}}, "$.a.1.2[0]", "object"),
        (Line("a", 1, [object()]), "$.tags[0]", "object"),
        (Event("a", object()), "$.at", "object"),
        (PERSON.model_copy(update={"score": object()}), "$.score", "object"),
        ((1, complex(1, 2)), "$[1]", "complex"),
        ({"text": "half a pair: \ud83d"}, "$.text", "str"),
    ],
    ids=["top", "function", "nested", "dataclass", "struct", "pydantic", "complex", "surrogate"],
)
def test_the_path_leads_to_the_part_that_cannot_be_recorded(value, path, type_):
    with pytest.raises(EncodeError) as caught:
        _json.encode(value, what=WHAT)

    assert f"(at {path}, a {type_})" in str(caught.value)


def test_a_key_that_json_cannot_hold_is_refused_with_its_type():
    with pytest.raises(EncodeError, match="tuple has no JSON form"):
        _json.encode({(1, 2): 3}, what=WHAT)


def test_a_value_that_contains_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(EncodeError, match=WHAT):
        _json.encode(endless, what=WHAT)


def test_a_mapping_that_looks_like_a_tag_is_refused_beside_a_non_finite_float():
    with pytest.raises(EncodeError, match="ambiguous"):
        _json.encode({"$float": "nan", "x": math.nan}, what=WHAT)


def test_a_record_that_does_not_fit_its_type_says_what_where_and_shows_the_record():
    data = _json.encode({"sku": "a", "cents": "many"}, what=WHAT)

    with pytest.raises(DecodeError) as caught:
        _json.decode(data, Line, what=WHAT)

    message = str(caught.value)
    assert WHAT in message
    assert "Line" in message
    assert "$.cents" in message
    assert '"many"' in message


@pytest.mark.parametrize("data", [b"", b"\x00", b"{", b"\xff\xfe", b'\x00{"$float":"x"}'])
def test_bytes_that_are_no_json_are_refused_as_such(data):
    with pytest.raises(DecodeError, match=WHAT):
        _json.decode(data, Line, what=WHAT)


def test_an_added_field_with_a_default_reads_old_records():
    @dataclass
    class Today(Line):
        currency: str = "EUR"

    old = _json.encode(Line("a", 1), what=WHAT)

    assert _json.decode(old, Today, what=WHAT) == Today("a", 1, [], "EUR")


def test_arguments_are_decoded_one_by_one_each_by_its_type():
    data = _json.encode((Line("a", 1), UTC, [1]), what=WHAT)

    assert _json.decode_args(data, (Line, dt.datetime), what=WHAT) == (Line("a", 1), UTC, [1])
    assert _json.decode_args(b"[]", (Line,), what=WHAT) == ()


def test_arguments_with_a_non_finite_float_are_decoded_by_their_types_too():
    data = _json.encode((Line("a", 1), math.inf, None), what=WHAT)

    assert _json.decode_args(data, (Line, float), what=WHAT) == (Line("a", 1), math.inf, None)


def test_an_argument_that_does_not_fit_is_named_by_its_position():
    data = _json.encode((1, "x"), what=WHAT)

    with pytest.raises(DecodeError, match=f"argument 2 of {WHAT}"):
        _json.decode_args(data, (int, int), what=WHAT)


def test_a_model_with_different_aliases_for_reading_and_writing_comes_back():
    class Both(pydantic.BaseModel):
        value: int = pydantic.Field(validation_alias="in", serialization_alias="out")

    value = Both.model_validate({"in": 1})

    assert _json.decode(_json.encode(value, what=WHAT), Both, what=WHAT) == value
