"""What tools return comes back from the record as what it was, or as its text."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
from agents import (
    ToolOutputFileContent,
    ToolOutputImage,
    ToolOutputText,
)
from durable_core.payloads import _json
from durable_openai_agents import _outputs
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_validator


def through_json(value: Any) -> Any:
    """Return what the engine gives back of a record."""
    return _json.decode(_json.encode(value, what="a record"), Any, what="a record")


# -- outputs of tools --------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    NUMBER = 7


class Size(enum.IntEnum):
    BIG = 3


class Mode(enum.StrEnum):
    FAST = "fast"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Part(BaseModel):
    name: str
    weight: float = 1.5


@dataclasses.dataclass
class Inner:
    colour: Colour
    at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    parts: dict[str, Part]
    pair: tuple[int, str] = (1, "a")
    maybe: Inner | None = None


class Aliased(BaseModel):
    inner_name: str = Field(alias="innerName")


class TwoAliases(BaseModel):
    value: int = Field(validation_alias="in", serialization_alias="out")


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field
    @property
    def area(self) -> int:
        return self.side**2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T]


class IntPage(Page[int]):
    pass


class Exact(BaseModel):
    amount: decimal.Decimal
    on: datetime.date
    data: bytes = b"\x00\x01"
    codes: set[int] = {1}


class Line:
    @dataclasses.dataclass
    class Nested:
        value: int


OUTPUTS = [
    None,
    True,
    0,
    -0.0,
    2**53 + 1,
    2**100,
    1e300,
    float("inf"),
    "",
    "ünï ✓ \n\t\x00 🎉",
    [],
    {},
    (),
    [[], {}, ()],
    {"$class": "x"},
    {"$value": 1},
    {"": None, "a b": [1]},
    (1, [2, (3, {"four": (5,)})]),
    Colour.RED,
    Colour.NUMBER,
    Size.BIG,
    Mode.FAST,
    Rights.READ | Rights.WRITE,
    [Colour.RED, (Size.BIG,)],
    Part(name="a"),
    Outer(
        Inner(Colour.RED, datetime.datetime(2024, 2, 29, 12, 30)), {"a": Part(name="b", weight=2)}
    ),
    Outer(
        Inner(Colour.RED, datetime.datetime.max),
        {},
        (2, "b"),
        Inner(Colour.NUMBER, datetime.datetime.min),
    ),
    Aliased(innerName="x"),
    TwoAliases(**{"in": 3}),
    Computed(side=3),
    Open(anything=[1, {"a": None}]),
    IntPage(items=[1, 2]),
    Exact(amount=decimal.Decimal("1.10"), on=datetime.date(2024, 2, 29)),
    Line.Nested(1),
    {"parts": [Part(name="a"), Part(name="b")], "n": 1},
    ToolOutputText(text="a"),
    ToolOutputImage(file_id="f", detail="high"),
    ToolOutputFileContent(file_data="YQ==", filename="a.txt"),
    [ToolOutputText(text="a"), ToolOutputImage(image_url="http://x/y.png")],
]


@pytest.mark.parametrize("value", OUTPUTS, ids=lambda v: repr(v)[:40])
def test_an_output_comes_back_as_it_was(value, caplog):
    again = _outputs.load(through_json(_outputs.dump(value)))
    if value == {"$class": "x"}:
        # What looks like our own mark is recorded as text, without harm.
        assert again == str(value)
        return

    assert type(again) is type(value)
    assert again == value
    assert str(again) == str(value)
    assert not caplog.records


def test_not_a_number_comes_back_also_inside_of_models():
    again = _outputs.load(through_json(_outputs.dump([float("nan"), (float("nan"),)])))
    assert math.isnan(again[0])
    assert math.isnan(again[1][0])
    part = _outputs.load(through_json(_outputs.dump(Part(name="x", weight=float("nan")))))
    assert str(part) == "name='x' weight=nan"


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


class Pair(NamedTuple):
    a: int
    b: str


class Words(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "other words"


@dataclasses.dataclass
class Holder:
    thing: Any


class Picky(BaseModel):
    """Validates what it does not serialize to."""

    value: int

    @field_validator("value", mode="before")
    @classmethod
    def only_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            raise TypeError("text, please")

        return int(value)


class Base(BaseModel):
    a: int = 1


class Derived(Base):
    b: int = 2


class Has(BaseModel):
    base: Base


@dataclasses.dataclass
class Counted:
    """Counts on construction, as ids and clocks do."""

    value: int
    made: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        Counted.total += 1
        self.made = Counted.total


Counted.total = 0  # type: ignore[attr-defined]


def local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        a: int

    return Local(1)


TEXTS = [
    Odd(),
    [1, Odd()],
    (Odd(),),
    {"a": {"b": Odd()}},
    {1: "a"},
    {1, 2},
    frozenset({1}),
    b"bytes",
    decimal.Decimal("1.10"),
    datetime.date(2024, 2, 29),
    [datetime.timedelta(seconds=1)],
    Pair(1, "a"),
    [Pair(1, "a")],
    Words("words"),
    complex(1, 2),
    range(3),
    ValueError("no"),
    Holder(Odd()),
    [Part(name="a"), Odd()],
    Picky(value="7"),
    # Comes back equal, with another text: of its time zone.
    Inner(Colour.RED, datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)),
    Has(base=Derived()),
    Counted(1),
    local_class(),
    Page[int](items=[1]),
]


@pytest.mark.parametrize("value", TEXTS, ids=lambda v: repr(v)[:40])
def test_an_output_that_would_not_come_back_is_its_text(value):
    text = str(value)
    record = _outputs.dump(value)
    assert record == text
    assert _outputs.load(through_json(record)) == text


class Noted:
    pass


def test_each_kind_of_output_that_becomes_text_is_warned_about_once(caplog):
    for value in (Noted(), [Noted()], {"a": Noted()}):
        _outputs.dump(value)

    [record] = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "durable_openai_agents")
    assert "Noted" in record.getMessage()


def test_a_final_output_that_is_only_for_readers_is_not_warned_about(caplog):
    class Quiet:
        pass

    assert "Quiet" in _outputs.dump(Quiet(), warn=False)
    assert not caplog.records


def test_a_record_of_a_class_that_is_gone_gives_its_fields():
    assert _outputs.load({"$class": "no.such.module:Part", "$value": {"a": 1}}) == {"a": 1}
    assert _outputs.load({"$class": f"{__name__}:through_json", "$value": 1}) == 1
    assert _outputs.load({"$class": "os:system", "$value": "x"}) == "x"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(json_values)
def test_any_json_value_comes_back(value):
    again = _outputs.load(through_json(_outputs.dump(value)))
    assert str(again) == str(value)
    assert again == value or "$class" in str(value)
