"""The difference of two values: found where Python calls them equal, too."""

from __future__ import annotations

import datetime as dt
import enum
from typing import NamedTuple

import msgspec
import pytest
from durable_core.payloads._same import difference
from hypothesis import given
from support import types_matrix as m
from support.types_values import values


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
