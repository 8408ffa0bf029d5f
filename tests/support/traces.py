"""What trace processors hear, and the tree that it makes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agents.tracing import Span, Trace, TracingProcessor, setup
from agents.tracing.provider import DefaultTraceProvider

# Lets a run of the bench, which is not traced otherwise, be traced.
TRACED: dict[str, Any] = {"config": {"tracing_disabled": False}}


@dataclass(frozen=True)
class Heard:
    """One call of a processor.

    Attributes:
        event: ``start`` or ``end``.
        id: Of the trace or span.
        trace: Id of the trace.
        parent: Id of the span above, of a span.
        data: What it is, as it is exported; a trace has its name.
        error: Of a span.
        started: When a span began.
        ended: When it ended.
    """

    event: str
    id: str
    trace: str
    parent: str | None
    data: dict[str, Any]
    error: Any = None
    started: str | None = None
    ended: str | None = None

    @property
    def is_trace(self) -> bool:
        return self.id == self.trace


class Listener(TracingProcessor):
    """Keeps what it hears, in a file too if it is given one."""

    def __init__(self, file: Path | None = None) -> None:
        self.heard: list[Heard] = []
        self._file = file

    def on_trace_start(self, trace: Trace) -> None:
        self._hear(Heard("start", trace.trace_id, trace.trace_id, None, {"name": trace.name}))

    def on_trace_end(self, trace: Trace) -> None:
        self._hear(Heard("end", trace.trace_id, trace.trace_id, None, {"name": trace.name}))

    def on_span_start(self, span: Span[Any]) -> None:
        self._hear(self._of_span("start", span))

    def on_span_end(self, span: Span[Any]) -> None:
        self._hear(self._of_span("end", span))

    def shutdown(self) -> None:
        pass

    def force_flush(self) -> None:
        pass

    def _of_span(self, event: str, span: Span[Any]) -> Heard:
        return Heard(
            event,
            span.span_id,
            span.trace_id,
            span.parent_id,
            span.span_data.export(),
            span.error,
            span.started_at,
            span.ended_at,
        )

    def _hear(self, heard: Heard) -> None:
        self.heard.append(heard)
        if self._file is not None:
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(fd, json.dumps(asdict(heard), default=repr).encode() + b"\n")
            finally:
                os.close(fd)


def heard_in(file: Path) -> list[Heard]:
    """Return what listeners wrote to a file."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [Heard(**json.loads(line)) for line in lines]


@contextmanager
def listening(*listeners: TracingProcessor) -> Iterator[None]:
    """Let these processors, and no others, hear of traces."""
    provider = DefaultTraceProvider()
    provider.set_disabled(False)
    provider.set_processors(list(listeners))
    before = setup.GLOBAL_TRACE_PROVIDER
    setup.GLOBAL_TRACE_PROVIDER = provider
    try:
        yield
    finally:
        setup.GLOBAL_TRACE_PROVIDER = before


def listen(run: Callable[[], object]) -> list[Heard]:
    """Return what a processor hears during a run."""
    listener = Listener()
    with listening(listener):
        run()

    return listener.heard


def run_traced(bench: Any, agent: Any, **arguments: Any) -> Any:
    """As `run_once` of the bench, with traces."""
    return bench.run_once(agent, **{**TRACED, **arguments})


def names(heard: list[Heard], event: str) -> Counter[str]:
    """Return how often what was heard, by type and name."""
    return Counter(
        f"{one.data.get('type', 'trace')} {one.data.get('name')}"
        for one in heard
        if one.event == event
    )


def once(heard: list[Heard]) -> bool:
    """Return whether something ended, and nothing twice."""
    return set(Counter(one.id for one in heard if one.event == "end").values()) == {1}


def tree(heard: list[Heard]) -> list[Any]:
    """Return the traces that ended, each with the spans that ended below it.

    Parts of one whole are sorted by what they are, and ids are left out, so that trees of several
    executions can be compared.
    """
    ended = [one for one in heard if one.event == "end"]

    def below(one: Heard) -> list[Any]:
        parts = [
            other
            for other in ended
            if not other.is_trace
            and other.trace == one.trace
            and other.parent == (None if one.is_trace else one.id)
        ]
        nodes = [[other.data, other.error, below(other)] for other in parts]
        return sorted(nodes, key=lambda node: json.dumps(node, sort_keys=True, default=repr))

    found = [[one.data, below(one)] for one in ended if one.is_trace]
    lost = len(ended) - sum(map(_size, found))
    assert lost == 0, f"{lost} of {len(ended)} spans hang in the air"
    return found


def _size(node: list[Any]) -> int:
    return 1 + sum(map(_size, node[-1]))


def shape(heard: list[Heard]) -> list[str]:
    """Return the types and names of a tree's spans as indented lines."""

    def lines(node: list[Any], depth: int) -> Iterator[str]:
        data = node[0]
        yield "  " * depth + " ".join(str(data[k]) for k in ("type", "name") if data.get(k))
        for part in node[-1]:
            yield from lines(part, depth + 1)

    return [line for node in tree(heard) for line in lines(node, 0)]


def check_order(heard: list[Heard]) -> None:
    """Check what a processor may rely on: each starts once and then ends once, inside its parent.

    Raises:
        AssertionError: It does not.
    """
    open_: list[str] = []
    seen: set[str] = set()
    for one in heard:
        if one.event == "end":
            assert one.id in open_, f"{one} did not start"
            open_.remove(one.id)
            continue

        assert one.id not in seen, f"{one} started twice"
        assert one.is_trace or one.trace in open_, f"{one} is not in an open trace"
        assert one.parent is None or one.parent in open_, f"{one} is not in an open span"
        seen.add(one.id)
        open_.append(one.id)
