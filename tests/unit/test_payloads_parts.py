"""Items of lists that are parts of recorded results are not stored a second time."""

from __future__ import annotations

from typing import Any

import pytest
from durable_core.adapter import Items
from durable_core.history import Payload
from durable_core.payloads import _json
from durable_core.payloads._items import FOUND, MARK, SharedLists
from durable_core.payloads._parts import part_at
from durable_core.payloads._texts import Texts
from hypothesis import given
from hypothesis import strategies as st

WHAT = "the text of activity 'model'"
LONG = "a long text " * 20
ASKED = {"role": "user", "content": LONG}
SAID = {"type": "message", "content": [{"text": LONG}]}
CALLED = {"type": "call", "id": "c1"}
GAVE = {"id": "c1", "output": LONG + "more", "type": "output"}


class Run:
    """The lists of one run, its store, and what its activities returned."""

    def __init__(self) -> None:
        self.lists = SharedLists("run-1")
        self.items: dict[str, bytes] = {}
        self.results: dict[int, Any] = {}

    def completed(self, seq: int, result: Any) -> None:
        self.results[seq] = result
        self.lists.completed(seq, _json.encode(result, what="a result"))

    def add(self, values: list[Any], stream: str = "") -> dict[str, Any]:
        return self.lists.encode(Items(values, stream), self.items, what=WHAT)

    def new(self, descriptor: dict[str, Any]) -> list[Any]:
        """Return the items of a list's last node, as readers find them."""
        node = _json.decode(self.items[descriptor[MARK]], Any, what=WHAT)
        places = descriptor.get(FOUND, {})
        return [
            part_at(places[str(i)], self.results)
            if str(i) in places
            else _json.decode(self.items[address], Any, what=WHAT)
            for i, address in enumerate(node["items"])
        ]


@pytest.fixture
def run():
    run = Run()
    run.add([ASKED])
    run.completed(1, {"output": [SAID, CALLED], "usage": 3})
    run.completed(2, {"output": GAVE["output"], "error": False})
    return run


def test_a_conversation_is_stored_once(run):
    before = set(run.items)

    descriptor = run.add([ASKED, SAID, CALLED, GAVE])

    assert run.new(descriptor) == [SAID, CALLED, GAVE]
    assert set(run.items) - before == {descriptor[MARK]}


def test_the_order_of_the_keys_stays(run):
    given, back = GAVE, run.new(run.add([ASKED, GAVE]))[0]
    assert list(back) == list(given)


def test_an_item_that_was_changed_is_stored(run):
    changed = {**SAID, "content": []}, {**GAVE, "output": LONG + "less"}

    descriptor = run.add([ASKED, *changed])

    assert FOUND not in descriptor
    assert run.new(descriptor) == list(changed)


def test_what_code_does_to_a_result_is_not_taken_for_the_result():
    run = Run()
    run.add([ASKED])
    result = {"output": [{"text": [LONG]}]}
    run.lists.completed(1, _json.encode(result, what="a result"))
    run.results[1] = {"output": [{"text": [LONG]}]}
    result["output"][0]["text"].append("more")

    assert run.new(run.add([ASKED, *result["output"]])) == [{"text": [LONG, "more"]}]


def test_a_list_that_is_stored_anew_says_again_where_its_items_are(run):
    run.add([ASKED, SAID, CALLED, GAVE])

    assert run.new(run.add([SAID, GAVE])) == [SAID, GAVE]


def test_what_one_list_has_stored_another_does_not_take_away():
    run = Run()
    one = run.add([SAID])
    run.completed(1, {"output": [SAID]})
    run.add([SAID], "other")

    assert run.new(one) == [SAID]


def test_a_list_has_one_address_wherever_its_items_are(run):
    other = SharedLists("run-1")
    other.encode(Items([ASKED]), {}, what=WHAT)
    values = [ASKED, SAID, CALLED, GAVE]

    assert other.encode(Items(values), {}, what=WHAT)[MARK] == run.add(values)[MARK]


def test_a_run_goes_on_after_a_replay(run):
    again = Run()
    again.items, again.results = run.items, run.results
    values = [ASKED, SAID, CALLED, GAVE]
    again.lists.replayed(Items([ASKED]), run.add([ASKED]))
    again.lists.replayed(Items(values), run.add(values))
    before = set(run.items)
    again.completed(3, {"output": [{**SAID, "n": 2}]})

    descriptor = again.add([*values, {**SAID, "n": 2}])

    assert again.new(descriptor) == [{**SAID, "n": 2}]
    assert set(run.items) - before == {descriptor[MARK]}


def test_runs_without_lists_look_at_no_result():
    run = Run()
    run.completed(1, {"output": [SAID]})
    run.add([ASKED])

    assert FOUND not in run.add([ASKED, SAID])


parts = st.lists(
    st.sampled_from([SAID, CALLED, GAVE, ASKED, {"x": {"y": LONG}}, LONG, "short", 1, None, [LONG]])
)


@given(
    st.lists(st.tuples(parts, parts, st.sampled_from([LONG, GAVE["output"], "", 5])), max_size=5)
)
def test_any_lists_come_back(turns):
    run = Run()
    run.add([])
    expected: list[Any] = []
    for seq, (output, items, text) in enumerate(turns):
        run.completed(seq, {"output": output, "text": text})
        # Behind an item of its own, since a list that is the same again has no new node.
        new = [{"turn": seq}, *items]
        expected += new
        assert run.new(run.add(list(expected))) == new


# Texts


def test_where_items_are_is_no_difference_to_a_strict_unit():
    live, again = Texts("run-1"), Texts("run-1")
    result = Payload(data=_json.encode({"output": [SAID]}, what="a result"))
    first = live.record({"input": Items([ASKED])}, {}, what=WHAT)
    live.completed(1, result)
    text = {"input": Items([ASKED, SAID])}
    second = live.record(text, {}, what=WHAT)

    assert again.changes(first, {"input": Items([ASKED])}, strict=True) == []
    assert again.changes(second, text, strict=True) == []
    assert again.changes(second, {"input": Items([ASKED, CALLED])}, strict=True) == ["input"]


def test_a_text_that_cannot_be_recorded_keeps_the_lists_that_others_extend():
    texts, items = Texts("run-1"), {}
    text = {"input": Items([ASKED]), "settings": object()}

    record = _json.decode(texts.record(text, items, what=WHAT).data, Any, what=WHAT)

    assert "object" in record["not recorded"]
    assert record["input"]["count"] == 1
