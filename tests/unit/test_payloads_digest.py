from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from dataclasses import dataclass, field

import msgspec
import pydantic
import pytest
from durable_core.exceptions import EncodeError
from durable_core.payloads import _digest, _json
from hypothesis import given
from hypothesis import strategies as st

WHAT = "activity 'charge'"


@dataclass
class Charge:
    order: str
    cents: int
    tags: set[str] = field(default_factory=set)


class Reading(msgspec.Struct):
    name: str
    seen: set[str]


class Message(pydantic.BaseModel):
    text: str
    labels: set[str] = set()
    parts: list[Message] = []


class Envelope(pydantic.BaseModel):
    inner: dict[str, Message] = pydantic.Field(alias="innerMessages")


def digest(*args: object) -> str:
    return _digest.digest(args, what=WHAT)


def test_a_digest_names_its_algorithm():
    assert digest(1).startswith("blake2b-128:")


def test_the_order_of_keys_does_not_matter_at_any_depth():
    a = {"x": 1, "y": {"p": [1, {"k": 1, "l": 2}], "q": 2}}
    b = {"y": {"q": 2, "p": [1, {"l": 2, "k": 1}]}, "x": 1}

    assert digest(a) == digest(b)


def test_the_order_of_keys_does_not_matter_beside_none_and_non_finite_floats():
    assert digest({"x": math.nan, "y": None}) == digest({"y": None, "x": math.nan})


def test_the_order_of_lists_matters():
    assert digest([1, 2]) != digest([2, 1])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),
        (0.0, -0.0),
        (1, True),
        (0, False),
        (math.nan, None),
        (math.nan, math.inf),
        (math.inf, -math.inf),
        ("1", 1),
        (None, "null"),
        ([], {}),
        ([1], [[1]]),
        (dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    ],
    ids=repr,
)
def test_values_that_differ_have_different_digests(a, b):
    assert digest(a) != digest(b)
    assert digest({"deep": [a]}) != digest({"deep": [b]})


def test_one_argument_that_is_a_list_is_not_two_arguments():
    assert digest([1, 2]) != digest(1, 2)


# In a process with another hash seed strings hash otherwise and sets iterate in another order.
SAME_IN_EVERY_PROCESS = """
import json, math, uuid
import test_payloads_digest as t
words = [f"word-{i}" for i in range(200)]
print(json.dumps([
    t.digest(set(words)),
    t.digest({"tags": set(words), "none": None}),
    t.digest({"tags": set(words), "nan": math.nan}),
    t.digest({"mixed": {1, "a", None, (1, "b")}}),
    t.digest({"mixed": [{1, "a", None}], "nan": [math.nan, set(words)]}),
    t.digest({w: {w} for w in words}),
    t.digest(t.Charge("o", 1, set(words))),
    t.digest(t.Charge("o", math.inf, set(words))),
    t.digest(t.Reading("o", set(words))),
    t.digest(t.Message(text="x", labels=set(words))),
    t.digest([t.Message(text="x", parts=[t.Message(text="y", labels=set(words))])]),
    t.digest(t.Envelope(innerMessages={"a": t.Message(text="y", labels=set(words))})),
    t.digest({uuid.UUID(int=i) for i in range(50)}),
    t.digest({("a", w) for w in words}),
]))
"""


def test_a_process_with_another_hash_seed_computes_the_same_digests(processes, request):
    seen = [
        json.loads(
            processes.run(
                f"import sys; sys.path.insert(0, {str(request.path.parent)!r})\n{SAME_IN_EVERY_PROCESS}",
                PYTHONHASHSEED=seed,
            )
            .checked()
            .output
        )
        for seed in (1, 2, 3)
    ]

    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == len(seen[0])


@given(
    st.sets(st.text(st.characters(codec="utf-8")) | st.integers() | st.none(), max_size=8),
    st.randoms(),
)
def test_sets_of_any_members_have_one_digest_in_any_order_of_insertion(members, random):
    shuffled = sorted(members, key=lambda _: random.random())

    assert digest({"set": set(shuffled)}) == digest({"set": members})


def test_what_cannot_be_recorded_has_no_digest_and_says_so():
    with pytest.raises(EncodeError, match=r"\$\[0\]\.x"):
        digest({"x": object()})


def test_content_addresses_are_equal_only_within_a_scope_and_a_role():
    addresses = {
        _digest.address(scope, role, data)
        for scope in ("run-1", "run-2")
        for role in ("payload", "item")
        for data in (b"a", b"b")
    }

    assert len(addresses) == 8
    assert _digest.address("run-1", "item", b"a") in addresses


# The verdict when digests differ.


def difference(recorded, live, *types):
    data = _json.encode(tuple(recorded), what=WHAT)
    return _digest.difference(data, tuple(live), types, what=WHAT)


@dataclass
class Yesterday:
    order: str
    cents: int


@dataclass
class Today:
    order: str
    cents: int
    currency: str = "EUR"


def test_an_added_field_with_a_default_is_no_difference():
    assert difference([Yesterday("a", 1)], [Today("a", 1)], Today) is None


def test_an_added_field_with_another_value_is_a_difference():
    path = difference([Yesterday("a", 1)], [Today("a", 1, "USD")], Today)

    assert path == '$[0].currency: recorded "EUR", now "USD"'


def test_a_value_that_todays_type_spells_differently_is_no_difference():
    assert (
        difference(["2024-01-01T00:00:00Z"], [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], dt.datetime)
        is None
    )
    assert difference([uuid.UUID(int=1).hex], [uuid.UUID(int=1)], uuid.UUID) is None


def test_a_set_is_compared_without_order():
    words = [f"word-{i}" for i in range(300)]

    assert difference([words], [set(reversed(words))], set[str]) is None
    recorded = Message(text="x", labels=set(words))
    live = Message(text="x", labels=set(reversed(words)))
    assert difference([recorded], [live], Message) is None


def test_nan_is_no_difference_from_nan():
    assert difference([math.nan], [math.nan], float) is None


@pytest.mark.parametrize(
    ("recorded", "live", "path"),
    [
        ([{"a": {"b": [1, 2]}}], [{"a": {"b": [1, 3]}}], "$[0].a.b[1]: recorded 2, now 3"),
        ([1, "x"], [1, "y"], '$[1]: recorded "x", now "y"'),
        ([[1, 2]], [[1]], "$[0] (length 2 recorded, 1 now)"),
        ([1], [1, 2], "$ (length 1 recorded, 2 now)"),
        ([{"a": 1}], [{}], "$[0].a (only recorded)"),
        ([{}], [{"a": 1}], "$[0].a (only in the code)"),
        ([1], [1.0], "$[0]: recorded 1, now 1.0"),
        ([1], [True], "$[0]: recorded 1, now true"),
        ([None], [math.nan], '$[0]: recorded null, now {"$float": "nan"}'),
    ],
)
def test_a_difference_is_named_by_its_path_with_both_values(recorded, live, path):
    assert difference(recorded, live) == path


def test_long_values_are_shortened_in_the_report():
    path = difference(["a" * 1000], ["b" * 1000])

    assert len(path) < 200


def test_a_record_that_no_longer_fits_the_type_is_a_difference_that_says_why():
    path = difference(["many"], [3], int)

    assert path.startswith("$")
    assert "many" in path
