"""``durable resume``, ``cancel`` and ``terminate``: what a person may do with a run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from durable_core.exceptions import CallError, WorkflowNotFoundError
from durable_core.stores import Outcome

from ._format import one_line
from ._store import Statuses, connected, not_found

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_core.client import Client, WorkflowHandle
    from durable_core.stores import RunRow

__all__ = ["cancel_run", "find", "of_a_run", "resume_run", "say", "terminate_run"]

_ENDED = ("failed", "canceled", "terminated")


def of_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments that all of these have."""
    for decorate in (
        click.option("--url", metavar="URL", help="As before the command."),
        click.option(
            "--run-id", metavar="R", help="This run of the id, instead of its open or newest one."
        ),
        click.argument("workflow_id", metavar="ID"),
        click.pass_obj,
    ):
        command = decorate(command)

    return command


@click.command("resume", short_help="Let a stalled or failed run go on.")
@of_a_run
def resume_run(
    outer_url: str | None, workflow_id: str, run_id: str | None, url: str | None
) -> None:
    """Let the run of the workflow ID go on that stalled, or that ended without a result.

    A stalled one is tried again at once. One that failed, was canceled or was terminated continues
    before what ended it: nothing that is recorded is done again, and what failed is tried anew.
    """

    async def main() -> str:
        async with connected(url or outer_url) as client:
            _, row = await find(client, workflow_id, run_id)
            status = await Statuses(client).of(row)
            outcome = await client.store.revive(row.run_id, reopen=True)
            if outcome is not Outcome.ACCEPTED:
                raise CallError(_why_not(row, status))

            if row.bound:
                return (
                    f"run {row.workflow_id!r} ({status}) is open: the same call with its id, or a "
                    "process that can make its objects, continues it"
                )

            return (
                f"run {row.workflow_id!r} ({status}) is open: the next worker of the queue "
                f"{row.task_queue!r} that knows {row.workflow_type!r} continues it"
            )

    say(asyncio.run(main()))


@click.command("cancel", short_help="Ask a run to end.")
@click.option("--reason", default="", help="For the run's code, and for its history.")
@of_a_run
def cancel_run(
    outer_url: str | None, workflow_id: str, run_id: str | None, url: str | None, reason: str
) -> None:
    """Ask the run of the workflow ID to end; its code may clean up first."""

    async def main() -> str:
        async with connected(url or outer_url) as client:
            handle, row = await find(client, workflow_id, run_id)
            status = await Statuses(client).of(row)
            await handle.cancel(reason=reason)
            said = f"run {row.workflow_id!r} was asked to end"
            if status == "running":
                return said

            return (
                f"{said}; it is {status}, so it does when it continues. To end it without its "
                f"code: durable terminate {row.workflow_id}"
            )

    say(asyncio.run(main()))


@click.command("terminate", short_help="End a run at once.")
@click.option("--reason", default="", help="For its history.")
@of_a_run
def terminate_run(
    outer_url: str | None, workflow_id: str, run_id: str | None, url: str | None, reason: str
) -> None:
    """End the run of the workflow ID at once; its code does not learn of it."""

    async def main() -> str:
        async with connected(url or outer_url) as client:
            handle, row = await find(client, workflow_id, run_id)
            await handle.terminate(reason=reason)
            return f"run {row.workflow_id!r} is terminated"

    say(asyncio.run(main()))


async def find(
    client: Client, workflow_id: str, run_id: str | None
) -> tuple[WorkflowHandle[object], RunRow]:
    """Return the run that a command is for.

    Raises:
        CallError: There is none; the error says what there is.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    try:
        await handle.describe()
    except WorkflowNotFoundError as error:
        raise await not_found(client, workflow_id, run_id, error) from None

    row = await client.store.find(client.namespace, workflow_id, run_id)
    assert row is not None
    return client.get_workflow_handle(workflow_id, run_id=row.run_id), row


def _why_not(row: RunRow, status: str) -> str:
    id_ = row.workflow_id
    if status == "completed":
        return f"run {id_!r} is completed: there is nothing to resume. See: durable show {id_}"

    if status in _ENDED:
        return f"another run with the id {id_!r} is open. See: durable list"

    how = "it goes on by itself" if status == "running" else f"durable show {id_} says how"
    return f"run {id_!r} is {status} and needs no resuming: {how}"


def say(text: str) -> None:
    """Print what was done, for people."""
    click.echo(f"durable: {one_line(text)}", err=True)
