"""The SDK's traces of a durable run: told once, however often the run is replayed.

The agent loop makes its traces and spans again on every replay. Trace processors, be they the SDK's
own or a user's, hear only of what happens live; what began in replay and is still open is told
late, before the first live thing that belongs to it. Ids are derived from the run, so that what is
told after a crash belongs to the trace that was told before it.

A start is told at once, since processors that bridge to OpenTelemetry put a span into the context
of the code that follows, where bodies find it. An end is told after the commit, as everything that
leaves the process: exporters send a span at its end, and one that ended in an activation which was
never committed ends again.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial, wraps
from hashlib import blake2b
from typing import Any
from weakref import WeakKeyDictionary

from agents.tracing import Span, SpanError, Trace, get_current_span, get_current_trace
from agents.tracing.processors import BackendSpanExporter, BatchTraceProcessor
from agents.tracing.provider import DefaultTraceProvider, SynchronousMultiTracingProcessor
from durable_core.adapter import Engine, current_engine, outside
from pydantic_core import to_jsonable_python

from . import _defaults

__all__ = ["Trail", "install", "restore_span_error", "span_error", "trail_of"]

_Made = Trace | Span[Any]
_Tell = Callable[[], None]

_trails: WeakKeyDictionary[Engine, Trail] = WeakKeyDictionary()
# Whether the last request of an exporter was answered, for exporters that heard of a durable run.
_answered: WeakKeyDictionary[BackendSpanExporter, bool] = WeakKeyDictionary()


class Trail:
    """The traces and spans that the workflow code of one run makes.

    Belongs to the thread of its run; a body that is told to `catch_up` runs there too.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._ids = 0
        # What began in replay and has not ended, in that order, and how to tell of it.
        self._untold: dict[_Made, _Tell] = {}

    def new_id(self, size: int) -> str:
        """Return the next id, ``size`` hexadecimal digits long; equal on every replay.

        Counted apart from the run's random numbers, since a run may be continued without traces.
        """
        self._ids += 1
        text = f"{self._run_id}\0{self._ids}"
        return blake2b(text.encode(), digest_size=size // 2).hexdigest()

    def began(self, made: _Made, tell: _Tell, engine: Engine) -> None:
        """Note that a trace or span began, and tell it unless this is a repetition."""
        if engine.replaying:
            self._untold[made] = partial(_tell_late, _own_context(), tell)
        else:
            self._untold[made] = tell
            self._tell(made)

    def ended(self, made: _Made, tell: _Tell, engine: Engine) -> None:
        """Tell that a trace or span ended; of one that also ended in replay nothing is told."""
        if engine.replaying:
            self._untold.pop(made, None)
        else:
            self._tell(made)
            engine.after_commit(tell)

    def catch_up(self) -> None:
        """Tell of what the code that is running is part of: it runs live."""
        if self._untold:
            for current in (get_current_trace(), get_current_span()):
                if current is not None:
                    self._tell(current)

    def _tell(self, made: _Made) -> None:
        """Tell that something began, unless that was done, and of what it is part of before.

        A late start instead of none: the SDK's exporter sends a trace at its start, and did not
        come to it if the process died within the next seconds; processors that keep open spans by
        id ignore the end of one whose start they have not seen. A backend gets a trace or span that
        it knows already once more under the same id, as when the SDK resumes a `RunState`.
        """
        tell = self._untold.pop(made, None)
        if tell is None:
            return

        if isinstance(made, Span):
            above = (made.trace_id, made.parent_id)
            for other in [other for other in self._untold if _id_of(other) in above]:
                self._tell(other)

        # A processor may start its thread now.
        outside(tell)


def _tell_late(context: contextvars.Context, tell: _Tell) -> None:
    """Tell that something began, in the context in which it did.

    A processor that puts an OpenTelemetry span there at a start takes it out at the end, which can
    be done only in the same context. What it puts is put into the context of the caller too, so
    that it is above what the caller does.
    """
    told = False
    before = dict(context.items())

    def run() -> None:
        nonlocal told
        told = True
        tell()

    try:
        context.run(run)
    except RuntimeError:
        # It is the context of the caller itself.
        if told:
            raise

        tell()

    for variable, value in context.items():
        if variable not in before or before[variable] is not value:
            variable.set(value)


def _own_context() -> contextvars.Context:
    task = asyncio.current_task()
    get_context = getattr(task, "get_context", contextvars.copy_context)
    context: contextvars.Context = get_context()
    return context


def trail_of(engine: Engine) -> Trail:
    """Return the trail of the run that an engine executes."""
    trail = _trails.get(engine)
    if trail is None:
        trail = _trails[engine] = Trail(engine.run_id)

    return trail


def span_error() -> dict[str, Any] | None:
    """Return the error that a body has noted in its span, in JSON's own types; None if none."""
    span = get_current_span()
    if span is None or span.error is None:
        return None

    error: dict[str, Any] = to_jsonable_python(dict(span.error), fallback=str)
    return error


def restore_span_error(error: dict[str, Any] | None) -> None:
    """Note an error in the span of the running code, unless its body has done so."""
    span = get_current_span()
    if error is not None and span is not None and span.error is None:
        span.set_error(SpanError(message=error["message"], data=error["data"]))


def install() -> None:
    """Replace what the SDK tells processors by, and where its ids and times come from."""
    _replace(SynchronousMultiTracingProcessor, "on_trace_start", _telling_of_a_start)
    _replace(SynchronousMultiTracingProcessor, "on_span_start", _telling_of_a_start)
    _replace(SynchronousMultiTracingProcessor, "on_trace_end", _telling_of_an_end)
    _replace(SynchronousMultiTracingProcessor, "on_span_end", _telling_of_an_end)
    _replace(DefaultTraceProvider, "gen_trace_id", partial(_deriving, prefix="trace_", size=32))
    _replace(DefaultTraceProvider, "gen_span_id", partial(_deriving, prefix="span_", size=24))
    _replace(DefaultTraceProvider, "gen_group_id", partial(_deriving, prefix="group_", size=24))
    _replace(DefaultTraceProvider, "time_iso", _recorded_time)
    _replace(BatchTraceProcessor, "shutdown", _impatient)


def _replace(cls: type, name: str, replacement: Callable[[Any], Any]) -> None:
    original = getattr(cls, name)
    setattr(cls, name, wraps(original)(replacement(original)))


# What processors hear

_On = Callable[[SynchronousMultiTracingProcessor, Any], None]


def _telling_of_a_start(original: _On) -> _On:
    def on_start(processors: SynchronousMultiTracingProcessor, made: Any) -> None:
        engine = current_engine()
        if engine is None:
            original(processors, made)
        elif not _is_dropped():
            _watch(processors)
            trail_of(engine).began(made, partial(original, processors, made), engine)

    return on_start


def _telling_of_an_end(original: _On) -> _On:
    def on_end(processors: SynchronousMultiTracingProcessor, made: Any) -> None:
        engine = current_engine()
        if engine is None:
            original(processors, made)
        elif not _is_dropped():
            trail_of(engine).ended(made, partial(original, processors, made), engine)

    return on_end


def _is_dropped() -> bool:
    """Return whether the run is only leaving memory: its spans go on where it is continued."""
    return asyncio.get_running_loop().is_closed()


# Ids and times


def _deriving(original: Callable[[Any], str], prefix: str, size: int) -> Callable[[Any], str]:
    def new_id(provider: Any) -> str:
        engine = current_engine()
        return original(provider) if engine is None else prefix + trail_of(engine).new_id(size)

    return new_id


def _recorded_time(original: Callable[[Any], str]) -> Callable[[Any], str]:
    """Let a span that is told after a crash have begun when it did, not when it was repeated."""

    def time_iso(provider: Any) -> str:
        engine = current_engine()
        if engine is None:
            return original(provider)

        return datetime.fromtimestamp(engine.now(), UTC).isoformat()

    return time_iso


# The end of the program


def _impatient(original: Callable[..., None]) -> Callable[..., None]:
    """Bound the wait for a backend that does not answer; one that does keeps the SDK's time.

    At exit the SDK waits up to 5 seconds for its exporter, which sends what is left and tries
    again when that fails.
    """

    def shutdown(processor: BatchTraceProcessor, timeout: float | None = None) -> None:
        exporter = getattr(processor, "_exporter", None)
        silent = isinstance(exporter, BackendSpanExporter) and not _answered.get(exporter, True)
        # Without a limit it is no exit but a user who wants to wait.
        if silent and timeout is not None:
            timeout = min(timeout, _defaults.TRACE_PATIENCE)

        original(processor, timeout=timeout)

    return shutdown


def _watch(processors: SynchronousMultiTracingProcessor) -> None:
    """Note from now on whether the SDK's exporters get answers."""
    for processor in processors._processors:  # noqa: SLF001
        exporter = getattr(processor, "_exporter", None)
        # Not one of a user's own class, or with a client of the user's: they may send otherwise.
        hooks = getattr(getattr(exporter, "_client", None), "event_hooks", None)
        if (
            type(exporter) is BackendSpanExporter
            and isinstance(hooks, dict)
            and exporter not in _answered
        ):
            _answered[exporter] = False
            hooks["request"].append(partial(_note, exporter, answered=False))
            hooks["response"].append(partial(_note, exporter, answered=True))


def _note(exporter: BackendSpanExporter, _: object, *, answered: bool) -> None:
    _answered[exporter] = answered


def _id_of(made: _Made) -> str:
    return made.span_id if isinstance(made, Span) else made.trace_id
