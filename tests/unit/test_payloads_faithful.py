"""What would come back from the record changed is refused where it is passed."""

from __future__ import annotations

import datetime as dt
import re
import typing
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import InitVar, dataclass
from typing import Any

import pydantic
import pytest
from durable_core import activity, workflow
from durable_core._signatures import signature
from durable_core.exceptions import DefinitionError, EncodeError
from durable_core.payloads import _faithful
from support import types_matrix as m
from support.engine_runs import Driver, flow
from support.types_record import WHAT, again, encoded


class Marked(str):
    __slots__ = ()


class Plain:
    pass


@dataclass
class Special(m.Item):
    extra: int = 1


@dataclass
class Doubling:
    value: int

    def __post_init__(self) -> None:
        self.value *= 2


@dataclass
class NeedsMore:
    value: int
    more: InitVar[int] = 1


class Hiding(pydantic.BaseModel):
    shown: int = 1
    hidden: int = pydantic.Field(default=0, exclude=True)


class Secretive(pydantic.BaseModel):
    key: pydantic.SecretStr


class Vague(pydantic.BaseModel):
    """Pydantic takes the first one that fits."""

    either: m.Robot | m.Dog | m.Cat | m.Aliased | dict[str, Any]
    who: m.Person | m.Robot


class Kennel(pydantic.BaseModel):
    person: m.Person


class Employee(m.Person):
    salary: int = 0


BERLIN = dt.datetime(2024, 3, 30, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
ODD_OFFSET = dt.datetime(1880, 1, 1, tzinfo=dt.timezone(dt.timedelta(minutes=53, seconds=28)))
VAGUE = Vague(either=m.Dog(), who=m.Robot(name="a"))
CHANGED = "would not come back from the record as it is"

REFUSED: list[tuple[Any, Any, str]] = [
    (Any, (1, 2), r"at \$ \(1, 2\) \(a tuple\) would be \[1, 2\] \(a list\)\. Any brings back"),
    (Any, {"a": [{1}]}, r"at \$\.a\[0\] \{1\} \(a set\) would be \[1\]"),
    (Any, m.Item("a"), r"Item\) would be \{'sku': 'a', 'cents': 0\} \(a dict\)"),
    (Any, m.UTC, r"\(a datetime\.datetime\) would be '2024-05-06T07:08:09\.000010Z' \(a str\)"),
    (Any, {1: 2}, r"the key 1 1 \(a int\) would be '1' \(a str\)"),
    (Any, m.Level.LOW, r"\(a support\.types_matrix\.Level\) would be 1 \(a int\)"),
    (list[int], (1, 2), r"\(1, 2\) \(a tuple\) would be .* Pass what list\[int\] says"),
    (list[int], ["a"], r"does not fit list\[int\]: Expected `int`, got `str` - at `\$\[0\]`"),
    (tuple[int, int], (1, 2, 3), r"Expected `array` of length 2; the value is \(1, 2, 3\)"),
    (set[int], frozenset({1}), CHANGED),
    (typing.Sequence[int], (1,), CHANGED),
    (dict[str, int], OrderedDict(a=1), r"OrderedDict\) would be \{'a': 1\} \(a dict\)"),
    (dict[str, int], defaultdict(int, a=1), CHANGED),
    (dict[str, int], Counter("a"), CHANGED),
    (list[int], deque([1]), r"collections\.deque has no JSON form \(at \$, a collections\.deque"),
    (int, True, r"does not fit int: Expected `int`, got `bool`; the value is True"),
    (int, 1.0, r"Expected `int`, got `float`; the value is 1\.0"),
    (int, "many", r"Expected `int`, got `str`; the value is 'many'"),
    (int, m.Level.LOW, CHANGED),
    (str, m.Flavour.SWEET, CHANGED),
    (str, Marked("a"), "Marked has no JSON form"),
    (float, 2**60 + 1, r"\(a int\) would be 1\.152921504606847e\+18 \(a float\)"),
    (float, True, "Expected `float`, got `bool`"),
    (bytes, bytearray(b"a"), CHANGED),
    (dt.datetime, "2024-05-06T07:08:09", r"\(a str\) would be datetime\.datetime"),
    (dt.datetime, BERLIN, r"zone: pass the time in UTC, and the name of the zone beside it"),
    (dt.datetime, ODD_OFFSET, CHANGED),
    (dt.date, m.UTC, "Invalid RFC3339 encoded date"),
    (m.Item, {"sku": "a"}, r"\(a dict\) would be Item\(sku='a', cents=0\)"),
    (m.Item, Special("a"), r"Special\) would be Item\(sku='a', cents=0\)"),
    (m.Item, m.Item("a", "b"), r"Expected `int`, got `str` - at `\$\.cents`"),
    (m.Item, m.Item("a", m.Level.LOW), r"at \$\.cents"),
    (m.Item | None, Special("a"), CHANGED),
    (m.Item | m.Twin, Special("a"), r"Expected `.*Item \| .*Twin`, got Special\("),
    (m.Item | m.Twin, m.Twin("a", "b"), r"Expected `int`, got `str` - at `\$\.cents`"),
    (list[m.Item | m.Twin], [m.Item("a"), 3], r"got 3 - at `\$\[1\]`"),
    (m.Tree, m.Tree(None, [m.Tree(3)]), r"got 3 - at `\$\.children\[0\]\.value`"),
    (m.Page, m.Page([m.Item("a")]), r"at \$\.items\[0\] Item\("),
    (m.Cast, {"movie": {"title": "a"}, "extra": 1}, CHANGED),
    (Doubling, Doubling(1), r"at \$\.value 2 \(a int\) would be 4 \(a int\)"),
    (NeedsMore, NeedsMore(1), r"has InitVar fields \(more\), which are not kept: make them fields"),
    (Hiding, Hiding(hidden=1), r"at \$\.hidden 1 \(a int\) would be 0"),
    (Secretive, Secretive(key="abc"), r"at \$\.key"),
    (Kennel, Kennel(person=Employee(name="a", salary=3)), r"at \$\.person Employee\("),
    (Vague, VAGUE, r"at \$\.who Robot\(.* Give the union inside the model a discriminator"),
    (dict[tuple[int, int], int], {(1, 2): 3}, r"the key \(1, 2\), a tuple: pass a list of pairs"),
    (dict[bool, int], {True: 1}, r"the key True, a bool"),
    (dict[int | str, int], {1: 1}, r"the key 1 1 \(a int\) would be '1'"),
    (dict[str, Any], {"$member": "a", "$value": 1}, "does not fit dict"),
    (typing.Literal["a", "b"], "c", "Invalid enum value 'c'"),
    (typing.Literal[m.Colour.RED], m.Colour.BLUE, "Invalid value <Colour.BLUE: 'blue'>"),
    (m.Colour, "red", CHANGED),
    (m.Odd, "PAIR", r"Expected `support\.types_matrix\.Odd`, got 'PAIR'"),
    (complex, 1j, "complex has no JSON form"),
    (typing.Iterator[int], iter([1]), "list_iterator has no JSON form"),
    (Plain, Plain(), "Plain has no JSON form"),
    (None, 1, "Expected `null`, got `int`"),
    (typing.SupportsInt, 1, "SupportsInt has no JSON form"),
]


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    REFUSED,
    ids=[f"{i}-{str(r[0])[:40]}" for i, r in enumerate(REFUSED)],
)
def test_what_would_come_back_changed_is_refused_with_place_value_and_remedy(
    annotation, value, says
):
    with pytest.raises(EncodeError) as caught:
        encoded(value, annotation)

    message = str(caught.value)
    assert message.startswith(WHAT)
    assert re.search(says, message), message


def test_what_has_no_annotation_is_told_to_get_one():
    with pytest.raises(EncodeError, match="Annotate it with its type: it has no annotation"):
        _faithful.encode_result((1,), signature(lambda: 1).result, what=WHAT)


@pytest.mark.parametrize(
    "annotation",
    [
        Plain,
        list[Plain],
        Plain | None,
        typing.SupportsInt,
        complex,
        NeedsMore,
        typing.Iterator[int],
    ],
    ids=str,
)
def test_a_result_that_nothing_brings_back_is_found_before_the_activity_runs(annotation):
    def body(): ...

    body.__annotations__ = {"return": annotation}
    body = activity.defn(body)

    async def code():
        await workflow.execute_activity(body)

    with pytest.raises(DefinitionError, match=r"the result of activity 'body' is annotated as .*"):
        Driver(flow(code)).begin()


def test_an_int_for_a_float_becomes_that_float():
    @dataclass
    class Price:
        amount: float

    back = again([1, Price(2)], tuple[float, Price] | list[float | Price])

    assert repr(back) == repr([1.0, Price(2.0)])
