"""``durable list``: the runs of a store, newest first."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click
import msgspec

from durable_core import _clock

from . import _format
from ._store import Statuses, connected

if TYPE_CHECKING:
    from durable_core.stores import RunRow

    from ._screen import Screen

__all__ = ["list_runs"]

_OPEN = {"running", "paused", "stalled", "interrupted"}
_STATUSES = [
    *("running", "interrupted", "paused", "stalled"),
    *("completed", "failed", "canceled", "terminated", "continued_as_new"),
]
_HEADS = ("WORKFLOW ID", "TYPE", "STATUS", "STARTED", "DURATION", "STEPS")
_STATUS = _HEADS.index("STATUS")
_GAP = 2
_NARROW = 20
_ALL = 2**31


class _Found(msgspec.Struct, frozen=True):
    """The runs to show.

    Attributes:
        location: Of the store.
        runs: With their status, newest first.
        more: Whether there are further ones.
    """

    location: str
    runs: list[tuple[RunRow, str]]
    more: bool


@click.command("list")
@click.option("--type", "workflow_type", metavar="T", help="Only runs of this workflow.")
@click.option(
    "--status",
    type=click.Choice(_STATUSES, case_sensitive=False),
    metavar="S",
    help=f"Only runs of this status: {', '.join(_STATUSES)}.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=50,
    show_default=True,
    help="At most so many.",
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
    """List runs, newest first.

    An interrupted run has no living worker; a stalled one waits for fixed code. Both are kept, and
    `durable show ID` says how they go on.
    """
    found = asyncio.run(_find(url or outer_url, workflow_type, status, limit))
    if as_json:
        from ._stdout import print_json

        print_json([_facts(row, status) for row, status in found.runs])
        return

    if not found.runs:
        matching = " that match" if workflow_type or status else ""
        click.echo(f"durable: no runs{matching} in {found.location}", err=True)
        return

    from ._screen import Screen

    _print_table(Screen.of_stdout(), found.runs)
    if found.more:
        click.echo(f"durable: these are the newest {limit}; --limit shows more", err=True)


async def _find(
    url: str | None, workflow_type: str | None, status: str | None, limit: int
) -> _Found:
    async with connected(url) as client:
        # For the store these are all open runs; they are told apart here.
        rows = await client.store.newest(
            client.namespace,
            workflow_type=workflow_type,
            status="running" if status in _OPEN else status,
            limit=_ALL if status in _OPEN else limit + 1,
        )
        statuses = Statuses(client)
        runs: list[tuple[RunRow, str]] = []
        for row in rows:
            is_of = await statuses.of(row)
            if status in {None, is_of}:
                runs.append((row, is_of))

            if len(runs) > limit:
                break

        return _Found(client.store.location, runs[:limit], len(runs) > limit)


def _seconds(row: RunRow) -> float:
    return (_clock.now() if row.closed is None else row.closed) - row.started


def _facts(row: RunRow, status: str) -> dict[str, Any]:
    return {
        "workflow_id": row.workflow_id,
        "run_id": row.run_id,
        "workflow_type": row.workflow_type,
        "namespace": row.namespace,
        "task_queue": row.task_queue,
        "status": status,
        "started": _format.iso(row.started),
        "closed": None if row.closed is None else _format.iso(row.closed),
        "duration": round(_seconds(row), 3),
        "steps": row.next_number,
        "stall": None if row.stall is None else json.loads(row.stall)["cause"],
    }


def _print_table(screen: Screen, runs: list[tuple[RunRow, str]]) -> None:
    from ._screen import Line, status_style, width_of

    now = _clock.now()
    rows = [
        (
            _format.one_line(row.workflow_id),
            _format.one_line(row.workflow_type),
            status,
            _format.clock(row.started, now=now) if screen.terminal else _format.iso(row.started),
            _format.duration(_seconds(row)),
            str(row.next_number),
        )
        for row, status in runs
    ]
    widths = [max(map(width_of, column)) for column in zip(_HEADS, *rows, strict=True)]
    if screen.terminal:
        # Ids are copied, so the last columns give way first, then types.
        while (spare := _spare(screen, widths)) < _NARROW and len(widths) > _STATUS + 1:
            widths.pop()

        widths[1] = min(widths[1], max(spare - widths[0], spare // 4))
        widths[0] = min(widths[0], spare - widths[1])

    for cells in (_HEADS, *rows):
        line = Line()
        for i, (cell, width) in enumerate(zip(cells, widths, strict=False)):
            is_number = i > _STATUS + 1
            style = "dim" if cells is _HEADS else status_style(cell) if i == _STATUS else ""
            line.append(" " * _GAP if i else "")
            line.append(screen.pad(cell, width, right=is_number), style)

        screen.print(line)


def _spare(screen: Screen, widths: list[int]) -> int:
    """Return the columns that are left for id and type."""
    return screen.width - sum(widths[2:]) - _GAP * (len(widths) - 1)
