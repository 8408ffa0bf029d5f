"""Unions over time: which member a record is, when the annotation has changed since."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from durable_core import activity, workflow
from durable_core.exceptions import DecodeError, NonDeterminismError
from durable_core.payloads import _json
from support import types_matrix as m
from support.engine_runs import flow, live
from support.types_record import WHAT, again, encoded


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
