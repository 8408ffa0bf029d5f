"""``durable show ID``: one run, what happened in it, and what to do if it does not go on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from durable_core import _clock
from durable_core.exceptions import WorkflowNotFoundError

from . import _format
from ._store import connected, not_found
from ._texts import read_items, with_new_items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_core.client import TimelineEntry, WorkflowExecution, WorkflowHistory
    from durable_core.history import Attempt, Failure

    from ._screen import Screen

__all__ = ["show_run"]

_INDENT = 11
_CUT_LINES = 6
_SHOWN_ARGUMENTS = 60


@dataclass(frozen=True, slots=True)
class _Found:
    """The run to show.

    Attributes:
        execution: What its row says.
        history: What is recorded.
        owned: Whether a living worker owns it.
        items: Items of the texts, by address; read only if they are shown.
        location: Of the store.
    """

    execution: WorkflowExecution
    history: WorkflowHistory
    owned: bool
    items: dict[str, Any]
    location: str

    @property
    def status(self) -> str:
        """The status of the run, of which ``stalled`` and ``interrupted`` are open ones."""
        if self.execution.stalled is not None:
            return "stalled"

        status = self.execution.status.value
        return "interrupted" if status == "running" and not self.owned else status


@click.command("show")
@click.argument("workflow_id", metavar="ID")
@click.option(
    "--run-id", metavar="R", help="This run of the id, instead of its open or newest one."
)
@click.option("--full", is_flag=True, help="Show arguments, results and stacks uncut.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole history as JSON.")
@click.option("--url", metavar="URL", help="As before the command.")
@click.pass_obj
def show_run(
    outer_url: str | None,
    workflow_id: str,
    run_id: str | None,
    full: bool,  # noqa: FBT001  # click calls by name
    as_json: bool,  # noqa: FBT001
    url: str | None,
) -> None:
    """Show what happened in the run ID, with attempts and errors."""
    found = asyncio.run(_find(url or outer_url, workflow_id, run_id, full=full))
    if as_json:
        from ._stdout import print_json

        print_json(_facts(found))
        return

    from ._screen import Screen

    _Page(Screen.of_stdout(), found, full=full).print()


async def _find(url: str | None, workflow_id: str, run_id: str | None, *, full: bool) -> _Found:
    async with connected(url) as client:
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            execution = await handle.describe()
        except WorkflowNotFoundError as error:
            raise await not_found(client, workflow_id, run_id, error) from None

        handle = client.get_workflow_handle(workflow_id, run_id=execution.run_id)
        recorded = await handle.fetch_history()
        row = await client.store.find(client.namespace, workflow_id, execution.run_id)
        owned = row is not None and await client.store.owner_alive(row)
        texts = [e.text for e in recorded.timeline() if e.text is not None] if full else []
        items = await read_items(client, recorded.start.lineage, texts)
        return _Found(execution, recorded, owned, items, client.store.location)


def _facts(found: _Found) -> dict[str, Any]:
    run = found.execution
    close = run.close_time
    return {
        "status": found.status,
        "workflow_type": run.workflow_type,
        "namespace": run.namespace,
        "task_queue": run.task_queue,
        "started": _format.iso(run.start_time.timestamp()),
        "closed": None if close is None else _format.iso(close.timestamp()),
        **found.history.to_json_dict(),
    }


class _Page:
    """The page for people: a header, the timeline, the end."""

    def __init__(self, screen: Screen, found: _Found, *, full: bool) -> None:
        self._screen = screen
        self._found = found
        self._full = full
        self._start = found.history.start.time
        self._now = _clock.now()
        close = found.execution.close_time
        self._total = (self._now if close is None else close.timestamp()) - self._start

    def print(self) -> None:
        """Print it."""
        self._header()
        self._screen.print()
        closed = None
        for entry in self._found.history.timeline():
            if entry.kind == "closed":
                closed = entry
            elif entry.kind != "started":
                self._entry(entry)

        self._end(closed)

    def _header(self) -> None:
        from ._screen import Line, status_style

        run, status = self._found.execution, self._found.status
        line = Line(_format.one_line(run.id), "bold")
        line.append("  ")
        line.append(status, status_style(status))
        self._screen.print(line)
        workers = list(dict.fromkeys(self._found.history.workers().values()))
        started = _format.clock(run.start_time.timestamp(), now=self._now, zone=True)
        facts = {
            "workflow": _format.one_line(run.workflow_type),
            "run id": run.run_id,
            "started": f"{started}, {_format.python_of(self._found.history.start)}",
            "duration": f"{_format.duration(self._total)}, "
            f"{_format.count(run.history_length, 'step')}",
            "workers" if len(workers) > 1 else "worker": ", ".join(workers),
        }
        for name, value in facts.items():
            if value:
                line = Line(f"  {name:<10}", "dim")
                line.append(value)
                self._screen.print(line)

        arguments = _format.arguments(_input(self._found.history))
        if arguments:
            self._labelled("input", arguments)

    def _entry(self, entry: TimelineEntry) -> None:
        from ._screen import Line, status_style

        line = Line(self._screen.pad(self._offset(entry.time), _INDENT - 2, right=True), "dim")
        line.append("  ")
        match entry.kind:
            case "activity":
                label, style = self._label(entry), ""
            case "timer":
                label, style = f"timer of {entry.detail}", ""
            case "taken":
                label, style = f"continued {entry.detail}", "cyan"
            case _:
                label, style = f"stalled: {entry.detail}", status_style("stalled")

        tail = self._tail(entry)
        if self._screen.terminal and not self._full:
            room = self._screen.width - _INDENT - sum(len(text) + 2 for text, _ in tail)
            label = self._screen.cut(label, max(room, 20))

        line.append(label, style)
        for text, tail_style in tail:
            line.append("  ")
            line.append(text, tail_style)

        self._screen.print(line)
        for attempt in self._told(entry):
            self._attempt(attempt)

        if self._full:
            self._details(entry)

    def _label(self, entry: TimelineEntry) -> str:
        name = _format.one_line(entry.summary or entry.name)
        if entry.summary:
            return name

        shown = _format.arguments(entry.args)
        if not self._full:
            shown = self._screen.cut(shown, _SHOWN_ARGUMENTS)

        return f"{name}({shown})"

    def _tail(self, entry: TimelineEntry) -> list[tuple[str, str]]:
        from ._screen import status_style

        if entry.kind not in {"activity", "timer"}:
            return []

        status = entry.status
        if status in {"pending", "retrying"} and self._found.status == "running":
            status = "waiting" if entry.kind == "timer" else status.replace("pending", "running")

        tail = [] if entry.ended is None else [(_format.duration(entry.ended - entry.time), "dim")]
        if len(entry.attempts) > 1:
            tail.append((_format.count(len(entry.attempts), "attempt"), "yellow"))

        if entry.ended is None and entry.due is not None and entry.due > self._now:
            tail.append((f"in {_format.duration(entry.due - self._now)}", "dim"))

        return [*tail, (status, status_style(status))]

    def _told(self, entry: TimelineEntry) -> Iterator[Attempt]:
        """Yield the attempts that are worth a line: those that did not complete."""
        return (a for a in entry.attempts if a.outcome != "completed")

    def _attempt(self, attempt: Attempt) -> None:
        from ._screen import Line, status_style

        text = Line(f"attempt {attempt.number} ")
        text.append(attempt.outcome.replace("_", " "), status_style(attempt.outcome))
        if attempt.failure is not None:
            text.append(f": {_summary(attempt.failure)}")

        if attempt.worker:
            text.append(f"  {attempt.worker}", "dim")

        self._paragraph(text, indent=_INDENT + 2)
        if self._full and attempt.failure is not None:
            self._paragraph(_format.clean(attempt.failure.stack.rstrip()), indent=_INDENT + 4)

    def _details(self, entry: TimelineEntry) -> None:
        values = {
            "arguments": entry.args or None,
            "text": None if entry.text is None else with_new_items(entry.text, self._found.items),
            "result": entry.result,
        }
        for name, value in values.items():
            if value is not None:
                self._paragraph(f"{name}:", indent=_INDENT + 2)
                self._paragraph(_format.readable(value), indent=_INDENT + 4)

    def _end(self, closed: TimelineEntry | None) -> None:
        self._screen.print()
        history, run = self._found.history, self._found.execution
        if closed is not None and closed.failure is not None:
            self._labelled(closed.status, _summary(closed.failure))
            if self._full:
                self._paragraph(_format.clean(closed.failure.stack.rstrip()), indent=4)
        elif closed is not None:
            self._labelled("result", _format.readable(closed.result))
        elif history.stall is not None:
            self._labelled("stalled", str(history.stall.get("cause", "")))
            if self._full:
                self._paragraph(_format.clean(str(history.stall.get("stack", ""))), indent=4)

            self._labelled(
                "to go on",
                "fix the code and run it again with this id; what is recorded is not run again",
            )
        elif not self._found.owned:
            what = (
                f"run the program again with the id {run.id!r}"
                if history.start.bound
                else f"start a worker of the queue {run.task_queue!r}"
            )
            self._labelled("to go on", f"no living worker owns this run: {what}")

    def _labelled(self, name: str, text: str) -> None:
        from ._screen import Line, status_style

        line = Line(f"  {name:<10}", status_style(name) or "dim")
        first, *rest = text.split("\n")
        line.append(_format.clean(first))
        if rest:
            line.append("\n" + _format.clean("\n".join(rest)))

        lines = None if self._full else _CUT_LINES
        for part in self._screen.paragraph(line, indent=0, hanging=12, lines=lines):
            self._screen.print(part)

    def _paragraph(self, text: Any, *, indent: int) -> None:
        lines = None if self._full else _CUT_LINES
        for part in self._screen.paragraph(text, indent=indent, lines=lines):
            self._screen.print(part)

    def _offset(self, time: float) -> str:
        return "+" + _format.offset(time - self._start, total=self._total)


def _summary(failure: Failure) -> str:
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


def _input(history: WorkflowHistory) -> Any:
    return history.timeline()[0].args
