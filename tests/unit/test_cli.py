"""The command line's texts, and the timeline that it prints, on records made by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest
from durable_core import history as h
from durable_core.cli import _format
from durable_core.cli._store import _similar
from durable_core.cli._texts import with_new_items
from durable_core.client import WorkflowHistory

BEGAN = 1_700_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0ms"),
        (0.0004, "0ms"),
        (0.012, "12ms"),
        (0.9996, "1.00s"),
        (1.234, "1.23s"),
        (9.996, "10.0s"),
        (59.94, "59.9s"),
        (59.96, "1m 00s"),
        (123, "2m 03s"),
        (3599.9, "1h 00m"),
        (7_380, "2h 03m"),
        (86_400, "1d 00h"),
        (273_600, "3d 04h"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds, text):
    assert _format.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "total", "text"),
    [
        (0.0125, 5, "0.013s"),
        (61.25, 99, "61.250s"),
        (61.25, 100, "01:01.2"),
        (61.25, 4000, "00:01:01"),
        (90_061, 90_061, "1d 01:01:01"),
        (61, 90_061, "0d 00:01:01"),
    ],
)
def test_offsets_have_one_form_per_run(seconds, total, text):
    assert _format.offset(seconds, total=total) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "just now"), (1, "1 second ago"), (119, "1 minute ago"), (200_000, "2 days ago")],
)
def test_how_long_ago_is_told_in_one_unit(seconds, text):
    assert _format.ago(seconds) == text


def test_what_a_terminal_would_obey_is_made_visible():
    told = _format.clean("a\x1b]0;title\x07b\r\nc\td\x9be\u202ef")
    assert told == "a\\x1b]0;title\\x07b\nc    d\\x9be\\u202ef"
    assert _format.one_line("a\n  b\x00") == "a b\\x00"


def test_lines_of_recorded_text_stay_lines():
    value = {"note": "one\ntwo", "n": 1, "list": [{"text": "x" * 80, "y": 2}]}
    assert _format.readable(value).splitlines() == [
        "note:",
        "  one",
        "  two",
        "n: 1",
        "list:",
        f'  - text: "{"x" * 80}"',
        "    y: 2",
    ]
    assert _format.readable([]) == "[]"
    assert _format.readable("plain\ntext") == "plain\ntext"


def test_floats_that_json_lacks_become_text():
    assert _format.finite({"a": [float("nan"), 1.5], "b": float("-inf")}) == {
        "a": ["nan", 1.5],
        "b": "-inf",
    }


def test_similar_ids_contain_what_was_asked_for_or_are_spelled_like_it():
    known = ["order-43", "order-42", "report", "ORDER-421"]
    assert _similar("order-42", known) == ["order-42", "ORDER-421", "order-43"]
    assert _similar("reprot", known) == ["report"]
    assert _similar("zzz", known) == []


def test_a_shared_list_is_shown_as_what_is_new_in_it():
    items = {"n2": {"base": "n1", "items": ["a", "b"]}, "a": "third", "b": "fourth"}
    text = {"model": "m", "input": {"$items": "n2", "count": 4}}
    assert with_new_items(text, items) == {
        "model": "m",
        "input": ["(2 earlier items)", "third", "fourth"],
    }


def test_help_needs_no_rich():
    code = (
        "import sys; from durable_core.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print('rich' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "list" in done.stdout
    assert done.stderr.strip() == "False"


def recorded(*activations: h.Activation, bound: bool = True, **more) -> WorkflowHistory:
    start = h.Start(
        namespace="default",
        workflow_id="w",
        run_id="r",
        workflow_type="W",
        task_queue="q",
        time=BEGAN,
        args=h.Payload(data=b"[]"),
        args_digest="",
        seed="",
        effect_scope="r",
        lineage="r",
        bound=bound,
        client="1@host",
    )
    return WorkflowHistory("w", "r", start, activations, **more)


def step(number: int, *commands, events=()) -> h.Activation:
    return h.Activation(
        number=number, time=BEGAN + number, fence=1, events=tuple(events), commands=commands
    )


def scheduled(seq: int) -> h.ScheduleActivity:
    return h.ScheduleActivity(seq=seq, name=f"a{seq}", args=h.Payload(data=b"[]"), digest="")


END = h.CompleteRun(result=h.Payload(data=b"null"))


def test_what_had_no_outcome_when_the_run_ended_is_cancelled():
    timer = h.StartTimer(seq=2, delay=60.0, due=BEGAN + 60)
    run = recorded(step(0, scheduled(1), timer), step(1, END))
    fates = {e.seq: (e.status, e.ended) for e in run.timeline() if e.seq}
    assert fates == {1: ("cancelled", BEGAN + 1), 2: ("cancelled", BEGAN + 1)}


def test_a_cancelled_activity_that_is_waited_for_has_its_own_end():
    asked = step(1, h.CancelActivity(seq=1, wait=True))
    [entry] = [e for e in recorded(step(0, scheduled(1)), asked).timeline() if e.seq]
    assert (entry.status, entry.ended) == ("cancelling", None)

    done = h.ActivityCompleted(seq=1, result=h.Payload(data=b"7"))
    run = recorded(step(0, scheduled(1)), asked, step(2, END, events=[done]))
    [entry] = [e for e in run.timeline() if e.seq]
    assert (entry.status, entry.ended, entry.result) == ("completed", BEGAN + 2, 7)


def test_the_due_times_of_timers_and_of_next_attempts_are_told():
    timer = h.StartTimer(seq=2, delay=60.0, due=BEGAN + 60)
    failed = h.Attempt(number=1, outcome="failed", worker="1@host", fence=1)
    pending = {1: h.PendingActivity(seq=1, attempts=(failed,), retry_at=BEGAN + 5)}
    run = recorded(step(0, scheduled(1), timer), pending=pending)
    assert [(e.status, e.due) for e in run.timeline() if e.seq] == [
        ("retrying", BEGAN + 5),
        ("pending", BEGAN + 60),
    ]


def test_workers_are_told_by_their_fence():
    taken = h.Taken(worker="3@host", fence=3, python="cpython-3.11", time=BEGAN)
    second = h.Attempt(number=1, outcome="failed", worker="2@host", fence=2)
    lost = h.Attempt(number=2, outcome="lost", fence=2)
    done = h.ActivityCompleted(seq=1, result=h.Payload(data=b"1"), attempts=(second, lost))
    steps = (step(0, scheduled(1)), step(1, END, events=[taken, done]))
    assert recorded(*steps).workers() == {1: "1@host", 2: "2@host", 3: "3@host"}
    assert recorded(*steps, bound=False).workers() == {2: "2@host", 3: "3@host"}
