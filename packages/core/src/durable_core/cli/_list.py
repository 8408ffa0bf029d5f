"""``durable list``: the runs of a store, newest first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from durable_core import _clock
from durable_core.client import WorkflowExecutionStatus

from . import _format
from ._store import connected

if TYPE_CHECKING:
    from durable_core.client import WorkflowExecution

    from ._screen import Screen

__all__ = ["list_runs"]

_STATUSES = ["running", "stalled", "completed", "failed", "canceled"]
_HEADS = ("WORKFLOW ID", "TYPE", "STATUS", "STARTED", "DURATION", "STEPS")
_GAP = 2
_EVERY = 2**31


@dataclass(frozen=True, slots=True)
class _Found:
    """The runs to show.

    Attributes:
        location: Of the store.
        runs: Newest first.
        more: Whether there are further ones.
        idle: Ids of open runs that no living worker owns.
    """

    location: str
    runs: list[WorkflowExecution]
    more: bool
    idle: list[str]


@click.command("list")
@click.option("--type", "workflow_type", metavar="T", help="Only runs of this workflow.")
@click.option(
    "--status", type=click.Choice(_STATUSES, case_sensitive=False), help="Only runs of this status."
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option("--url", metavar="URL", help="As before the command.")
@click.pass_obj
def list_runs(
    outer_url: str | None,
    workflow_type: str | None,
    status: str | None,
    limit: int,
    as_json: bool,  # noqa: FBT001  # click calls by name
    url: str | None,
) -> None:
    """List runs, newest first."""
    found = asyncio.run(_find(url or outer_url, workflow_type, status, limit))
    if as_json:
        from ._stdout import print_json

        print_json([_facts(run) for run in found.runs])
        return

    if not found.runs:
        matching = " that match" if workflow_type or status else ""
        click.echo(f"durable: no runs{matching} in {found.location}", err=True)
        return

    from ._screen import Screen

    _print_table(Screen.of_stdout(), found.runs)
    if found.more:
        click.echo(f"durable: these are the newest {limit}; --limit shows more", err=True)

    if found.idle:
        first = found.idle[0]
        others = f" and {len(found.idle) - 1} more" if len(found.idle) > 1 else ""
        click.echo(
            f"durable: no living worker owns {first}{others}. See: durable show {first}", err=True
        )


async def _find(
    url: str | None, workflow_type: str | None, status: str | None, limit: int
) -> _Found:
    # A stalled run is an open one for the store, so the two are told apart here.
    is_open = status in {"running", "stalled"}
    wanted = "running" if is_open else status
    async with connected(url) as client:
        runs = [
            run
            async for run in client.list_workflows(
                workflow_type=workflow_type,
                status=None if wanted is None else WorkflowExecutionStatus(wanted),
                limit=_EVERY if is_open else limit + 1,
            )
            if not is_open or _status(run) == status
        ]
        shown = runs[:limit]
        idle: list[str] = []
        for run in shown:
            if _status(run) == "running":
                row = await client.store.find(client.namespace, run.id, run.run_id)
                if row is not None and not await client.store.owner_alive(row):
                    idle.append(run.id)

        return _Found(client.store.location, shown, len(runs) > limit, idle)


def _status(run: WorkflowExecution) -> str:
    return "stalled" if run.stalled is not None else run.status.value


def _seconds(run: WorkflowExecution) -> float:
    end = _clock.now() if run.close_time is None else run.close_time.timestamp()
    return end - run.start_time.timestamp()


def _facts(run: WorkflowExecution) -> dict[str, Any]:
    return {
        "workflow_id": run.id,
        "run_id": run.run_id,
        "workflow_type": run.workflow_type,
        "namespace": run.namespace,
        "task_queue": run.task_queue,
        "status": _status(run),
        "started": _format.iso(run.start_time.timestamp()),
        "closed": None if run.close_time is None else _format.iso(run.close_time.timestamp()),
        "duration": round(_seconds(run), 3),
        "steps": run.history_length,
        "stalled": run.stalled,
    }


def _print_table(screen: Screen, runs: list[WorkflowExecution]) -> None:
    from ._screen import Line, status_style, width_of

    now = _clock.now()
    rows = [
        (
            _format.one_line(run.id),
            _format.one_line(run.workflow_type),
            _status(run),
            _format.clock(run.start_time.timestamp(), now=now)
            if screen.terminal
            else _format.iso(run.start_time.timestamp()),
            _format.duration(_seconds(run)),
            str(run.history_length),
        )
        for run in runs
    ]
    widths = [max(map(width_of, column)) for column in zip(_HEADS, *rows, strict=True)]
    if screen.terminal:
        # Ids are copied, so types give way first.
        spare = screen.width - sum(widths[2:]) - _GAP * (len(widths) - 1)
        widths[1] = min(widths[1], max(spare - widths[0], spare // 4))
        widths[0] = min(widths[0], spare - widths[1])

    for cells in (_HEADS, *rows):
        line = Line()
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            is_number = i >= len(widths) - 2
            style = "dim" if cells is _HEADS else status_style(cell) if i == 2 else ""
            line.append(" " * _GAP if i else "")
            line.append(screen.pad(cell, width, right=is_number), style)

        screen.print(line)
