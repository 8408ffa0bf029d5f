"""``durable show ID``: one run, what happened in it, and what to do if it does not go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from durable_core import _clock
from durable_core.client._execution import execution_of
from durable_core.client._standing import pause_of
from durable_core.exceptions import WorkflowNotFoundError

from . import _format
from ._store import Statuses, connected, not_found
from ._texts import read_items

if TYPE_CHECKING:
    from durable_core.client import TimelineEntry, WorkflowExecution, WorkflowHistory
    from durable_core.stores import Pause

    from ._screen import Line, Screen

__all__ = ["show_run"]

_LABEL = 10
_CUT_LINES = 8
_INPUT_LINES = 2


class _Found(msgspec.Struct, frozen=True):
    """The run to show.

    Attributes:
        history: What is recorded.
        status: As in a list.
        items: Items of the texts, by address; read only if they are shown.
        reopened: Whether it had ended, and is to be taken up again.
        paused: Who paused it, if it is.
        shown: Its row, with what it shows of itself; None if it was purged meanwhile.
        memo: Its memo.
    """

    history: WorkflowHistory
    status: str
    items: dict[str, Any]
    reopened: bool = False
    paused: Pause | None = None
    shown: WorkflowExecution | None = None
    memo: Mapping[str, Any] = {}

    @property
    def closed(self) -> TimelineEntry | None:
        """The end of the run, if it ended."""
        last = self.history.timeline()[-1]
        return last if last.kind == "closed" and not self.reopened else None

    @property
    def worker(self) -> str:
        """The last worker that is known to have owned the run."""
        return next(reversed(self.history.workers().values()), "")


@click.command("show", short_help="Show what happened in a run.")
@click.argument("workflow_id", metavar="ID")
@click.option(
    "--run-id", metavar="R", help="This run of the id, instead of its open or newest one."
)
@click.option("--full", is_flag=True, help="Show arguments and results uncut, and stacks.")
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
    """Show what happened in the run of the workflow ID: activities, attempts, errors, the end."""
    found = asyncio.run(_find(url or outer_url, workflow_id, run_id, texts=full or as_json))
    if as_json:
        from ._stdout import print_json

        print_json(_facts(found))
        return

    from ._screen import Screen

    _print_page(Screen.of_stdout(), found, full=full)


async def _find(url: str | None, workflow_id: str, run_id: str | None, *, texts: bool) -> _Found:
    async with connected(url) as client:
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            recorded = await handle.fetch_history()
        except WorkflowNotFoundError as error:
            raise await not_found(client, workflow_id, run_id, error) from None

        # The row may be newer than the history; whether the run has ended is the history's to say.
        row = await client.store.find(client.namespace, workflow_id, recorded.run_id)
        status = "running" if row is None else await Statuses(client).of(row)
        # Its row was opened again, and no activation has followed yet.
        reopened = row is not None and row.status == "running"
        paused = None if row is None else pause_of(row)
        shown = None
        if row is not None:
            profile = await client.store.visibility.profile(row.run_id)
            shown = execution_of(client.store, row, profile)

        memo = {} if shown is None else await shown.memo()
        found = _Found(recorded, status, {}, reopened, paused)
        if found.closed is not None:
            status = found.closed.status
        elif recorded.stall is not None and status != "paused":
            status = "stalled"
        elif status not in {"running", "interrupted", "paused"}:
            status = "running"

        items = await read_items(client, recorded) if texts else {}
        return _Found(recorded, status, items, reopened, paused, shown, memo)


def _facts(found: _Found) -> dict[str, Any]:
    start, closed = found.history.start, found.closed
    end = _clock.now() if closed is None else closed.time
    return {
        "workflow_id": start.workflow_id,
        "run_id": start.run_id,
        "workflow_type": start.workflow_type,
        "namespace": start.namespace,
        "task_queue": start.task_queue,
        "status": found.status,
        "started": _format.iso(start.time),
        "closed": None if closed is None else _format.iso(closed.time),
        "duration": round(end - start.time, 3),
        "steps": len(found.history.activations),
        "worker": found.worker or None,
        "search_attributes": _shown(found).get("search", {}),
        "memo": dict(found.memo),
        "current_details": "" if found.shown is None else found.shown.current_details,
        **found.history.to_json_dict(),
        "items": found.items,
    }


def _print_page(screen: Screen, found: _Found, *, full: bool) -> None:
    from ._timeline import Timeline

    now = _clock.now()
    history, closed = found.history, found.closed
    total = (now if closed is None else closed.time) - history.start.time
    _print_header(screen, found, now=now, total=total, full=full)
    timeline = Timeline(
        history=history,
        alive=found.status == "running",
        now=now,
        full=full,
        items=found.items,
    )
    timeline.print(screen)
    _print_end(screen, found, full=full)


def _print_header(screen: Screen, found: _Found, *, now: float, total: float, full: bool) -> None:
    from ._screen import Line, status_style

    start, status = found.history.start, found.status
    began = f"{_format.clock(start.time, now=now, zone=True)} ({_format.ago(now - start.time)})"
    steps = _format.count(len(found.history.activations), "step")
    for name, value, style in (
        ("workflow", _format.one_line(start.workflow_id), "bold"),
        ("type", _format.one_line(start.workflow_type), ""),
        ("status", status, status_style(status)),
        ("run id", start.run_id, ""),
        ("continues", start.continues, ""),
        (
            "child of",
            "" if start.parent is None else _format.one_line(start.parent.workflow_id),
            "",
        ),
        ("started", began if screen.terminal else _format.iso(start.time), ""),
        ("duration", f"{_format.duration(total)}, {steps}", ""),
        ("worker", _format.one_line(found.worker), ""),
    ):
        if value:
            _print_labelled(screen, name, Line.styled(value, style), lines=None)

    for name, value in _shown(found).items():
        whole = full or isinstance(value, str)
        text = _format.readable(value) if whole else _format.compact(value)
        _print_labelled(screen, name, Line(text), lines=None if full else _INPUT_LINES)

    given = found.history.timeline()[0].args
    if given:
        text = _format.readable(given) if full else _format.arguments(given)
        _print_labelled(screen, "input", Line(text), lines=None if full else _INPUT_LINES)


def _shown(found: _Found) -> dict[str, Any]:
    """Return what a run shows of itself, by the names that people read."""
    start, shown = found.history.start, found.shown
    attributes = {} if shown is None else shown.typed_search_attributes
    # What adapters note for themselves is for them.
    memo = {k: v for k, v in found.memo.items() if k not in {"call", "metadata"}}
    named = {
        "summary": start.summary,
        "details": start.details,
        "now": "" if shown is None else shown.current_details,
        "search": {pair.key.name: _plain(pair.value) for pair in attributes},
        "metadata": found.memo.get("metadata"),
        "memo": memo,
    }
    return {name: value for name, value in named.items() if value}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _print_end(screen: Screen, found: _Found, *, full: bool) -> None:
    from ._screen import Line
    from ._timeline import summary

    lines = None if full else _CUT_LINES
    closed, stall = found.closed, found.history.stall
    remedy, stack = _remedy(found), ""
    if closed is not None or remedy:
        screen.print()

    if closed is not None and closed.failure is not None:
        name = "failure" if closed.status == "failed" else closed.status
        _print_labelled(screen, name, Line(summary(closed.failure)), lines=lines)
        stack = closed.failure.stack
    elif closed is not None and closed.status == "continued as new":
        _print_labelled(screen, "goes on", Line(f"as run {closed.key}"), lines=None)
    elif closed is not None:
        text = Line(_format.readable(closed.result))
        _print_labelled(screen, "result", text, lines=lines)
    elif found.status == "stalled" and stall is not None:
        cause = Line(_format.clean(str(stall.get("cause", "")).strip()))
        _print_labelled(screen, "stalled", cause, lines=None)
        stack = str(stall.get("stack", ""))

    if full and stack:
        text = Line.styled(_format.clean(stack.rstrip()), "dim")
        _print_labelled(screen, "stack", text, lines=None)

    if remedy:
        _print_labelled(screen, "to go on", Line(remedy), lines=None)


def _remedy(found: _Found) -> str:
    """Return how a run that does not move goes on; empty if it moves or has ended."""
    start = found.history.start
    id_ = _format.one_line(start.workflow_id)
    kept = "What is recorded is not executed again"
    if found.status == "stalled":
        if start.bound:
            return f"Fix the code and call it again with the id {id_!r}. {kept}."

        return (
            f"Fix the code and restart the worker of the queue {start.task_queue!r}; or, if the "
            f"cause lay elsewhere: durable resume {id_}. {kept}."
        )

    if found.status == "paused":
        by = f"It was paused by {_format.one_line(found.paused.client)}" if found.paused else ""
        why = f": {_format.one_line(found.paused.reason)}" if found.paused else ""
        return f"{by}{why if why != ': ' else ''}. It goes on with: durable unpause {id_}"

    if found.status == "interrupted":
        ended = "The process that ran it has ended"
        if start.bound:
            return (
                f"{ended}: make the same call again with the id {id_!r}, or start a process that "
                f"recovers such runs. {kept}."
            )

        return f"{ended}: start a worker of the queue {start.task_queue!r}. {kept}."

    if found.status in {"canceled", "terminated"} and start.bound:
        return (
            f"After: durable resume {id_}, the same call with the id {id_!r} continues it before "
            f"what ended it. {kept}."
        )

    if found.status in {"failed", "canceled", "terminated"}:
        if start.bound:
            return (
                f"The same call with the id {id_!r} continues it before what ended it (if it says "
                f'on_failed="resume", which agents do by default), also after: durable resume '
                f"{id_}. {kept}."
            )

        return f"A worker continues it before what ended it, after: durable resume {id_}. {kept}."

    if found.status == "running" and not found.history.activations:
        return f"No worker has begun it yet: start one of the queue {start.task_queue!r}."

    return ""


def _print_labelled(screen: Screen, name: str, value: Line, *, lines: int | None) -> None:
    """Print a value beside its name; further lines of it begin in the same column."""
    from ._screen import Line

    for i, part in enumerate(screen.paragraph(value, indent=_LABEL, lines=lines)):
        line = Line.styled(f"{name:<{_LABEL}}" if i == 0 else " " * _LABEL, "dim")
        screen.print(line + part[_LABEL:])
