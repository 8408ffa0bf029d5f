"""``durable signal``, ``update`` and ``query``: what a person tells a run, or asks it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import click

from durable_core import _defaults

from ._act import find, of_a_run, say
from ._store import connected

__all__ = ["from_json", "query_run", "signal_run", "update_run"]


def from_json(values: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the values of arguments in JSON.

    Raises:
        click.BadParameter: One is no JSON.
    """
    found: list[Any] = []
    for value in values:
        try:
            found.append(json.loads(value))
        except ValueError as error:
            raise click.BadParameter(
                f"{value!r} is no JSON ({error}): a text needs quotes, as in '\"{value}\"'"
            ) from error

    return tuple(found)


_name = click.argument("name", metavar="NAME")
_args = click.argument(
    "args",
    metavar="[JSON]...",
    nargs=-1,
    callback=lambda _context, _option, values: from_json(values),
)


@click.command("signal", short_help="Send a signal to a run.")
@of_a_run
@_name
@_args
def signal_run(
    outer_url: str | None,
    workflow_id: str,
    run_id: str | None,
    url: str | None,
    name: str,
    args: tuple[Any, ...],
) -> None:
    """Send the signal NAME to the run of the workflow ID, with arguments in JSON.

    It is durable when this returns; the run handles it when it continues.
    """

    async def main() -> str:
        async with connected(url or outer_url) as client:
            handle, row = await find(client, workflow_id, run_id)
            await handle.signal(name, args=args)
            return f"the signal {name!r} was sent to run {row.workflow_id!r}"

    say(asyncio.run(main()))


@click.command("update", short_help="Send an update to a run, and print its answer.")
@click.option("--update-id", metavar="U", help="Sent again with it, it is the same update.")
@of_a_run
@_name
@_args
def update_run(
    outer_url: str | None,
    workflow_id: str,
    run_id: str | None,
    url: str | None,
    update_id: str | None,
    name: str,
    args: tuple[Any, ...],
) -> None:
    """Send the update NAME to the run of the workflow ID, with arguments in JSON.

    Waits for a worker that serves the run, and prints the answer in JSON.
    """

    async def main() -> Any:
        async with connected(url or outer_url) as client:
            handle, _ = await find(client, workflow_id, run_id)
            return await handle.execute_update(name, args=args, id=update_id)

    click.echo(json.dumps(asyncio.run(main()), ensure_ascii=False))


@click.command("query", short_help="Ask a run for what it knows.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    default=_defaults.QUERY_TIMEOUT,
    show_default=True,
    help="Seconds to wait for a worker.",
)
@of_a_run
@_name
@_args
def query_run(
    outer_url: str | None,
    workflow_id: str,
    run_id: str | None,
    url: str | None,
    timeout: float,
    name: str,
    args: tuple[Any, ...],
) -> None:
    """Ask the run of the workflow ID the query NAME, with arguments in JSON.

    A worker that knows the workflow answers, on what is recorded; also if the run has ended. The
    answer is printed in JSON, and nothing is changed.
    """

    async def main() -> Any:
        async with connected(url or outer_url) as client:
            handle, _ = await find(client, workflow_id, run_id)
            return await handle.query(name, args=args, rpc_timeout=timedelta(seconds=timeout))

    click.echo(json.dumps(asyncio.run(main()), ensure_ascii=False))
