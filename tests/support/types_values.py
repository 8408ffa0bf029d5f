"""Values of every type of the table, nested in any way, for property tests."""

from __future__ import annotations

import datetime as dt

from hypothesis import strategies as st

from support import types_matrix as m

__all__ = ["values"]

texts = st.text(st.characters(codec="utf-8"), max_size=5)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | texts
    | st.binary(max_size=5)
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
    | st.sampled_from([*m.Colour, *m.Hue, *m.Level, *m.Flavour, *m.Odd])
    | st.builds(m.Item, texts, st.integers() | texts)
    | st.builds(m.Twin, texts, st.integers())
    | st.builds(m.Person, name=texts, born=st.none() | st.dates())
    | st.builds(m.Robot, name=texts)
    | st.builds(m.Event, texts)
    | st.builds(m.Point, st.integers(), st.floats())
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(texts | st.integers() | st.dates(), inner, max_size=3)
        | st.builds(m.Page, st.lists(inner, max_size=2), inner)
    ),
    max_leaves=8,
)
