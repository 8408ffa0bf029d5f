"""Lists, counts and questions: the same calls of every store, the same answers, whatever is asked."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import asynccontextmanager

import pytest
from durable_core._search_attributes import lowered_pairs
from durable_core.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from durable_core.exceptions import SearchAttributeError
from durable_core.history import Attribute, Profile
from durable_core.stores import Answer, Outcome, Question, profile_row
from durable_core.stores._filter_parser import parse
from durable_core.stores._visibility import Place
from durable_core.stores.memory import MemoryStore
from durable_core.stores.sqlite import SqliteStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from support.rows import first, new_row, step

ACCEPTED, REFUSED, IN_USE = Outcome.ACCEPTED, Outcome.REFUSED, Outcome.ID_IN_USE
KINDS = {
    "Who": "Keyword",
    "About": "Text",
    "Number": "Int",
    "Score": "Double",
    "Open": "Bool",
    "Due": "Datetime",
    "Tags": "KeywordList",
}
TIMES = ["2026-01-01T00:00:00.000000+00:00", "2026-01-01T00:00:00.000001+00:00"]


@asynccontextmanager
async def opened(kind, path):
    found = MemoryStore() if kind == "memory" else await SqliteStore.open(path / "store.db")
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture(params=["sqlite", "memory"])
def on(request, tmp_path):
    """Return what runs code on a fresh store."""

    def run(code):
        async def main():
            async with opened(request.param, tmp_path) as store:
                return await code(store)

        return asyncio.run(main())

    return run


def shown(attributes, **more):
    """Return the profile of a run with these attributes, by name."""
    found = [
        Attribute(name=name, kind=more.get(name, KINDS[name]), value=value)
        for name, value in attributes.items()
    ]
    return profile_row("default", Profile(attributes=tuple(found)))


async def begin(store, run_id, attributes=None, *, started=1.0, **kinds):
    row = new_row(run_id, started=started)
    profile = None if attributes is None else shown(attributes, **kinds)
    return await store.create(row, b"start", {}, profile=profile)


async def ids(store, text=None, *, after=None, limit=100):
    selection = parse(text, await store.visibility.kinds("default"))
    found = await store.visibility.page("default", selection, after=after, limit=limit)
    return [each.row.run_id for each in found]


# Profiles


def test_a_profile_is_there_with_its_run_and_is_replaced_as_a_whole(on):
    async def code(store):
        worker = await store.register_worker("me")
        assert await begin(store, "a", {"Who": "ann", "Tags": ("x", "y", "x")}) is ACCEPTED
        await store.append(first("b", worker, profile=shown({"Who": "bob"})))
        await begin(store, "c")
        assert await ids(store, "Who = 'ann'") == ["a"]
        assert await ids(store, "Tags = 'x'") == ["a"]
        assert await ids(store, "Who IS NOT NULL ORDER BY Who") == ["a", "b"]
        assert await ids(store, "Who IS NULL") == ["c"]
        assert await store.visibility.profile("c") == await store.visibility.profile("none") == b""
        assert await store.append(step("b", worker, 1, profile=shown({"Number": 3}))) is ACCEPTED
        # One that says nothing of it leaves it as it is.
        assert await store.append(step("b", worker, 2)) is ACCEPTED
        assert await ids(store, "Who = 'bob'") == []
        assert await ids(store, "Number = 3") == ["b"]
        assert await store.visibility.profile("b") == shown({"Number": 3}).data
        assert await store.visibility.kinds("default") == {
            "Who": "Keyword",
            "Tags": "KeywordList",
            "Number": "Int",
        }
        assert await store.visibility.kinds("other") == {}

    on(code)


@pytest.mark.parametrize("why", ["fence", "number", "dead", "id"])
def test_what_is_refused_shows_nothing_and_gives_no_name_a_type(on, why):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("a", worker, profile=shown({"Who": "ann"})))
        late = shown({"Who": "bob", "Number": 1})
        if why == "id":
            row = new_row("b", workflow_id="workflow-a")
            assert await store.create(row, b"start", {}, profile=late) is IN_USE
        else:
            if why == "dead":
                await store.release_worker(worker)

            number, fence = (7 if why == "number" else 1), (9 if why == "fence" else 1)
            refused = step("a", worker, number, fence=fence, profile=late)
            assert await store.append(refused) is REFUSED

        assert await ids(store, "Who = 'ann'") == ["a"]
        assert await store.visibility.kinds("default") == {"Who": "Keyword"}

    on(code)


def test_an_attribute_of_another_type_is_refused_with_all_that_comes_with_it(on):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("a", worker, profile=shown({"Who": "ann"})))
        wrong = {"Who": 3, "Number": 1}
        with pytest.raises(SearchAttributeError, match="'Who' is of the type Keyword") as raised:
            await begin(store, "b", wrong, Who="Int")

        assert raised.value.name == "Who"
        with pytest.raises(SearchAttributeError):
            await store.append(first("c", worker, profile=shown(wrong, Who="Int")))

        with pytest.raises(SearchAttributeError):
            await store.append(step("a", worker, 1, profile=shown(wrong, Who="Int")))

        # Others of the same commit are written.
        found = await asyncio.gather(
            begin(store, "d", {"Who": "dan"}),
            begin(store, "e", wrong, Who="Int"),
            store.append(step("a", worker, 1)),
            return_exceptions=True,
        )
        assert (found[0], found[2]) == (ACCEPTED, ACCEPTED)
        assert isinstance(found[1], SearchAttributeError)
        assert await ids(store, "WorkflowId IS NOT NULL ORDER BY Who") == ["a", "d"]
        assert (await store.find("default", "", "a")).next_number == 2
        assert await store.visibility.kinds("default") == {"Who": "Keyword"}

    on(code)


def test_of_two_that_name_an_attribute_at_once_one_decides_its_type(on):
    async def code(store):
        found = await asyncio.gather(
            begin(store, "a", {"Who": "ann"}),
            begin(store, "b", {"Who": 3}, Who="Int"),
            return_exceptions=True,
        )
        assert found[0] is ACCEPTED
        assert isinstance(found[1], SearchAttributeError)
        assert await ids(store) == ["a"]

    on(code)


def test_purged_runs_take_their_profiles_and_questions_along(on):
    async def code(store):
        worker = await store.register_worker("me")
        await store.append(first("a", worker, profile=shown({"Who": "ann"})))
        await store.append(step("a", worker, 1, status="completed"))
        await begin(store, "b", {"Who": "bob"})
        for run in ("a", "b"):
            await store.questions.ask(question(run), now=1.0)

        assert await store.purge("default", "queue", 10.0, limit=9) == 1
        assert await ids(store, "Who IS NOT NULL") == ["b"]
        assert await store.visibility.profile("a") == b""
        waiting = await store.questions.waiting("default", "queue", now=1.0)
        assert [each.run_id for each in waiting] == ["b"]

    on(code)


# Questions


def question(run_id="a", *, until=10.0, queue="queue", namespace="default"):
    return Question(namespace, run_id, "Flow", queue, "name", b"[1]", until)


def test_a_question_is_answered_once_and_goes_when_it_is_dropped_or_late(on):
    async def code(store):
        asked = store.questions
        one = await asked.ask(question(until=5.0), now=1.0)
        two = await asked.ask(question("b"), now=1.0)
        await asked.ask(question(queue="other"), now=1.0)
        await asked.ask(question(namespace="other"), now=1.0)
        waiting = await asked.waiting("default", "queue", now=4.0)
        assert waiting == [
            replace(question(until=5.0), number=one),
            replace(question("b"), number=two),
        ]
        assert await asked.waiting("default", "queue", now=6.0) == [waiting[1]]
        assert await asked.read(two) is None
        store.changed()
        await asked.answer(two, Answer(data=b"1"))
        assert store.changed()
        await asked.answer(two, Answer(failure="too late"))
        assert await asked.read(two) == Answer(data=b"1")
        assert await asked.waiting("default", "queue", now=6.0) == []
        await asked.drop(two)
        assert await asked.read(two) is None
        # Whoever asks next drops what is late, and an answer to that is none.
        await asked.ask(question("c"), now=6.0)
        await asked.answer(one, Answer(data=b"1"))
        assert await asked.read(one) is None
        assert len(await asked.waiting("default", "queue", now=0.0)) == 1

    on(code)


# Random runs and filters

TEXTS = [
    "",
    "a",
    "ab",
    "b",
    "it's",
    'say "a"',
    "é",
    "\U0001f600",
    "a\uffff",
    "A b",
    "\ud7ff",
    "\ue000",
]
NUMBERS = [-(1 << 63), -1, 0, 1, 2, (1 << 63) - 1]
SCORES = [-1e300, -1.5, 0.0, 0.1, 1.0, 2.5, 9007199254740993.0, 5e-324]
LITERALS = {
    "Keyword": st.sampled_from(TEXTS),
    "Text": st.sampled_from([*TEXTS, "B A", "ab é"]),
    "Int": st.sampled_from([*NUMBERS, 0.5, 1e300, 9007199254740993]),
    "Double": st.sampled_from([*SCORES, 2, 9007199254740993, -(1 << 63)]),
    "Bool": st.booleans(),
    "Datetime": st.sampled_from([*TIMES, "2026-01-01T01:00:00+01:00", "2025-12-31"]),
    "KeywordList": st.sampled_from(TEXTS),
    "Status": st.sampled_from(["Running", "completed", "FAILED", "Canceled", "Terminated"]),
    "Time": st.sampled_from(["1970-01-01T00:00:01Z", "1970-01-01T00:00:02.5+00:00"]),
}
VALUES = {
    "Who": st.sampled_from(TEXTS),
    "About": st.lists(st.sampled_from(["a", "B", "ab", "É", "it's"])).map(" ".join),
    "Number": st.sampled_from(NUMBERS),
    "Score": st.sampled_from(SCORES),
    "Open": st.booleans(),
    "Due": st.sampled_from(TIMES),
    "Tags": st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3).map(tuple),
}
FIELDS = {
    **KINDS,
    "WorkflowId": "Keyword",
    "RunId": "Keyword",
    "WorkflowType": "Keyword",
    "TaskQueue": "Keyword",
    "ExecutionStatus": "Status",
    "StartTime": "Time",
    "CloseTime": "Time",
}
COMPARE = ["=", "!=", "<", "<=", ">", ">="]
ORDERS = [
    "",
    *(
        f"ORDER BY {name} {way}"
        for name in ("StartTime", "CloseTime", "Who", "Number", "Score", "Open", "Due")
        for way in ("", "ASC", "DESC")
    ),
]


def quoted(value):
    if isinstance(value, bool):
        return str(value).lower()

    return repr(value) if isinstance(value, int | float) else "'" + value.replace("'", "''") + "'"


@st.composite
def comparisons(draw):
    name = draw(st.sampled_from(list(FIELDS)))
    kind = FIELDS[name]
    ways = ["null", "="]
    if kind not in {"Text", "Bool"}:
        ways.append("in")

    if kind in {"Keyword", "Int", "Double", "Datetime", "Time"}:
        ways += ["<", "between"]

    if kind == "Keyword":
        ways.append("starts")

    def literal():
        value = draw(LITERALS[kind])
        # A date alone has no zone.
        return quoted("2025-12-31T00:00:00Z" if value == "2025-12-31" else value)

    negated = draw(st.sampled_from(["", "NOT "]))
    match draw(st.sampled_from(ways)):
        case "null":
            return f"{name} IS {negated}NULL"
        case "=":
            return f"{name} {draw(st.sampled_from(['=', '!=']))} {literal()}"
        case "in":
            among = ", ".join(literal() for _ in range(draw(st.integers(1, 3))))
            return f"{name} {negated}IN ({among})"
        case "between":
            return f"{name} {negated}BETWEEN {literal()} AND {literal()}"
        case "starts":
            return f"{name} {negated}STARTS_WITH {literal()}"
        case _:
            return f"{name} {draw(st.sampled_from(COMPARE))} {literal()}"


CONDITIONS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda c: f"NOT ({c})"),
        st.tuples(inner, inner).map(lambda c: f"({c[0]}) AND {c[1]}"),
        st.tuples(inner, inner).map(lambda c: f"({c[0]} OR {c[1]})"),
    ),
    max_leaves=6,
)
FILTERS = st.tuples(st.one_of(st.just(""), comparisons(), CONDITIONS), st.sampled_from(ORDERS)).map(
    " ".join
)
RUNS = st.lists(
    st.fixed_dictionaries(
        {
            "status": st.sampled_from(["running", "running", "completed", "failed", "canceled"]),
            "started": st.sampled_from([1.0, 2.0, 2.5]),
            "closed": st.sampled_from([1.0, 2.5, 3.0]),
            "type": st.sampled_from(["Flow", "a", "é"]),
            "shown": st.fixed_dictionaries({}, optional=VALUES),
        }
    ),
    max_size=14,
)


async def fill(store, runs):
    worker = await store.register_worker("me")
    for n, run in enumerate(runs):
        # Ids in another order than the starts.
        run_id = f"{'ab'[n % 2]}{99 - n}"
        row = replace(new_row(run_id, started=run["started"]), workflow_type=run["type"])
        made = replace(
            first(run_id, worker),
            start=(row, b"start"),
            status=run["status"],
            time=run["closed"],
            profile=shown(run["shown"]),
        )
        assert await store.append(made) is ACCEPTED


async def pages(store, selection, size):
    found, after = [], None
    while True:
        page = await store.visibility.page("default", selection, after=after, limit=size)
        found += page
        if not page:
            return found

        last = page[-1]
        after = Place(last.value, last.row.started, last.row.run_id)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(RUNS, st.lists(FILTERS, min_size=12, max_size=12), st.integers(1, 4))
def test_every_store_lists_and_counts_the_same(tmp_path_factory, runs, filters, size):
    async def main():
        path = tmp_path_factory.mktemp("stores")
        async with opened("memory", path) as memory, opened("sqlite", path) as sqlite:
            await fill(memory, runs)
            await fill(sqlite, runs)
            for text in filters:
                selection = parse(text, KINDS)
                whole = await memory.visibility.page("default", selection, after=None, limit=99)
                same = await sqlite.visibility.page("default", selection, after=None, limit=99)
                assert [r.row for r in same] == [r.row for r in whole], text
                assert [r.value for r in same] == [r.value for r in whole], text
                assert [r.profile for r in same] == [r.profile for r in whole], text
                # No run twice, none left out.
                for store in (memory, sqlite):
                    assert await pages(store, selection, size) == whole, text
                    count = await store.visibility.count("default", selection.where)
                    assert sum(count.values()) == len(whole), text

    asyncio.run(main())


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_numbers_are_found_by_their_exact_value(tmp_path_factory, numbers):
    async def main():
        path = tmp_path_factory.mktemp("stores")
        key = SearchAttributeKey.for_float("Score")
        async with opened("sqlite", path) as store:
            for n, number in enumerate(numbers):
                pairs = TypedSearchAttributes([SearchAttributePair(key, number)])
                value = lowered_pairs(pairs)["Score"][1]
                await begin(store, f"r{n}", {"Score": value})

            for n, number in enumerate(numbers):
                assert f"r{n}" in await ids(store, f"Score = {number!r}")

            ordered = await ids(store, "ORDER BY Score")
            found = [numbers[int(run[1:])] for run in ordered]
            assert found == sorted(numbers)

    asyncio.run(main())


@pytest.mark.parametrize("order", ["", "ORDER BY StartTime", "ORDER BY Number DESC"])
def test_pages_neither_repeat_nor_skip_runs_while_others_start(on, order):
    async def code(store):
        choose = random.Random(7)
        for n in range(40):
            await begin(store, f"r{n:02}", {"Number": n % 5}, started=float(n % 7))

        selection = parse(f"Number IS NOT NULL {order}", await store.visibility.kinds("default"))
        before = {f"r{n:02}" for n in range(40)}
        seen, after = [], None
        for n in itertools.count():
            page = await store.visibility.page("default", selection, after=after, limit=3)
            if not page:
                break

            seen += [each.row.run_id for each in page]
            last = page[-1]
            after = Place(last.value, last.row.started, last.row.run_id)
            # Before, after and among those that are still to come.
            for m in range(2):
                await begin(
                    store,
                    f"{choose.choice('asz')}{n}-{m}",
                    {"Number": choose.randrange(6)},
                    started=choose.choice([0.0, 3.0, 9.0]),
                )

            assert n < 200

        assert len(seen) == len(set(seen))
        assert before <= set(seen)

    on(code)
