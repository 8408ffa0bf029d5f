"""The table of types: for each kind of annotation a value that must come back as it is.

Imported by unit tests, and by fresh interpreters that replay what another one has recorded.
"""

from __future__ import annotations

import collections.abc as c
import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import uuid
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)

import msgspec
import pydantic
import typing_extensions
from durable_core import activity, workflow

T = TypeVar("T")
Number = TypeVar("Number", int, float)
Bound = TypeVar("Bound", bound="Item")
UserId = NewType("UserId", int)
JSON = Union[dict[str, "JSON"], list["JSON"], str, int, float, bool, None]  # noqa: UP007


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Hue(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Flavour(enum.StrEnum):
    SWEET = "sweet"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Odd(enum.Enum):
    """An enum whose values JSON does not tell apart from other things, or does not know."""

    PAIR = (1, 2)
    HALF = 0.5
    ONE = 1
    TEXT = "text"
    THING = object()


@dataclass
class Item:
    sku: str
    cents: int = 0


@dataclass
class Twin:
    """Looks like an `Item`."""

    sku: str
    cents: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    at: dt.datetime
    tags: frozenset[str] = frozenset()


@dataclass
class Computed:
    net: int
    gross: int = field(init=False)

    def __post_init__(self) -> None:
        self.gross = self.net * 2


@dataclass
class Order:
    id: uuid.UUID
    lines: list[Item]
    either: Item | Twin
    colour: Colour = Colour.RED
    note: Optional[str] = None  # noqa: UP045
    total: decimal.Decimal = decimal.Decimal(0)
    by_day: dict[dt.date, list[Twin | Item]] = field(default_factory=dict)


@dataclass
class Tree:
    value: Item | Twin | None
    children: list[Tree] = field(default_factory=list)


@dataclass
class Page(Generic[T]):
    items: list[T]
    next: T | None = None


@dataclass
class NumberedPage(Page[T]):
    number: int = 1


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Labelled(NamedTuple):
    label: str
    what: Item | Twin


class Movie(TypedDict):
    title: Required[str]
    year: NotRequired[int]


class Cast(TypedDict, total=False):
    lead: Item | Twin
    movie: Movie


class Extended(typing_extensions.TypedDict):
    """As pydantic wants it before Python 3.12."""

    what: Item | Twin
    more: typing_extensions.NotRequired[int]


class Event(msgspec.Struct, tag=True, frozen=True):
    name: str


class Other(msgspec.Struct, tag=True, frozen=True):
    name: str


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True):
    first_name: str
    what_else: Item | Twin = msgspec.field(default_factory=lambda: Item("a"))


class Box(msgspec.Struct, Generic[T]):
    content: T


class Person(pydantic.BaseModel):
    name: str
    born: dt.date | None = None
    tags: set[str] = set()
    friends: list[Person] = []


class Robot(pydantic.BaseModel):
    """Looks like a `Person`."""

    name: str
    born: dt.date | None = None


class Aliased(pydantic.BaseModel):
    value: int = pydantic.Field(validation_alias="in", serialization_alias="out")


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Shelf(pydantic.BaseModel, Generic[T]):
    books: list[T]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"


class Owner(pydantic.BaseModel):
    pet: Cat | Dog = pydantic.Field(discriminator="kind")


DAY = dt.date(2024, 2, 29)
NAIVE = dt.datetime(2024, 5, 6, 7, 8, 9, 10)
UTC = NAIVE.replace(tzinfo=dt.UTC)
EAST = NAIVE.replace(tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))
ID = uuid.UUID(int=7)
ANN = Person(name="Ann", born=DAY, friends=[Person(name="Bob", tags={"x"})])
ORDER = Order(ID, [Item("a", 1)], Twin("b", 2), Colour.BLUE, by_day={DAY: [Twin("c"), Item("c")]})
FOREST = Tree(Item("a"), [Tree(Twin("b"), [Tree(None)]), Tree(Item("c"))])

# Annotation, then values that come back as they are.
TABLE: list[tuple[Any, ...]] = [
    (None, None),
    (bool, True, False),
    (int, 0, -(2**63), 2**80),
    (float, 1.0, -0.0, math.inf, -math.inf, math.nan, 5e-324),
    (str, "", 'nul \x00 quote " duck 🦆 null $member'),
    (bytes, b"", bytes(range(256))),
    (bytearray, bytearray(b"ab")),
    (decimal.Decimal, decimal.Decimal("1.500"), decimal.Decimal("-1E+30"), decimal.Decimal("NaN")),
    (uuid.UUID, ID),
    (pathlib.Path, pathlib.Path("/tmp/x")),
    (dt.datetime, NAIVE, UTC, EAST, dt.datetime.min, dt.datetime.max),
    (dt.date, DAY),
    (dt.time, dt.time(23, 59, 59, 999999), dt.time(1, tzinfo=dt.UTC)),
    (dt.timedelta, dt.timedelta(days=-3, microseconds=7), dt.timedelta.max),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (Flavour, Flavour.SWEET),
    (Right, Right.READ | Right.WRITE),
    (Odd, *Odd),
    (Any, None, True, 1, 1.5, "a", [1, [None]], {"a": {"b": [1.5]}}),
    (object, 1, [1], {"a": 1}),
    (list, [1, "a"]),
    (list[int], [], [1, 2]),
    (c.Sequence[str], ["a"]),
    (c.MutableSequence[str], ["a"]),
    (c.Iterable[int], [1]),
    (c.Iterable[Item | Twin], [Item("a"), Twin("a")]),
    (c.Collection[int], [1]),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (), (1, 2, 3)),
    (tuple[()], ()),
    (tuple[Item | Twin, Colour | Hue], (Twin("a"), Hue.RED)),
    (tuple[Item | Twin, ...], (Twin("a"), Item("a"))),
    (set[str], set(), {"a", "b"}),
    (frozenset[int], frozenset({1, 2})),
    (c.Set[int], {1}),
    (set[Colour | Hue], {Colour.RED, Hue.RED}),
    (dict[str, int], {"b": 1, "a": 2}),
    (dict[int, str], {1: "one"}),
    (dict[Colour, int], {Colour.RED: 1}),
    (dict[Level, int], {Level.LOW: 1}),
    (dict[uuid.UUID, Item], {ID: Item("a")}),
    (dict[dt.date, list[float]], {DAY: [math.inf]}),
    (dict[dt.datetime, int], {UTC: 1}),
    (dict[float, int], {1.5: 1}),
    (dict[UserId, int], {UserId(1): 2}),
    (dict[dt.date, Item | Twin], {DAY: Twin("a")}),
    (c.Mapping[str, c.Sequence[int]], {"a": [1]}),
    (c.MutableMapping[str, int], {"a": 1}),
    (UserId, UserId(5)),
    (Literal["a", 1, None], "a", 1, None),  # noqa: PYI061
    (Literal[True, "x"], True, "x"),
    (Literal[Colour.RED, Level.LOW], Colour.RED, Level.LOW),
    (Annotated[int, "a note"], 1),
    (Annotated[int, []], 1),
    (Annotated[int, msgspec.Meta(gt=0)], 1),
    (Annotated[Item | Twin, "a note"], Twin("a")),
    (Optional[int], None, 1),  # noqa: UP045
    (int | str | None, 1, "a", None),
    (int | float, 1, 1.0, math.nan),
    (bool | int, True, 1),
    (Item | str | None, Item("a"), "a", None),
    (Item | list[Item], Item("a"), [Item("a")]),
    (Person | list[Person] | None, ANN, [ANN], None),
    (Item | Twin, Item("a"), Twin("a")),
    (Item | Twin | str | None, Twin("a"), "a", None),
    (Item | dict[str, Any], Item("a"), {"sku": "a", "cents": 1}, {"$member": "Item", "$value": {}}),
    (Person | Robot, Person(name="a"), Robot(name="a")),
    (Person | Item | Event, Person(name="a"), Item("a"), Event("a")),
    (Person | str, ANN, "Ann"),
    (Annotated[Cat | Dog, pydantic.Field(discriminator="kind")], Cat(), Dog()),
    (Event | Other, Event("a"), Other("a")),
    (Event | Other | Item, Event("a"), Item("a")),
    (Colour | Hue, Colour.RED, Hue.RED),
    (Colour | str, Colour.RED, "red"),
    (Colour | Level, Colour.RED, Level.LOW),
    (Literal["auto"] | dt.datetime, "auto", UTC),
    (dt.datetime | str, UTC, "2024-05-06T07:08:09", "x"),
    (dt.date | dt.datetime, DAY, NAIVE),
    (uuid.UUID | int | str, ID, 1, str(ID)),
    (decimal.Decimal | float, decimal.Decimal("1.5"), 1.5),
    (bytes | str, b"a", "a"),
    (pathlib.Path | str, pathlib.Path("a"), "a"),
    (list[Item] | list[Twin], [Item("a")], [Twin("a")], []),
    (list[int] | tuple[int, ...] | set[int], [1], (1,), {1}),
    (list[Item | Twin], [Item("a"), Twin("a"), Item("b")]),
    (dict[str, list[Person | Robot]], {"a": [Person(name="a"), Robot(name="a")]}),
    (Frozen, Frozen(at=UTC, tags=frozenset({"a"}))),
    (Computed, Computed(3)),
    (Order, ORDER),
    (Tree, FOREST),
    (Page[Item], Page([Item("a")], Item("b"))),
    (Page[Item | Twin], Page([Item("a"), Twin("a")], Twin("b"))),
    (Page[int], Page([1])),
    (NumberedPage[Twin], NumberedPage([Twin("a")], number=2)),
    (Page, Page([1, "a"])),
    (Box[Item], Box(Item("a"))),
    (Box[Item | Twin], Box(Twin("a"))),
    (Shelf[Item], Shelf[Item](books=[Item("a")])),
    (Shelf[Person | Robot], Shelf[Person | Robot](books=[Person(name="a", tags={"x"})])),
    (Point, Point(1, 2.5), Point(1)),
    (Labelled, Labelled("a", Twin("b"))),
    (Movie, {"title": "a"}, {"year": 1, "title": "a"}),
    (Cast, {}, {"movie": {"title": "a"}, "lead": Twin("a")}),
    (Extended, {"what": Twin("a")}, {"more": 1, "what": Item("a")}),
    (Extended | Item | None, {"what": Twin("a")}, Item("a"), None),
    (Event, Event("a")),
    (Renamed, Renamed("a"), Renamed("a", Twin("b"))),
    (Person, ANN, Person(name="a"), Person(name="a", born=None)),
    (Aliased, Aliased.model_validate({"in": 1})),
    (Numbers, Numbers([1, 2])),
    (Owner, Owner(pet=Dog())),
    (JSON, None, {"a": [1, {"b": None, "c": [True, 1.5, "x"]}]}),
    (T, 1, [None]),
    (Number, 1, 1.5),
    (list[Number], [1, 1.5]),
    (Bound, Item("a")),
]


@dataclasses.dataclass(frozen=True)
class Case:
    id: str
    annotation: Any
    value: Any


def _cases() -> list[Case]:
    found = []
    for number, (annotation, *values) in enumerate(TABLE):
        text = getattr(annotation, "__name__", str(annotation)).rpartition(".")[2][:30]
        for i, value in enumerate(values):
            found.append(Case(f"{number:03d}.{i} {text}", annotation, value))

    return found


CASES = _cases()


def shape(value: Any) -> Any:
    """Return value and types of all that a value is made of; independent of the code under test."""
    cls = type(value)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if isinstance(value, dict):
        return (name, [(shape(k), shape(v)) for k, v in value.items()])

    if isinstance(value, (set, frozenset)):
        return (name, sorted(repr(shape(part)) for part in value))

    if isinstance(value, (list, tuple)):
        return (name, [shape(part) for part in value])

    if isinstance(value, pydantic.BaseModel):
        inside = {k: shape(v) for k, v in value.__dict__.items()}
        return (name, inside, sorted(value.model_fields_set))

    if isinstance(value, msgspec.Struct):
        return (name, {k: shape(getattr(value, k)) for k in value.__struct_fields__})

    if dataclasses.is_dataclass(value):
        return (name, {f.name: shape(getattr(value, f.name)) for f in dataclasses.fields(value)})

    if isinstance(value, enum.Enum):
        return (name, str(value))

    if isinstance(value, (dt.datetime, dt.time)):
        # It says which of two hours of a named zone is meant, and Python calls both equal.
        value = value.replace(fold=0)

    return (name, repr(value))


class Flow(NamedTuple):
    """A workflow that passes a value on to an async and to a sync activity, and back."""

    workflow: type
    activities: list[Any]
    seen: list[Any]


def flow_of(annotation: Any, name: str) -> Flow:
    """Return the workflow of an annotation; ``seen`` collects what code and bodies get."""
    seen: list[Any] = []

    async def in_loop(value):
        seen.append(value)
        return value

    def in_thread(value):
        seen.append(value)
        return value

    async def run(self, value):
        seen.append(value)
        for body in (in_loop, in_thread):
            seen.append(await workflow.execute_activity(body, value))

        return value

    for function in (in_loop, in_thread, run):
        function.__annotations__ = {"value": annotation, "return": annotation}
        function.__qualname__ = f"{name}.{function.__name__}"
        function.__module__ = __name__

    activity.defn(name=f"{name}.in_loop")(in_loop)
    activity.defn(name=f"{name}.in_thread")(in_thread)
    made = type("Flow", (), {"run": workflow.run(run), "__module__": __name__})
    return Flow(workflow.defn(name=name)(made), [in_loop, in_thread], seen)
