"""Every kind of annotation: what goes into the record is what comes back.

The table is in `support.types_matrix`; `tests/integration/test_types_stored.py` sends it through a
store and a fresh interpreter.
"""

from __future__ import annotations

import typing
from typing import Any

import pydantic
import pytest
from durable_core._signatures import Parameter
from durable_core.exceptions import EncodeError
from durable_core.payloads import _faithful, _json
from durable_core.payloads._same import difference
from durable_core.worker._start import new_start
from durable_core.workflow._defn import definition_of
from hypothesis import given
from hypothesis import strategies as st
from support import types_matrix as m
from support.engine_runs import Driver
from support.types_record import WHAT, again, encoded
from support.types_values import values


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
