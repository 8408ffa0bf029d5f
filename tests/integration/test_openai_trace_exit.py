"""Traces at the end of a program: sent if their backend answers, and no late exit if not."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import exit_app, trace_backend
from support.trace_backend import TraceBackend

pytest_plugins = ["support.agents_fixtures"]

APP = Path(exit_app.__file__)


@dataclass(frozen=True)
class Exit:
    """How a program ended: what it printed, and the seconds after its own code."""

    lines: list[str]
    seconds: float


@pytest.fixture
def ending(processes, store_url, tmp_path, _agents_server):
    """Starts the program, by default with a key, and returns what waits for its end."""

    def start(
        how: str, to: str, *more: str, key: str | None = "sk-traces", fault: str = ""
    ) -> Callable[[], Exit]:
        ended = tmp_path / f"ended-{len(list(tmp_path.glob('process-*')))}"
        environment = {**_agents_server[0].environment(), "DURABLE_URL": store_url}
        environment |= {"OPENAI_AGENTS_DISABLE_TRACING": "0", "TRACES_TO": to, "ENDED": str(ended)}
        # The SDK leaves its exporter's connections open.
        environment["PYTHONWARNINGS"] = "error,ignore::ResourceWarning"
        environment.pop("OPENAI_API_KEY")
        if key is not None:
            environment["OPENAI_API_KEY"] = key

        process = processes.start(APP, how, *more, fault=fault, **environment)

        def wait() -> Exit:
            end = process.wait()
            now = time.time()
            if fault:
                assert end.killed
                return Exit(end.output.splitlines(), 0.0)

            end.checked()
            return Exit(end.output.splitlines(), now - float(ended.read_text()))

        return wait

    return start


@pytest.mark.parametrize("place", [trace_backend.closed, trace_backend.silent])
def test_a_backend_that_cannot_be_reached_does_not_delay_the_exit(ending, place):
    with place() as to, ThreadPoolExecutor(2) as pool:
        waits = [ending(how, to) for how in ("plain", "durable")]
        plain, durable = pool.map(lambda wait: wait(), waits)

    # The SDK waits for 1 + 2 seconds between its attempts, or 5 for an answer.
    assert plain.seconds > 3
    assert durable.seconds < plain.seconds - 1
    assert 0 < len(durable.lines) <= max(3, len(plain.lines))


def test_a_backend_that_answers_gets_every_trace(ending):
    with TraceBackend() as backend:
        plain = ending("plain", backend.url)()
        sent = [item["span_data"]["type"] for item in backend.of_kind("trace.span")]
        backend.items.clear()
        durable = ending("durable", backend.url)()
        spans = backend.of_kind("trace.span")
        assert plain.lines == durable.lines == []
        assert len(backend.of_kind("trace")) == 1
        assert [item["span_data"]["type"] for item in spans] == sent
        assert len({item["id"] for item in spans}) == len(spans) == 4
        backend.items.clear()
        assert ending("durable", backend.url)().lines == []
        assert backend.items == []


def test_a_backend_gets_the_trace_of_a_run_whose_first_process_was_killed(ending):
    with TraceBackend() as backend:
        ending("durable", backend.url, fault="activity.body.before:1")()
        assert backend.items == []
        ending("durable", backend.url)()
        [of_run] = backend.of_kind("trace")
        spans = {item["id"]: item for item in backend.of_kind("trace.span")}
        assert len(spans) == 4
        assert {item["trace_id"] for item in spans.values()} == {of_run["id"]}
        assert {item["parent_id"] for item in spans.values()} <= {None, *spans}


def test_a_backend_that_has_answered_before_is_waited_for(ending):
    with TraceBackend(0.0, 2.5) as backend:
        ended = ending("durable", backend.url, "twice")()
        assert len(backend.of_kind("trace")) == 2

    assert ended.lines == []


def test_without_a_key_nothing_is_printed_beyond_what_the_plain_runner_prints(ending):
    with trace_backend.closed() as to:
        plain, durable = (ending(how, to, key=None)() for how in ("plain", "durable"))

    assert durable.lines == plain.lines
