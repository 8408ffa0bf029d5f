"""Every kind of annotation: what goes into the record is what comes back, or the call says why not.

The table is in `support.types_matrix`; `tests/integration/test_types_stored.py` sends it through a
store and a fresh interpreter.
"""

from __future__ import annotations
import __future__

import datetime as dt
import enum
import functools
import re
import sys
import typing
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import InitVar, dataclass
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest
from durable_core import activity, workflow
from durable_core._signatures import Parameter, signature
from durable_core.exceptions import DecodeError, DefinitionError, EncodeError, NonDeterminismError
from durable_core.payloads import _faithful, _json
from durable_core.payloads._same import difference
from durable_core.worker._start import new_start
from durable_core.workflow._defn import definition_of
from hypothesis import given
from hypothesis import strategies as st
from support import types_matrix as m
from support.engine_runs import Driver, flow, live
from support.types_values import values

WHAT = "the result of activity 'x'"


def encoded(value: Any, annotation: Any) -> bytes:
    return _faithful.encode_result(value, Parameter("return", annotation), what=WHAT)


def again(value: Any, annotation: Any) -> Any:
    return _json.decode(encoded(value, annotation), annotation, what=WHAT)


def start_of(workflow_class: type, *args: Any) -> Any:
    return new_start(
        definition_of(workflow_class),
        args,
        namespace="default",
        workflow_id="w",
        task_queue="q",
        client="c",
    )


@pytest.mark.parametrize("case", m.CASES, ids=lambda case: case.id)
def test_a_value_comes_back_as_it_was(case):
    assert m.shape(again(case.value, case.annotation)) == m.shape(case.value)
    _faithful.check_result(Parameter("return", case.annotation), owner="activity 'x'")


@pytest.mark.parametrize("case", m.CASES, ids=lambda case: case.id)
def test_workflow_and_activities_see_what_was_passed_live_and_on_replay(case):
    made = m.flow_of(case.annotation, "Flow")
    driver = Driver(made.workflow, start=start_of(made.workflow, case.value)).run_to_end()
    live_seen = [m.shape(value) for value in made.seen]
    made.seen.clear()
    driver.replay()
    # Bodies do not run again.
    replayed = [m.shape(value) for value in made.seen]

    expected = m.shape(case.value)
    assert live_seen == [expected] * 5
    assert replayed == [expected] * 3
    assert (
        m.shape(_json.decode(driver.run.closed.result.data, case.annotation, what="x")) == expected
    )
    driver.check_replays()


def test_pydantic_is_not_needed_for_any_of_it(processes):
    code = """
import sys
from dataclasses import dataclass
from durable_core._signatures import Parameter
from durable_core.payloads import _faithful, _json
@dataclass
class A:
    x: int
@dataclass
class B:
    x: int
for value, type_ in [(B(1), A | B), ([A(1), B(2)], list[A | B]), ("x", A | str | None)]:
    data = _faithful.encode_result(value, Parameter("return", type_), what="x")
    assert _json.decode(data, type_, what="x") == value, (value, type_)
print("pydantic" in sys.modules)
"""
    assert processes.run(code).checked().output == "False\n"


# What is refused


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


# Models


def test_a_model_still_knows_which_fields_were_set():
    patch = m.Person(name="a", friends=[m.Person(name="b", born=None)])

    back = again({"patches": [patch]}, dict[str, list[m.Person]])["patches"][0]

    assert back.model_dump(exclude_unset=True) == patch.model_dump(exclude_unset=True)
    assert again(patch, m.Person | m.Robot).model_fields_set == {"name", "friends"}


def test_a_default_that_was_not_set_stays_what_it_was_when_it_was_recorded():
    class Settings(pydantic.BaseModel):
        temperature: float = 0.7

    data = encoded(Settings(), Settings)
    Settings.model_fields["temperature"].default = 0.9
    Settings.model_rebuild(force=True)
    back = _json.decode(data, Settings, what=WHAT)

    assert back.temperature == 0.7
    assert back.model_fields_set == set()


def test_whoever_has_no_types_reads_plain_json():
    data = encoded([m.Person(name="a"), m.Robot(name="b")], list[m.Person | m.Robot])

    plain = _json.decode_untyped(data, what=WHAT)

    assert plain == [
        {"name": "a", "born": None, "tags": [], "friends": []},
        {"name": "b", "born": None},
    ]


# Unions over time


def test_a_record_of_one_type_is_read_when_the_annotation_has_become_a_union():
    data = encoded(m.Twin("a"), m.Twin)

    assert _json.decode(data, m.Twin | m.Robot, what=WHAT) == m.Twin("a")
    assert _json.decode(data, m.Twin | m.Item, what=WHAT) == m.Twin("a")


def test_a_plain_record_is_the_first_member_that_knows_all_of_it():
    @dataclass
    class Short:
        sku: str

    data = encoded(m.Item("a"), m.Item)

    assert _json.decode(data, Short | m.Item, what=WHAT) == m.Item("a")


def test_the_order_of_members_says_which_one_a_plain_record_is():
    data = encoded(m.Item("a"), m.Item)

    assert type(_json.decode(data, m.Item | m.Twin, what=WHAT)) is m.Item
    assert type(_json.decode(data, m.Twin | m.Item, what=WHAT)) is m.Twin


def test_a_record_of_a_union_is_read_when_one_type_is_left():
    data = encoded([m.Item("a")], list[m.Item | m.Twin])

    assert _json.decode(data, list[m.Item], what=WHAT) == [m.Item("a")]


def test_a_member_that_the_union_does_not_name_any_more_is_named():
    data = encoded(m.Twin("a"), m.Item | m.Twin)

    with pytest.raises(DecodeError, match=r"the record holds a 'Twin', which .* does not name"):
        _json.decode(data, m.Item | m.Robot | m.Person, what=WHAT)


def test_members_of_one_name_are_told_apart_by_their_modules():
    other = type("Item", (), {"__annotations__": {"sku": str}, "__module__": "elsewhere"})
    other = dataclass(other)

    assert type(again(other("a"), m.Item | other)) is other
    assert type(again(m.Item("a"), m.Item | other)) is m.Item


def test_a_value_without_an_annotation_is_read_by_todays_union():
    data = _json.encode({"kind": "dog"}, what=WHAT)

    assert _json.decode(data, m.Cat | m.Dog, what=WHAT) == m.Dog()


def test_another_member_of_a_union_is_another_argument():
    @activity.defn
    def take(what: m.Item | m.Twin) -> None: ...

    async def old():
        await workflow.execute_activity(take, m.Item("a"))

    async def new():
        await workflow.execute_activity(take, m.Twin("a"))

    driver = live(old)
    driver.replay(flow(old))
    with pytest.raises(NonDeterminismError, match=r"\$\[0\]\.\$member"):
        driver.replay(flow(new))


def test_a_model_whose_default_was_set_on_purpose_is_no_other_argument():
    @activity.defn
    def take(who: m.Robot) -> None: ...

    async def old():
        await workflow.execute_activity(take, m.Robot(name="a"))

    async def new():
        await workflow.execute_activity(take, m.Robot(name="a", born=None))

    live(old).replay(flow(new))


# Where annotations come from


def types_of(fn: Any) -> tuple[Any, ...]:
    found = signature(fn)
    return (*found.types, found.result.type)


def test_a_class_defined_inside_a_function_is_found():
    @dataclass
    class Inner:
        value: int

    @dataclass
    class Outer:
        inner: Inner | Twin
        more: list[Outer]

    @dataclass
    class Twin:
        value: int

    @activity.defn
    async def body(value: Outer, other: list[Inner]) -> Outer | None:
        return value

    assert types_of(body) == (Outer, list[Inner], Outer | None)
    value = Outer(Twin(1), [Outer(Inner(2), [])])
    assert again(value, Outer) == value


def test_a_class_inside_the_class_of_a_workflow_is_found():
    @workflow.defn
    class Shop:
        @dataclass
        class Input:
            order: Shop.Line

        @dataclass
        class Line:
            sku: str

        @workflow.run
        async def run(self, given: Input) -> Line:
            return given.order

    assert types_of(Shop.run)[1:] == (Shop.Input, Shop.Line)


class Module:
    """At the top of a module there is no function whose locals could be kept."""

    @dataclass
    class Input:
        value: int

    @activity.defn(name="a method of Module")
    def body(self, given: Input) -> Later: ...


@dataclass
class Later:
    value: int


def test_a_class_inside_a_class_and_one_that_comes_later_are_found():
    assert types_of(Module.body)[1:] == (Module.Input, Later)


def test_what_cannot_be_found_is_named_when_it_matters():
    @activity.defn
    async def body(given: Tomorrow) -> None: ...

    async def harmless():
        await workflow.execute_activity(body, 1)

    async def code():
        await workflow.execute_activity(body, (1,))

    Driver(flow(harmless)).begin()
    with pytest.raises(EncodeError, match="its annotation 'Tomorrow' names what cannot be found"):
        Driver(flow(code)).begin()

    @dataclass
    class Tomorrow: ...


def test_bound_methods_partials_and_callable_objects_have_their_types():
    class Service:
        def method(self, a: int) -> m.Item: ...
        def __call__(self, a: m.Item, b: int) -> None: ...

    assert types_of(Service().method) == (int, m.Item)
    assert types_of(Service()) == (m.Item, int, type(None))
    assert types_of(functools.partial(Service().method)) == (int, m.Item)
    assert types_of(functools.partial(Service(), m.Item("a"))) == (int, type(None))


NEW_SYNTAX = """
from dataclasses import dataclass
from durable_core import activity
from support.types_matrix import Item, Twin

type Json = dict[str, Json] | list[Json] | str | int | None
type Either = Item | Twin
type Many[T] = list[T]

@dataclass
class Page[T]:
    items: list[T]

@activity.defn
async def body[T: Item](page: Page[Either], many: Many[Either], json: Json, bound: T) -> Either:
    ...
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax of PEP 695")
@pytest.mark.parametrize("future", [False, True], ids=["now", "future"])
def test_type_parameters_and_aliases_of_newer_pythons_are_understood(future):
    flags = __future__.annotations.compiler_flag if future else 0
    space: dict[str, Any] = {"__name__": "newer_syntax"}
    module = type(sys)("newer_syntax")
    sys.modules["newer_syntax"] = module
    module.__dict__.update(space)
    try:
        exec(compile(NEW_SYNTAX, "newer", "exec", flags=flags, dont_inherit=True), module.__dict__)
        page, many, json, bound, either = types_of(module.body)
        assert again(module.Page([m.Twin("a")]), page) == module.Page([m.Twin("a")])
        assert again([m.Twin("a"), m.Item("b")], many) == [m.Twin("a"), m.Item("b")]
        assert again({"a": [1, None, {"b": "c"}]}, json) == {"a": [1, None, {"b": "c"}]}
        _faithful.check_result(Parameter("return", json), owner="activity 'x'")
        assert again(m.Item("a"), bound) == m.Item("a")
        assert again(m.Twin("a"), either) == m.Twin("a")
    finally:
        del sys.modules["newer_syntax"]


# Properties


# A union takes no annotation that cannot be hashed.
cases = [case for case in m.CASES if "[]" not in str(case.annotation)]
plain_types = [case.annotation for case in cases]
annotations = st.recursive(
    st.sampled_from(plain_types),
    lambda inner: (
        inner.map(lambda t: list[t])
        | inner.map(lambda t: tuple[t, ...])
        | inner.map(lambda t: dict[str, t])
        | inner.map(lambda t: m.Page[t])
        | st.tuples(inner, inner).map(lambda pair: typing.Union[pair])  # noqa: UP007
        | inner.map(lambda t: typing.Optional[t])  # noqa: UP045
    ),
    max_leaves=4,
)


def as_float_says(value: Any, back: Any) -> bool:
    """Return whether two shapes differ only in an int that a float annotation made a float."""
    found = difference(value, back)
    return found is None and m.shape(value) != m.shape(back) and "float" in str(m.shape(back))


@given(values, annotations)
def test_any_value_under_any_annotation_comes_back_as_it_is_or_is_refused(value, annotation):
    try:
        data = encoded(value, annotation)
    except EncodeError:
        return

    back = _json.decode(data, annotation, what=WHAT)
    assert m.shape(back) == m.shape(value) or as_float_says(value, back)


@given(st.data())
def test_a_union_of_what_fits_alone_fits_together(data):
    chosen = data.draw(st.lists(st.sampled_from(cases), min_size=2, max_size=4))
    annotation = typing.Union[tuple(case.annotation for case in chosen)]  # noqa: UP007
    for case in chosen:
        try:
            back = again(case.value, annotation)
        except EncodeError:
            continue  # such as two classes of typed mappings, which look alike in Python, too

        assert m.shape(back) == m.shape(case.value)


@given(values)
def test_a_difference_is_never_overlooked(value):
    assert difference(value, value) is None
    for other in ([value], (value,), {"a": value}, m.Page([value])):
        assert difference(other, value) is not None


class Other(NamedTuple):
    x: int
    y: float = 0.0


class Red(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1.0, 1),
        (0.0, -0.0),
        ("a", m.Flavour("sweet")),
        ([1], (1,)),
        ((1, 2.0), m.Point(1, 2.0)),
        (m.Point(1, 2.0), Other(1, 2.0)),
        ({1}, frozenset({1})),
        ({1}, {True}),
        ({"a": 1}, {"a": True}),
        ({1: 1}, {True: 1}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (m.Item("a"), m.Twin("a")),
        (m.Item("a", 1), m.Item("a", True)),
        (m.Colour.RED, Red.RED),
        (m.UTC, m.UTC.astimezone(dt.timezone(dt.timedelta(hours=1)))),
        (m.NAIVE, m.UTC),
        (m.Person(name="a"), m.Robot(name="a")),
        (m.Event("a"), m.Other("a")),
        (b"a", bytearray(b"a")),
    ],
    ids=repr,
)
def test_what_python_calls_equal_may_differ(one, other):
    assert difference(one, one) is None
    assert difference([one], [other]) is not None


def test_a_struct_of_fields_is_compared_field_by_field():
    assert (
        difference(msgspec.structs.replace(m.Renamed("a")), m.Renamed("b")).path == "$.first_name"
    )
