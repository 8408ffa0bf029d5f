"""Reads filters of runs: a part of Temporal's list filters, see docs/visibility.md.

::

    filter     = [ condition ] [ "ORDER BY" name [ "ASC" | "DESC" ] | "GROUP BY" name ]
    condition  = conjunct { "OR" conjunct }
    conjunct   = negation { "AND" negation }
    negation   = "NOT" negation | "(" condition ")" | test
    test       = name ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
               | name [ "NOT" ] "IN" "(" value { "," value } ")"
               | name [ "NOT" ] "BETWEEN" value "AND" value
               | name [ "NOT" ] "STARTS_WITH" value
               | name "IS" [ "NOT" ] "NULL"
"""

from __future__ import annotations

import re
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

import msgspec

from durable_core._search_attributes import recorded_time
from durable_core.exceptions import WorkflowFilterError

from ._filter import (
    BUILTIN_KINDS,
    NEWEST_FIRST,
    STATUSES,
    All,
    Condition,
    Either,
    Field,
    No,
    Operator,
    Order,
    Selection,
    Test,
    Value,
)
from ._profiles import words

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["parse"]

_DEEPEST = 50
_MOST_TESTS = 200
_MOST_VALUES = 1000
_INT = 1 << 63

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<quoted>`[^`]+`)
      | (?P<word>[^\W\d]\w*(?:[.-]\w+)*)
      | (?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,)
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)

_COMPARISONS: dict[str, Operator] = {
    "=": "=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
# What may be asked of each type, beside whether there is one.
_WHOLE = {"=", "!=", "in"}
_SORTED = {*_WHOLE, "<", "<=", ">", ">=", "between"}
_ALLOWED = {
    "Keyword": {*_SORTED, "starts"},
    "KeywordList": _WHOLE,
    "Text": {"=", "!="},
    "Int": _SORTED,
    "Double": _SORTED,
    "Bool": {"=", "!="},
    "Datetime": _SORTED,
    "Time": _SORTED,
    "Status": _WHOLE,
}
_SPELLED = {"in": "IN", "between": "BETWEEN", "starts": "STARTS_WITH"}
_UNSORTED = {"Text", "KeywordList"}


def parse(text: str | None, kinds: Mapping[str, str], *, counts: bool = False) -> Selection:
    """Return what a filter says.

    Args:
        text: The filter; None or empty for all runs, newest first.
        kinds: The types of the search attributes that there are.
        counts: Whether the runs are to be counted, and not listed.

    Raises:
        WorkflowFilterError: It cannot be read.
    """
    if text is not None and not isinstance(cast("object", text), str):
        raise WorkflowFilterError(f"a filter is a str, got {text!r}", position=0)

    return _Parser(text or "", kinds).selection(counts=counts)


class _Token(msgspec.Struct, frozen=True):
    kind: str
    text: str
    start: int

    @property
    def keyword(self) -> str:
        """The word in capitals; empty for what is no word, or in backquotes."""
        return self.text.upper() if self.kind == "word" else ""

    def __str__(self) -> str:
        return "the end of the filter" if self.kind == "end" else self.text


class _Parser:
    """Reads one filter, token by token."""

    def __init__(self, text: str, kinds: Mapping[str, str]) -> None:
        self._text = text
        self._kinds = kinds
        self._tokens = self._split()
        self._at = 0
        self._depth = 0
        self._tests = 0

    def selection(self, *, counts: bool) -> Selection:
        """Read all of it."""
        where = None if self._is_clause() or self._next.kind == "end" else self._condition()
        order, grouped = NEWEST_FIRST, False
        clause = self._next.keyword if self._is_clause() else ""
        if clause and counts != (clause == "GROUP"):
            raise self._error(
                "a count has no order" if counts else "GROUP BY is for counts, not lists"
            )

        if clause == "ORDER":
            order = self._order()
        elif clause == "GROUP":
            self._group()
            grouped = True

        if self._next.kind != "end":
            raise self._error("AND, OR, ORDER BY, GROUP BY or the end of the filter is expected")

        return Selection(where, order, grouped)

    # Clauses

    def _is_clause(self) -> bool:
        """Return whether an order or a group follows: an attribute may have that name, too."""
        if self._next.keyword not in {"ORDER", "GROUP"}:
            return False

        return self._tokens[self._at + 1].keyword == "BY"

    def _order(self) -> Order:
        self._at += 2
        token = self._next
        field = self._field()
        if field.builtin and field.kind != "Time":
            raise self._error(
                "runs are ordered by StartTime, CloseTime or a search attribute", token
            )

        if field.kind in _UNSORTED:
            raise self._error(
                f"runs cannot be ordered by {field.name}, which is of the type {field.kind}", token
            )

        descending = self._next.keyword == "DESC"
        if self._next.keyword in {"ASC", "DESC"}:
            self._at += 1

        if self._next.text == ",":
            raise self._error("runs are ordered by one thing: leave the others out")

        return Order(field, descending)

    def _group(self) -> None:
        self._at += 2
        token = self._next
        if self._field().name != "ExecutionStatus":
            raise self._error("runs are counted by ExecutionStatus and nothing else", token)

    # Conditions

    def _condition(self) -> Condition:
        parts = [self._conjunct()]
        while self._taken("OR"):
            parts.append(self._conjunct())

        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _conjunct(self) -> Condition:
        parts = [self._negation()]
        while self._taken("AND"):
            parts.append(self._negation())

        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _negation(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"a filter may be nested {_DEEPEST} deep: write it flatter")

        if self._taken("NOT"):
            found: Condition = No(self._negation())
        elif self._next.text == "(" and self._next.kind == "sign":
            self._at += 1
            found = self._condition()
            self._sign(")", "AND, OR or )")
        else:
            found = self._test()

        self._depth -= 1
        return found

    def _test(self) -> Condition:
        self._tests += 1
        if self._tests > _MOST_TESTS:
            raise self._error(
                f"a filter may have {_MOST_TESTS} comparisons: use IN for many values"
            )

        field = self._field()
        if self._taken("IS"):
            negated = not self._taken("NOT")
            if not self._taken("NULL"):
                raise self._error("NULL is expected, as in: IS NULL, or: IS NOT NULL")

            exists = Test(field, "exists")
            return No(exists) if negated else exists

        negated = self._taken("NOT")
        found, negative = self._comparison(field, negated=negated)
        # What a run does not have is not unequal either.
        return All((Test(field, "exists"), No(found))) if negative else found

    def _comparison(self, field: Field, *, negated: bool) -> tuple[Test, bool]:
        """Return a test of a field, and whether it is to fail."""
        token = self._next
        if self._taken("IN"):
            self._check(field, "in", token)
            self._sign("(", "( is expected, as in: IN ('a', 'b')")
            values = [self._value(field)]
            while self._next.text == "," and self._next.kind == "sign":
                self._at += 1
                values.append(self._value(field))

            if len(values) > _MOST_VALUES:
                raise self._error(f"IN takes {_MOST_VALUES} values, got {len(values)}", token)

            self._sign(")", ", or )")
            return Test(field, "in", tuple(values)), negated

        if self._taken("BETWEEN"):
            self._check(field, "between", token)
            low = self._value(field)
            if not self._taken("AND"):
                raise self._error("AND is expected, as in: BETWEEN 1 AND 2")

            return Test(field, "between", (low, self._value(field))), negated

        if self._taken("STARTS_WITH"):
            self._check(field, "starts", token)
            return Test(field, "starts", (self._value(field),)), negated

        sign = "!=" if token.text == "<>" else token.text
        if negated or token.kind != "sign" or (sign != "!=" and sign not in _COMPARISONS):
            raise self._error(
                "IN, BETWEEN or STARTS_WITH is expected"
                if negated
                else "one of = != < <= > >= IN BETWEEN STARTS_WITH IS is expected"
            )

        self._at += 1
        self._check(field, sign, token)
        value = self._value(field)
        if field.kind == "Text":
            # Of its words, in any order.
            return Test(field, "in", tuple(words(cast("str", value)))), sign == "!="

        return Test(field, _COMPARISONS.get(sign, "="), (value,)), sign == "!="

    def _check(self, field: Field, operator: str, token: _Token) -> None:
        allowed = _ALLOWED[field.kind]
        if operator not in allowed:
            may = [_SPELLED.get(each, each) for each in sorted(allowed)]
            raise self._error(
                f"{field.name} is of the type {field.kind}, which takes {', '.join(may)} "
                "and IS NULL",
                token,
            )

    # Names and values

    def _field(self) -> Field:
        token = self._next
        if token.kind not in {"word", "quoted"}:
            raise self._error(f"a name is expected: {self._names()}")

        self._at += 1
        name = token.text.strip("`")
        if name in BUILTIN_KINDS:
            return Field(name, BUILTIN_KINDS[name], builtin=True)

        if name in self._kinds:
            return Field(name, self._kinds[name], builtin=False)

        known = {each.casefold(): each for each in (*self._kinds, *BUILTIN_KINDS)}
        close = get_close_matches(name.casefold(), known, n=1)
        meant = f"Did you mean {known[close[0]]}? " if close else ""
        raise self._error(f"there is no {name!r}. {meant}There are {self._names()}", token)

    def _names(self) -> str:
        attributes = sorted(self._kinds)
        shown = ", ".join((*BUILTIN_KINDS, *attributes[:50]))
        if len(attributes) > 50:
            return f"{shown} and {len(attributes) - 50} more"

        return shown if attributes else f"{shown}; no run has had a search attribute yet"

    def _value(self, field: Field) -> Value:
        token = self._next
        found = self._read(field, token)
        if found is None:
            raise self._error(f"{field.name} is compared with {_TAKES[field.kind]}")

        self._at += 1
        return found

    def _read(self, field: Field, token: _Token) -> Value | None:
        text = _unquoted(token) if token.kind == "text" else None
        if text is not None and not _is_utf8(text):
            raise self._error("a text is written as UTF-8, and this one cannot be")

        match field.kind:
            case "Keyword" | "KeywordList" | "Text":
                return text
            case "Int":
                return None if token.kind != "number" else _number(token.text)
            case "Double":
                number = None if token.kind != "number" else _number(token.text)
                return None if number is None else float(number)
            case "Bool":
                return {"TRUE": True, "FALSE": False}.get(token.keyword)
            case "Status":
                folded = {name.casefold(): status for name, status in STATUSES.items()}
                return None if text is None else folded.get(text.casefold())
            case _:
                time = None if text is None else _time(text)
                if time is None:
                    return None

                return recorded_time(time) if field.kind == "Datetime" else time.timestamp()

    # Tokens

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _taken(self, keyword: str) -> bool:
        if self._next.keyword != keyword:
            return False

        self._at += 1
        return True

    def _sign(self, sign: str, expected: str) -> None:
        if self._next.kind != "sign" or self._next.text != sign:
            raise self._error(expected if "expected" in expected else f"{expected} is expected")

        self._at += 1

    def _split(self) -> list[_Token]:
        found: list[_Token] = []
        at = 0
        while not found or found[-1].kind != "end":
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                start = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                odd = self._text[start]
                why = "a text has no end: close it with" if odd in "'\"`" else "nothing begins with"
                raise self._error(
                    f"{why} {odd}", _Token("odd", self._text[start : start + 20], start)
                )

            kind = match.lastgroup
            found.append(_Token(kind, match.group(kind), match.start(kind)))
            at = match.end()

        return found

    def _error(self, why: str, token: _Token | None = None) -> WorkflowFilterError:
        found = token or self._next
        return WorkflowFilterError(
            f"the filter cannot be read at character {found.start + 1}, {found}: {why}",
            position=found.start,
        )


_TAKES = {
    "Keyword": "a text, as in: 'text'",
    "KeywordList": "a text, as in: 'text'",
    "Text": "a text, as in: 'words'",
    "Int": "a number",
    "Double": "a number",
    "Bool": "true or false",
    "Datetime": "a time with its zone, as in: '2026-01-31T12:00:00Z'",
    "Time": "a time with its zone, as in: '2026-01-31T12:00:00Z'",
    "Status": f"one of {', '.join(repr(name) for name in STATUSES)}",
}


def _unquoted(token: _Token) -> str:
    quote = token.text[0]
    return token.text[1:-1].replace(quote * 2, quote)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False

    return True


def _number(text: str) -> int | float | None:
    """Return a number of 64 bits; None if it is too large for that."""
    try:
        whole = int(text)
    except ValueError:
        number = float(text)
    else:
        if -_INT <= whole < _INT:
            return whole

        number = float(text)

    # There is one zero.
    return number + 0.0 if abs(number) < float("inf") else None


def _time(text: str) -> datetime | None:
    """Return a time that has a zone; None if it is none."""
    try:
        found = datetime.fromisoformat(text)
        return None if found.utcoffset() is None else found
    except (ValueError, OverflowError):
        return None
