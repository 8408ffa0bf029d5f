"""``durable list`` and ``count``: the runs of a store."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from durable_core import _clock
from durable_core.client._execution import execution_of
from durable_core.client._listing import page_of

from . import _format
from ._store import Statuses, connected

if TYPE_CHECKING:
    from durable_core.client import Client, WorkflowExecutionCount
    from durable_core.stores import RunRow

    from ._screen import Screen

__all__ = ["count_runs", "list_runs"]

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
        runs: With their status, newest first, or as the filter orders them.
        more: Whether there are further ones.
        page: Where the next page begins, of a list by a filter.
        shown: Search attributes of the runs, by run id.
    """

    location: str
    runs: list[tuple[RunRow, str]]
    more: bool
    page: str = ""
    shown: dict[str, dict[str, Any]] = {}


@click.command("list")
@click.option("--type", "workflow_type", metavar="T", help="Only runs of this workflow.")
@click.option(
    "--status",
    type=click.Choice(_STATUSES, case_sensitive=False),
    metavar="S",
    help=f"Only runs of this status: {', '.join(_STATUSES)}.",
)
@click.option(
    "--where",
    metavar="F",
    help="Only runs that fit this filter, in its order, such as: "
    "\"Customer = 'ann' AND ExecutionStatus = 'Running' ORDER BY StartTime\".",
)
@click.option(
    "--page", metavar="P", help="With --where: go on where an earlier page ended, which named it."
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
    where: str | None,
    page: str | None,
    limit: int,
    as_json: bool,  # noqa: FBT001  # click calls by name
    url: str | None,
) -> None:
    """List runs, newest first.

    An interrupted run has no living worker; a stalled one waits for fixed code. Both are kept, and
    `durable show ID` says how they go on.
    """
    if where is None and page is not None:
        raise click.UsageError("--page goes on with a list by --where: give that too")

    if where is not None and (workflow_type or status):
        raise click.UsageError(
            "--where is a filter of its own: write WorkflowType = '…' or ExecutionStatus = '…' "
            "into it, instead of --type and --status"
        )

    found = asyncio.run(_find(url or outer_url, workflow_type, status, where, page, limit))
    if as_json:
        from ._stdout import print_json

        print_json([_facts(found, row, status) for row, status in found.runs])
        if found.page:
            click.echo(f"durable: there are more: --page {found.page}", err=True)

        return

    if not found.runs:
        matching = " that match" if workflow_type or status or where else ""
        click.echo(f"durable: no runs{matching} in {found.location}", err=True)
        return

    from ._screen import Screen

    _print_table(Screen.of_stdout(), found.runs)
    if found.page:
        click.echo(f"durable: there are more: --page {found.page}", err=True)
    elif found.more:
        click.echo(f"durable: these are the newest {limit}; --limit shows more", err=True)


@click.command("count")
@click.option(
    "--where",
    metavar="F",
    help="Only runs that fit this filter; GROUP BY ExecutionStatus at its end counts each status.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--url", metavar="URL", help="As before the command.")
@click.pass_obj
def count_runs(
    outer_url: str | None,
    where: str | None,
    as_json: bool,  # noqa: FBT001  # click calls by name
    url: str | None,
) -> None:
    """Count runs."""

    async def main() -> WorkflowExecutionCount:
        async with connected(url or outer_url) as client:
            return await client.count_workflows(where)

    found = asyncio.run(main())
    groups = {str(group.group_values[0]): group.count for group in found.groups}
    if as_json:
        from ._stdout import print_json

        print_json({"count": found.count, "groups": groups})
        return

    for name, number in groups.items():
        click.echo(f"{name} {number}")

    if not groups:
        click.echo(found.count)


async def _filtered(client: Client, where: str, page: str | None, limit: int) -> _Found:
    """Return a page of the runs that fit a filter."""
    token = None
    if page is not None:
        try:
            token = base64.urlsafe_b64decode(page)
        except ValueError:
            # It is then refused as any other that is not of this list.
            token = b""

    listed, following = await page_of(client, where, token, limit)
    statuses = Statuses(client)
    runs = [(each.row, await statuses.of(each.row)) for each in listed]
    executions = [execution_of(client.store, each.row, each.profile) for each in listed]
    shown = {e.run_id: dict(e.search_attributes) for e in executions}
    more = "" if following is None else base64.urlsafe_b64encode(following).decode()
    return _Found(client.store.location, runs, following is not None, more, shown)


async def _find(
    url: str | None,
    workflow_type: str | None,
    status: str | None,
    where: str | None,
    page: str | None,
    limit: int,
) -> _Found:
    async with connected(url) as client:
        if where is not None:
            return await _filtered(client, where, page, limit)

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


def _facts(found: _Found, row: RunRow, status: str) -> dict[str, Any]:
    shown = found.shown.get(row.run_id)
    attributes = {} if shown is None else {"search_attributes": _plain(shown)}
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
        **attributes,
    }


def _plain(shown: dict[str, Any]) -> dict[str, Any]:
    """Return values of search attributes as JSON has them."""
    return {
        name: [v.isoformat() if isinstance(v, datetime) else v for v in values]
        for name, values in shown.items()
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
