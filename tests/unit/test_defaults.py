"""The table of defaults: what the documentation says is what the code has, row by row."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path

import durable_openai_agents._defaults as agents
import pytest
from durable_core import Worker, _defaults
from durable_core.adapter import UnitOptions
from durable_core.common import RetryPolicy
from durable_openai_agents import _model, _tool

PAGE = Path(__file__).resolve().parents[2] / "docs" / "defaults.md"
POLICY = RetryPolicy()
UNSAID = {"NEVER"}


def minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes"


def size(number: int) -> str:
    return f"{number >> 20} MiB" if number >> 20 else f"{number >> 10} KiB"


# The row, and what it says, each with the names of the constants that it stands for.
ROWS = {
    "store": [
        ("STORE_FOLDER STORE_FILE", f"`./{_defaults.STORE_FOLDER}/{_defaults.STORE_FILE}`"),
        ("URL_VARIABLE", f"`${_defaults.URL_VARIABLE}`"),
    ],
    "file mode": [("FILE_MODE", f"{_defaults.FILE_MODE:04o}")],
    "an activity's attempt": [("START_TO_CLOSE", minutes(_defaults.START_TO_CLOSE))],
    "retries of an activity": [
        ("", f"after {POLICY.initial_interval.total_seconds():g} s"),
        ("", f"up to {POLICY.delay(99):g} s"),
    ],
    "a lost attempt": [("LOSSES_AT_ONCE", "after a first and a second loss")],
    f"a backoff of more than {_defaults.COMMITTED_BACKOFF:g} s": [("COMMITTED_BACKOFF", "")],
    "heartbeats": [("HEARTBEAT_EVERY", f"about every {_defaults.HEARTBEAT_EVERY:g} s")],
    "a model call": [
        ("MODEL_ATTEMPTS", f"{agents.MODEL_ATTEMPTS} attempts"),
        ("MODEL_WINDOW", minutes(agents.MODEL_WINDOW)),
        ("MODEL_FIRST_DELAY", f"after {agents.MODEL_FIRST_DELAY:g} s"),
        ("MODEL_LONGEST_DELAY", f"up to {agents.MODEL_LONGEST_DELAY:g} s"),
    ],
    "a tool": [("TOOL_ATTEMPTS", "one attempt")],
    "the end of a program that made a durable run": [
        ("TRACE_PATIENCE", f"waits {agents.TRACE_PATIENCE:g} s")
    ],
    "runs that have ended": [
        ("RETENTION_DAYS", f"{_defaults.RETENTION_DAYS:g} days"),
        ("RETENTION_VARIABLE", f"`${_defaults.RETENTION_VARIABLE}`"),
        ("PURGE_FIRST", f"{_defaults.PURGE_FIRST:g} s after"),
        ("PURGE_EVERY", "every hour"),
    ],
    "runs that lost their process, after `recover`": [
        ("RECOVER_EVERY", f"every {_defaults.RECOVER_EVERY:g} s"),
        ("RECOVERED_AT_ONCE", f"at most {_defaults.RECOVERED_AT_ONCE}"),
    ],
    "runs in memory per worker": [
        ("CACHED_RUNS", f"{_defaults.CACHED_RUNS:,}"),
        ("CACHED_RUNS_VARIABLE", f"`${_defaults.CACHED_RUNS_VARIABLE}`"),
        ("EVICT_AFTER", f"{_defaults.EVICT_AFTER:g} s"),
    ],
    f"a run taken over more than {_defaults.CRASH_LOOP_TAKEOVERS} times without an activation": [
        ("CRASH_LOOP_TAKEOVERS", "")
    ],
    "a worker's lease": [
        ("LEASE", f"{_defaults.LEASE:g} s"),
        ("LEASE_MARGIN", f"last {_defaults.LEASE_MARGIN:.0%}"),
    ],
    "a stalled run in a worker that keeps running": [
        ("STALL_RETRY_FIRST", f"after {_defaults.STALL_RETRY_FIRST:g} s"),
        ("STALL_RETRY_MAX", f"up to {minutes(_defaults.STALL_RETRY_MAX)}"),
    ],
    "threads for sync activities and sync tools": [("THREADS", f"{_defaults.THREADS}")],
    "Python's switch interval": [("SWITCH_INTERVAL", f"{_defaults.SWITCH_INTERVAL * 1000:g} ms")],
    "bodies at once": [("BODIES_AT_ONCE", f"{_defaults.BODIES_AT_ONCE}")],
    "the result of a run that another process has": [
        ("POLL_WAITING", f"every {_defaults.POLL_WAITING * 1000:g} ms"),
        ("POLL_LATE", f"{_defaults.POLL_LATE:.0%} of the time"),
        ("POLL_IDLE", f"every {_defaults.POLL_IDLE:g} s"),
    ],
    "SQLite's page cache": [("PAGE_CACHE", size(_defaults.PAGE_CACHE))],
    "payload in a record": [("INLINE_LIMIT", size(_defaults.INLINE_LIMIT))],
    "largest argument, result, signal or update, and metadata of a run": [
        ("PAYLOAD_LIMIT", size(_defaults.PAYLOAD_LIMIT))
    ],
    "chunks of a stream": [
        ("STREAM_EVERY", f"every {_defaults.STREAM_EVERY * 1000:g} ms"),
        ("STREAM_LOOK", f"look every {_defaults.STREAM_LOOK * 1000:g} ms"),
    ],
    "largest chunk of a stream": [("STREAM_CHUNK", size(_defaults.STREAM_CHUNK))],
    "largest stream": [
        ("STREAM_SIZE", size(_defaults.STREAM_SIZE)),
        ("STREAM_LENGTH", f"{_defaults.STREAM_LENGTH:,} items"),
    ],
    "streams of a run": [
        ("STREAMS", f"at most {_defaults.STREAMS:,}"),
        ("STREAM_NAME", f"1 to {_defaults.STREAM_NAME} printable characters"),
    ],
    "what is in streams": [
        ("STREAM_RETENTION_DAYS", f"for {_defaults.STREAM_RETENTION_DAYS:g} day"),
        ("STREAM_RETENTION_VARIABLE", f"`${_defaults.STREAM_RETENTION_VARIABLE}`"),
    ],
    "workflow id": [("ID_LENGTH", f"1 to {_defaults.ID_LENGTH:,} characters")],
    "namespace, task queue": [("NAMESPACE TASK_QUEUE", f"`{_defaults.NAMESPACE}`")],
    "history after which a run had better continue as a new one": [
        ("HISTORY_SUGGESTED", f"{_defaults.HISTORY_SUGGESTED:,} activations")
    ],
    "children of children": [("CHILD_DEPTH", f"{_defaults.CHILD_DEPTH} deep")],
    "search attributes of a run": [
        ("ATTRIBUTES", f"at most {_defaults.ATTRIBUTES}"),
        ("ATTRIBUTES_SIZE", size(_defaults.ATTRIBUTES_SIZE)),
        ("ATTRIBUTE_SIZE", f"{size(_defaults.ATTRIBUTE_SIZE)} each"),
        ("ATTRIBUTE_NAME", f"names of 1 to {_defaults.ATTRIBUTE_NAME} characters"),
    ],
    "what a run changes in its memo": [("MEMO_CHANGES", size(_defaults.MEMO_CHANGES))],
    "words for people": [
        ("SUMMARY", f"{_defaults.SUMMARY} characters"),
        ("DETAILS", f"{_defaults.DETAILS:,} characters"),
    ],
    "a page of a list of runs": [("PAGE", f"{_defaults.PAGE:,} runs")],
    "a query that a worker of another process answers": [
        ("QUERY_TIMEOUT", f"{_defaults.QUERY_TIMEOUT:g} s")
    ],
    "workflow code that never comes to rest": [("SPIN_LIMIT", f"{_defaults.SPIN_LIMIT:,} steps")],
    "workflow code that holds up its event loop": [
        ("BLOCKED_AFTER", f"after {_defaults.BLOCKED_AFTER:g} s")
    ],
}


def table() -> dict[str, str]:
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(rows)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_page_says_what_the_code_has(row):
    said = table()[row]
    for _, expected in ROWS[row]:
        assert expected in said


def test_every_default_has_its_row():
    named = {name for cells in ROWS.values() for names, _ in cells for name in names.split()}
    held = {name for module in (_defaults, agents) for name in vars(module) if name.isupper()}
    assert named == held - UNSAID


def test_the_code_goes_by_the_table():
    worker = inspect.signature(Worker).parameters
    assert worker["max_concurrent_activities"].default == _defaults.BODIES_AT_ONCE
    assert UnitOptions().start_to_close_timeout == _defaults.START_TO_CLOSE
    assert UnitOptions().retry_policy == POLICY
    assert POLICY.maximum_attempts == 0
    assert timedelta(seconds=POLICY.delay(1)) == POLICY.initial_interval
    model, tool = _model._OPTIONS, _tool._OPTIONS
    assert (model.start_to_close_timeout, tool.start_to_close_timeout) == (None, None)
    assert model.retry_policy.maximum_attempts == agents.MODEL_ATTEMPTS
    assert tool.retry_policy.maximum_attempts == agents.TOOL_ATTEMPTS
