"""Filters of runs: what they say once they are read, and what is wrong with those that are not."""

from __future__ import annotations

import pytest
from durable_core.exceptions import WorkflowFilterError
from durable_core.stores._filter import (
    NEWEST_FIRST,
    All,
    Either,
    Field,
    No,
    Order,
    Selection,
    Test,
    beyond,
)
from durable_core.stores._filter_parser import parse
from hypothesis import given
from hypothesis import strategies as st

KINDS = {
    "Who": "Keyword",
    "About": "Text",
    "Number": "Int",
    "Score": "Double",
    "Open": "Bool",
    "Due": "Datetime",
    "Tags": "KeywordList",
    "Order Id": "Keyword",
    "order": "Int",
    "Customer.name-2": "Keyword",
}
WHO = Field("Who", "Keyword", builtin=False)
NUMBER = Field("Number", "Int", builtin=False)
IS_ANN = Test(WHO, "=", ("ann",))
IS_1 = Test(NUMBER, "=", (1,))


def where(text):
    return parse(text, KINDS).where


def field(name):
    return Field(name, KINDS[name], builtin=False)


def test_nothing_is_all_runs_newest_first():
    for text in (None, "", "  \n "):
        assert parse(text, {}) == Selection(None, NEWEST_FIRST, grouped=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Who = 'ann'", IS_ANN),
        ('Who="ann"', IS_ANN),
        ("`Who`='ann'", IS_ANN),
        ("Who = 'it''s'", Test(WHO, "=", ("it's",))),
        ('Who = "say ""a"""', Test(WHO, "=", ('say "a"',))),
        ("Who <> 'ann'", All((Test(WHO, "exists"), No(IS_ANN)))),
        ("Who != 'ann'", All((Test(WHO, "exists"), No(IS_ANN)))),
        ("Who in ('a', 'b')", Test(WHO, "in", ("a", "b"))),
        ("Who NOT IN ('a')", All((Test(WHO, "exists"), No(Test(WHO, "in", ("a",)))))),
        ("Who starts_with 'a'", Test(WHO, "starts", ("a",))),
        ("Number between -1 and 2.5", Test(NUMBER, "between", (-1, 2.5))),
        ("Number IS NULL", No(Test(NUMBER, "exists"))),
        ("Number IS NOT NULL", Test(NUMBER, "exists")),
        ("Score >= 2", Test(field("Score"), ">=", (2.0,))),
        ("Score < -1.5e-3", Test(field("Score"), "<", (-0.0015,))),
        ("Open = TRUE", Test(field("Open"), "=", (True,))),
        ("Tags = 'a'", Test(field("Tags"), "=", ("a",))),
        ("About = 'Two words'", Test(field("About"), "in", ("two", "words"))),
        ("`Order Id` = 'a'", Test(field("Order Id"), "=", ("a",))),
        ("Customer.name-2 = 'a'", Test(field("Customer.name-2"), "=", ("a",))),
        ("order = 1", Test(field("order"), "=", (1,))),
        (
            "Due <= '2026-01-31T13:00:00+01:00'",
            Test(field("Due"), "<=", ("2026-01-31T12:00:00.000000+00:00",)),
        ),
        (
            "ExecutionStatus IN ('Running', 'failed')",
            Test(Field("ExecutionStatus", "Status", builtin=True), "in", ("running", "failed")),
        ),
        (
            "StartTime > '1970-01-01T00:00:02.5Z'",
            Test(Field("StartTime", "Time", builtin=True), ">", (2.5,)),
        ),
        # AND binds closer than OR, NOT closer than both.
        (
            "Who = 'ann' OR Number = 1 AND NOT Number = 1",
            Either((IS_ANN, All((IS_1, No(IS_1))))),
        ),
        ("(Who = 'ann' OR Number = 1) AND Number = 1", All((Either((IS_ANN, IS_1)), IS_1))),
        ("NOT NOT (Who = 'ann')", No(No(IS_ANN))),
    ],
)
def test_a_condition_is_read(text, expected):
    assert where(text) == expected


def test_orders_and_groups_are_read():
    assert parse("ORDER BY StartTime", {}).order == Order(NEWEST_FIRST.field, descending=False)
    assert parse("Who = 'ann' order by Number desc", KINDS) == Selection(
        IS_ANN, Order(NUMBER, descending=True)
    )
    assert parse("ORDER BY order ASC", KINDS).order.field.name == "order"
    assert parse("order = 1 ORDER BY `order`", KINDS).order.field.name == "order"
    assert parse("GROUP BY ExecutionStatus", {}, counts=True) == Selection(None, grouped=True)
    assert parse("Who = 'ann' GROUP BY ExecutionStatus", KINDS, counts=True).where == IS_ANN


@pytest.mark.parametrize(
    ("text", "position", "told"),
    [
        ("Whom = 'ann'", 0, "there is no 'Whom'. Did you mean Who? There are WorkflowId, "),
        ("who = 'ann'", 0, "Did you mean Who?"),
        ("'ann' = Who", 0, "a name is expected: WorkflowId"),
        ("Who", 3, "one of = != < <= > >= IN BETWEEN STARTS_WITH IS is expected"),
        ("Who LIKE 'a'", 4, "LIKE: one of ="),
        ("Who = ", 6, "the end of the filter: Who is compared with a text, as in: 'text'"),
        ("Who = ann", 6, "ann: Who is compared with a text"),
        ("Who = 3", 6, "3: Who is compared with a text"),
        ("Number = 'ann'", 9, "Number is compared with a number"),
        ("Number = 1e999", 9, "Number is compared with a number"),
        ("Number = 12a", 9, "nothing begins with 1"),
        ("Open = 1", 7, "Open is compared with true or false"),
        ("Open > true", 5, "Open is of the type Bool, which takes !=, = and IS NULL"),
        ("Tags > 'a'", 5, "Tags is of the type KeywordList, which takes !=, =, IN and IS NULL"),
        ("About STARTS_WITH 'a'", 6, "About is of the type Text, which takes !=, = and IS NULL"),
        ("Number STARTS_WITH 'a'", 7, "Number is of the type Int, which takes"),
        ("Due > '2026-01-31'", 6, "Due is compared with a time with its zone"),
        ("Due > '2026-01-31T00:00:00'", 6, "as in: '2026-01-31T12:00:00Z'"),
        ("Due > 'soon'", 6, "Due is compared with a time"),
        ("StartTime > 5", 12, "StartTime is compared with a time"),
        ("ExecutionStatus = 'Done'", 18, "one of 'Running', 'Completed', "),
        ("Who = 'ann", 6, "a text has no end: close it with '"),
        ("Who = 'ann' ; DROP TABLE run", 12, "nothing begins with ;"),
        ("Who = 'ann' Number = 1", 12, "AND, OR, ORDER BY, GROUP BY or the end of the filter is "),
        ("(Who = 'ann'", 12, "AND, OR or ) is expected"),
        ("Who = 'ann')", 11, "AND, OR, ORDER BY"),
        ("Who = 'ann' AND", 15, "the end of the filter: a name is expected"),
        ("Who IN 'ann'", 7, "( is expected, as in: IN ('a', 'b')"),
        ("Who IN ()", 8, "Who is compared with a text"),
        ("Who IN ('a' 'b')", 12, ", or ) is expected"),
        ("Who NOT = 'a'", 8, "IN, BETWEEN or STARTS_WITH is expected"),
        ("Who IS 'a'", 7, "NULL is expected, as in: IS NULL"),
        ("Number BETWEEN 1, 2", 16, "AND is expected, as in: BETWEEN 1 AND 2"),
        ("ORDER BY Tags", 9, "runs cannot be ordered by Tags, which is of the type KeywordList"),
        ("ORDER BY WorkflowId", 9, "ordered by StartTime, CloseTime or a search attribute"),
        ("ORDER BY Number, Who", 15, "runs are ordered by one thing"),
        ("ORDER BY", 8, "a name is expected"),
        ("GROUP BY ExecutionStatus", 0, "GROUP BY is for counts, not lists"),
        ("(" * 60 + "Who = 'ann'" + ")" * 60, 50, "a filter may be nested 50 deep"),
        (" OR ".join(["Number = 1"] * 201), 2800, "a filter may have 200 comparisons"),
        ("Number IN (" + "1, " * 1000 + "1)", 7, "IN takes 1000 values, got 1001"),
        ("Who = '\ud800'", 6, "written as UTF-8"),
    ],
)
def test_what_cannot_be_read_says_where_and_what_is_expected(text, position, told):
    with pytest.raises(WorkflowFilterError) as raised:
        parse(text, KINDS)

    assert told in str(raised.value)
    assert raised.value.position == position
    assert f"at character {position + 1}, " in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ORDER BY StartTime", "a count has no order"),
        ("GROUP BY WorkflowType", "runs are counted by ExecutionStatus and nothing else"),
        ("GROUP BY ExecutionStatus ORDER BY StartTime", "or the end of the filter is expected"),
    ],
)
def test_what_cannot_be_counted_says_so(text, told):
    with pytest.raises(WorkflowFilterError, match=told):
        parse(text, KINDS, counts=True)


def test_a_filter_is_a_text_and_an_empty_store_says_that_it_has_no_attribute():
    with pytest.raises(WorkflowFilterError, match="a filter is a str, got 3"):
        parse(3, {})

    with pytest.raises(WorkflowFilterError, match="no run has had a search attribute yet"):
        parse("Who = 'ann'", {})


def position_of(text):
    """Return where a text cannot be read; 0 if it can."""
    try:
        parse(text, KINDS)
    except WorkflowFilterError as error:
        return error.position

    return 0


@given(st.text(max_size=40))
def test_no_text_does_anything_but_be_read_or_refused(text):
    assert 0 <= position_of(text) <= len(text)


TOKENS = ["Who", "=", "'a'", "(", ")", "NOT", "AND", "OR", "IN", ",", "1", "BETWEEN", "IS", "NULL"]


@given(st.lists(st.sampled_from([*TOKENS, "Number", "ORDER", "BY", "<", "StartTime"]), max_size=14))
def test_no_row_of_words_does_either(words):
    text = " ".join(words)
    assert 0 <= position_of(text) <= len(text)


@given(st.text(max_size=3), st.text(max_size=6))
def test_what_lies_beyond_a_prefix_is_all_that_does_not_begin_with_it(prefix, text):
    end = beyond(prefix)
    within = prefix <= text and (end is None or text < end)
    assert within == text.startswith(prefix)
