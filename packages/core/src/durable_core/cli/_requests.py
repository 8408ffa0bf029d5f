"""``durable requests``, ``approve``, ``reject`` and ``answer``: what runs ask people."""

from __future__ import annotations

import asyncio
import getpass
import socket
from typing import TYPE_CHECKING, Any

import click

from durable_core import _clock

from . import _format
from ._act import find, of_a_run, say
from ._store import connected
from ._talk import from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from durable_core.client import HumanRequest

__all__ = ["answer_request", "approve_request", "list_requests", "reject_request"]

_HEADS = ("WORKFLOW ID", "REQUEST", "KIND", "WAITS", "LEFT", "REMINDED", "QUESTION")
_GAP = "  "
_WORKFLOW_ID = 40
_PLAIN_QUESTION = 200


@click.command("requests", short_help="List what runs ask people.")
@click.option("--kind", metavar="K", help="Only requests of this kind.")
@click.option("--type", "workflow_type", metavar="T", help="Only those of runs of this workflow.")
@click.option("--id", "workflow_id", metavar="ID", help="Only those of the run with this id.")
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
def list_requests(
    outer_url: str | None,
    kind: str | None,
    workflow_type: str | None,
    workflow_id: str | None,
    limit: int,
    as_json: bool,  # noqa: FBT001  # click calls by name
    url: str | None,
) -> None:
    """List what open runs ask people and nobody has answered, what waits longest first.

    `durable approve ID` and `durable reject ID` answer what asks for yes or no, `durable answer ID`
    anything else.
    """

    async def main() -> tuple[str, list[HumanRequest]]:
        async with connected(url or outer_url) as client:
            listed = client.list_requests(
                kind=kind, workflow_type=workflow_type, workflow_id=workflow_id, limit=limit + 1
            )
            return client.store.location, [request async for request in listed]

    location, found = asyncio.run(main())
    shown = found[:limit]
    if as_json:
        from ._stdout import print_json

        print_json([_facts(request) for request in shown])
        return

    if not found:
        matching = " that match" if kind or workflow_type or workflow_id else ""
        click.echo(f"durable: no requests{matching} wait for an answer in {location}", err=True)
        return

    _print_table(shown)
    if len(found) > limit:
        click.echo(f"durable: these wait longest; --limit shows more than {limit}", err=True)


def _answers(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all answers have."""
    for decorate in (
        click.option("--by", metavar="WHO", help="Who answers. By default the user at this host."),
        click.option("--note", default="", help="For the run, and for its history."),
    ):
        command = decorate(command)

    return command


_request = click.argument("request_id", metavar="[REQUEST]", required=False)


@click.command("approve", short_help="Answer yes to what a run asks.")
@_answers
@of_a_run
@_request
def approve_request(
    outer_url: str | None,
    workflow_id: str,
    run_id: str | None,
    url: str | None,
    request_id: str | None,
    by: str | None,
    note: str,
) -> None:
    """Answer yes to the request of the workflow ID; to the only one, unless REQUEST says which.

    The answer is durable when this returns; the run goes on with it.
    """
    _say(url or outer_url, workflow_id, run_id, request_id, by=by, note=note, yes=True)


@click.command("reject", short_help="Answer no to what a run asks.")
@_answers
@of_a_run
@_request
def reject_request(
    outer_url: str | None,
    workflow_id: str,
    run_id: str | None,
    url: str | None,
    request_id: str | None,
    by: str | None,
    note: str,
) -> None:
    """Answer no to the request of the workflow ID; to the only one, unless REQUEST says which.

    The answer is durable when this returns; the run goes on with it.
    """
    _say(url or outer_url, workflow_id, run_id, request_id, by=by, note=note, yes=False)


def _say(
    url: str | None,
    workflow_id: str,
    run_id: str | None,
    request_id: str | None,
    *,
    by: str | None,
    note: str,
    yes: bool,
) -> None:
    async def main() -> str:
        async with connected(url) as client:
            handle, _ = await find(client, workflow_id, run_id)
            tell = handle.approve if yes else handle.reject
            request = await tell(request_id, by=by or _person(), note=note)
            return f"{_named(request)} is {'approved' if yes else 'rejected'}"

    say(asyncio.run(main()))


@click.command("answer", short_help="Answer what a run asks.")
@_answers
@of_a_run
@click.argument("given", metavar="[REQUEST] JSON", nargs=-1, required=True)
def answer_request(
    outer_url: str | None,
    workflow_id: str,
    run_id: str | None,
    url: str | None,
    given: tuple[str, ...],
    by: str | None,
    note: str,
) -> None:
    """Answer the request of the workflow ID in JSON; the only one, unless REQUEST says which.

    The answer is durable when this returns; the run goes on with it.
    """
    if len(given) > 2:
        raise click.UsageError(
            f"expected [REQUEST] JSON, got {len(given)} arguments: put the JSON in quotes"
        )

    request_id = given[0] if len(given) == 2 else None
    (value,) = from_json(given[-1:])

    async def main() -> str:
        async with connected(url or outer_url) as client:
            handle, _ = await find(client, workflow_id, run_id)
            request = await handle.answer(
                value, request_id=request_id, by=by or _person(), note=note
            )
            return f"{_named(request)} is answered"

    say(asyncio.run(main()))


def _named(request: HumanRequest) -> str:
    return f"request {request.id} ({request.kind!r}) of run {request.workflow_id!r}"


def _person() -> str | None:
    """Return who works here; None if the machine does not know."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):
        return None


def _facts(request: HumanRequest) -> dict[str, Any]:
    return {
        "workflow_id": request.workflow_id,
        "run_id": request.run_id,
        "workflow_type": request.workflow_type,
        "request": request.id,
        "kind": request.kind,
        "key": request.key,
        "question": request.question,
        "summary": request.summary,
        "schema": request.schema,
        "time": _iso(request.time),
        "due": _iso(request.due),
        "reminders": request.reminders,
        "reminded": _iso(request.reminded),
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else _format.iso(time.timestamp())


def _print_table(requests: Sequence[HumanRequest]) -> None:
    from ._screen import Line, Screen, width_of

    screen, now = Screen.of_stdout(), _clock.now()
    rows = [
        (
            _format.one_line(request.workflow_id),
            request.id,
            _format.one_line(" ".join(filter(None, (request.kind, request.key)))),
            _format.duration(now - request.time.timestamp()),
            "" if request.due is None else _format.duration(request.due.timestamp() - now),
            f"{request.reminders}x" if request.reminders else "",
            _format.one_line(request.summary) or _format.compact(request.question),
        )
        for request in requests
    ]
    widths = [max(map(width_of, column)) for column in zip(_HEADS, *rows, strict=True)]
    if screen.terminal:
        widths[0] = min(widths[0], _WORKFLOW_ID)
        taken = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
        widths[-1] = max(screen.width - taken, len(_HEADS[-1]))
    else:
        widths[-1] = min(widths[-1], _PLAIN_QUESTION)

    for cells in (_HEADS, *rows):
        padded = (screen.pad(cell, width) for cell, width in zip(cells, widths, strict=True))
        screen.print(Line(_GAP.join(padded), "dim" if cells is _HEADS else ""))
