"""The middle of `durable show`: one line per thing that happened, its failed attempts below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from . import _format
from ._screen import Line, Screen, status_style, width_of
from ._texts import with_new_items

if TYPE_CHECKING:
    from durable_core.client import TimelineEntry, WorkflowHistory
    from durable_core.history import Attempt, Failure

__all__ = ["Timeline", "summary"]

_HEADS = ("TIME", "WHAT", "TOOK", "STATUS")
_GAP = "  "
_WIDE = 100
_NAME = 32
_PLAIN_LABEL = 100
_ERROR_LINES = 3
_MARKS = {
    "completed": "✓",
    "fired": "✓",
    "failed": "✗",
    "cancelled": "-",
    "cancelling": "-",
    "running": "●",
    "waiting": "●",
    "retrying": "↻",
    "answered": "✓",
    "withdrawn": "-",
    "timed out": "-",
    "interrupted": "↯",
    "stalled": "!",
    "continued": "→",
}


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line, and what is told below it."""

    time: str
    name: str
    label: str
    took: str = ""
    status: str = ""
    word: str = ""
    entry: TimelineEntry


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a run.

    Attributes:
        history: Of the run.
        alive: Whether it is open and a living worker owns it.
        now: Seconds since the epoch.
        full: Whether arguments, results and stacks are shown, uncut.
        items: Items of the texts, by address; needed if ``full``.
    """

    history: WorkflowHistory
    alive: bool
    now: float
    full: bool
    items: Mapping[str, Any] = {}

    def print(self, screen: Screen) -> None:
        """Print it below an empty line and a line of heads, if there is anything."""
        short = screen.terminal and screen.width < _WIDE
        start = self.history.start.time
        entries = [e for e in self.history.timeline() if e.kind != "started"]
        if entries and entries[-1].kind == "closed":
            # Shown at the end, with its result; one that was not the end is part of the story.
            entries.pop()

        last = max((entry.time - start for entry in entries), default=0.0)
        rows = [
            self._row(entry, _format.offset(entry.time - start, total=last), short=short)
            for entry in entries
        ]
        if not rows:
            return

        mark = 2 if screen.terminal and screen.unicode else 0
        time = max(width_of(r.time) for r in rows)
        took = max(len(_HEADS[2]), *(width_of(r.took) for r in rows))
        status = max(len(_HEADS[3]), *(width_of(r.status) for r in rows))
        names = [width_of(r.name) for r in rows if r.label]
        name = max(names, default=0)
        name = min(name, _NAME) if screen.terminal else name
        what = max(width_of(_what(screen, r, name)) for r in rows)
        if screen.terminal:
            fixed = time + mark + took + status + 3 * len(_GAP)
            what = min(what, max(screen.width - fixed, 2 * len(_HEADS[1])))
        else:
            what = min(what, name + len(_GAP) + _PLAIN_LABEL)

        heads = zip(_HEADS, (time, what + mark, took, 0), (True, False, True, False), strict=True)
        screen.print()
        line = Line.styled(
            _GAP.join(screen.pad(h, w, right=r) if w else h for h, w, r in heads), "dim"
        )
        screen.print(line)
        for row in rows:
            line = Line.styled(screen.pad(row.time, time, right=True) + _GAP, "dim")
            line.append(f"{_MARKS.get(row.word, ' ')} " if mark else "", status_style(row.word))
            shown = screen.pad(_what(screen, row, name), what)
            line.append(shown[: len(row.name)])
            line.append(shown[len(row.name) :], "" if row.entry.summary else "dim")
            line.append(_GAP + screen.pad(row.took, took, right=True) + _GAP)
            line.append(row.status, status_style(row.word))
            screen.print(line)
            self._print_below(screen, row.entry, indent=time + len(_GAP) + mark + 2)

    def _row(self, entry: TimelineEntry, time: str, *, short: bool) -> _Row:
        match entry.kind:
            case "activity":
                name = _format.one_line(entry.name)
                # The same prefix on every line says little where there is little room.
                name = name.rpartition(".")[2] if short else name
                label = entry.summary or entry.key
                label = _format.one_line(label) if label else _format.arguments(entry.args)
            case "request":
                name = _format.one_line(f"request {entry.name}")
                label = _asked(entry)
            case "timer":
                name, label = f"timer of {entry.detail}", ""
            case _:
                return self._turn(entry, time)

        word = self._word(entry)
        return _Row(
            time=time,
            name=name,
            label=label,
            took=self._took(entry, word),
            status=self._status(entry, word),
            word=word,
            entry=entry,
        )

    def _turn(self, entry: TimelineEntry, time: str) -> _Row:
        """Return the line of what is neither an activity nor a timer."""
        name, label, word, status = str(entry.kind), entry.detail, entry.status, ""
        match entry.kind:
            case "signal" | "update":
                name, status = f"{entry.kind} {entry.name}", entry.status
                label = _format.arguments(entry.args)
            case "cancel":
                name, status = "cancellation", entry.status
            case "told":
                what = "cancellation" if entry.name == "cancel" else f"signal {entry.name}"
                name, status = f"{what} to {entry.key}", entry.status
                label = entry.detail or _format.arguments(entry.args)
            case "child":
                name, status = f"child {entry.name} {entry.key}", entry.status
                label = entry.detail or _format.arguments(entry.args)
            case "retry":
                name, status = "retry now", entry.status
            case "paused":
                name, status = "paused", entry.status
            case "reminder":
                name = f"reminder of {entry.name}"
            case "taken":
                name = "continued"
            case "rewound":
                name = "taken up again"
            case "closed":
                name = "ended"
                label = "" if entry.failure is None else summary(entry.failure)
                status = entry.status
            case "attributes" | "memo":
                name = "search attributes" if entry.kind == "attributes" else "memo"
                status, label = entry.status, _format.compact(entry.result)
            case "note":
                name, label = entry.name, _format.compact(entry.result)
            case _:
                pass

        return _Row(
            time=time,
            name=_format.one_line(name),
            label=_format.one_line(label),
            status=status,
            word=word,
            entry=entry,
        )

    def _word(self, entry: TimelineEntry) -> str:
        """Return the status of an activity or timer in one word."""
        if entry.status not in {"pending", "retrying"}:
            return entry.status

        if entry.kind in {"timer", "request"}:
            return "waiting"

        if entry.due is not None and entry.due > self.now:
            return "retrying"

        return "running" if self.alive else "interrupted"

    def _status(self, entry: TimelineEntry, word: str) -> str:
        past = len(entry.attempts)
        if word in {"waiting", "retrying"} and entry.due is not None:
            left = entry.due - self.now
            return f"{word}, {_format.duration(left)} left" if left > 0 else f"{word}, due"

        if word == "running" and past:
            return f"{word}, attempt {past + 1}"

        return f"{word}, attempt {past}" if past > 1 and word in {"completed", "failed"} else word

    def _took(self, entry: TimelineEntry, word: str) -> str:
        ended = entry.ended
        if ended is None and entry.attempts and word in {"completed", "failed"}:
            # Its outcome is known, and no activation has taken it yet.
            ended = entry.attempts[-1].ended

        if ended is None and word not in {"running", "waiting", "retrying"}:
            return ""

        return _format.duration((self.now if ended is None else ended) - entry.time)

    # Below the line

    def _print_below(self, screen: Screen, entry: TimelineEntry, *, indent: int) -> None:
        lines = None if self.full else _ERROR_LINES
        workers = self.history.workers()
        told: list[Failure] = []
        for attempt in entry.attempts:
            if attempt.outcome == "completed":
                continue

            worker = attempt.worker or workers.get(attempt.fence, "")
            text = _attempt(attempt, _format.one_line(worker))
            for line in screen.paragraph(text, indent=indent, hanging=2, lines=lines):
                screen.print(line)

            if attempt.failure is not None:
                told.append(attempt.failure)
                self._print_stack(screen, attempt.failure, indent=indent + 2)

        told_above = entry.kind == "closed" and not self.full
        if entry.failure is not None and entry.failure not in told and not told_above:
            for line in screen.paragraph(
                summary(entry.failure), indent=indent, hanging=2, lines=lines
            ):
                screen.print(line)

            self._print_stack(screen, entry.failure, indent=indent + 2)

        if self.full:
            for name, value in self._details(entry):
                screen.print(Line(f"{' ' * indent}{name}", "dim"))
                shown = _format.readable(value)
                for line in screen.paragraph(shown, indent=indent + 2, lines=None):
                    screen.print(line)

    def _print_stack(self, screen: Screen, failure: Failure, *, indent: int) -> None:
        if self.full and failure.stack:
            text = Line.styled(_format.clean(failure.stack.rstrip()), "dim")
            for line in screen.paragraph(text, indent=indent, lines=None):
                screen.print(line)

    def _details(self, entry: TimelineEntry) -> Iterator[tuple[str, Any]]:
        if entry.kind == "request":
            yield "question", entry.args[0]
            if entry.status == "answered":
                yield "answer", entry.result

        if entry.kind != "activity":
            return

        if entry.key and entry.summary:
            yield "key", entry.key

        if entry.args:
            yield "arguments", entry.args

        if entry.text is not None:
            yield "text", with_new_items(entry.text, self.items)

        if entry.status == "completed":
            yield "result", entry.result


def _asked(entry: TimelineEntry) -> str:
    """Return what people were asked, and what they answered."""
    asked = _format.one_line(entry.summary or entry.key) or _format.arguments(entry.args)
    if entry.status != "answered":
        return asked

    return f"{asked}: {_format.compact(entry.result)} {_format.one_line(entry.detail)}"


def _what(screen: Screen, row: _Row, name: int) -> str:
    """Return name and label; the labels of all rows begin in one column."""
    if not row.label:
        return row.name

    return screen.pad(row.name, name) + _GAP + row.label


def _attempt(attempt: Attempt, worker: str) -> Line:
    """Return the line of an attempt that did not complete."""
    line = Line(f"attempt {attempt.number} ")
    line.append(attempt.outcome.replace("_", " "), status_style(attempt.outcome))
    if attempt.outcome == "lost":
        line.append(f" with its worker {worker}".rstrip(), "dim")
        return line

    if attempt.started is not None and attempt.ended is not None:
        line.append(f" after {_format.duration(attempt.ended - attempt.started)}", "dim")

    if worker:
        line.append(f" on {worker}", "dim")

    if attempt.failure is not None:
        line.append(": ")
        line.append(summary(attempt.failure))

    return line


def summary(failure: Failure) -> str:
    """Return type and message of a failure, and of the causes below it, on one line."""
    texts: list[str] = []
    below: Failure | None = failure
    while below is not None:
        name = below.type.rpartition(".")[2] or "ApplicationError"
        texts.append(f"{name}: {below.message}" if below.message else name)
        below = below.cause

    # A wrapper's message often ends with that of its cause already.
    kept = [t for i, t in enumerate(texts) if not any(t in earlier for earlier in texts[:i])]
    return _format.one_line(", caused by ".join(kept))
