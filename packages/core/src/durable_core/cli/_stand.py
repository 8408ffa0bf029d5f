"""``durable pause``, ``unpause`` and ``retry``: when a run goes on."""

from __future__ import annotations

import asyncio

import click

from ._act import find, of_a_run, say
from ._store import Statuses, connected

__all__ = ["pause_run", "retry_run", "unpause_run"]


@click.command("pause", short_help="Let a run stand still.")
@click.option("--reason", default="", help="For its history.")
@of_a_run
def pause_run(
    outer_url: str | None, workflow_id: str, run_id: str | None, url: str | None, reason: str
) -> None:
    """Let the run of the workflow ID stand still: nothing of it begins until `durable unpause`.

    What runs comes to its end first. Signals, updates and timers wait.
    """

    async def main() -> str:
        async with connected(url or outer_url) as client:
            handle, row = await find(client, workflow_id, run_id)
            await handle.pause(reason=reason)
            return (
                f"run {row.workflow_id!r} is paused. It goes on with: durable unpause "
                f"{row.workflow_id}"
            )

    say(asyncio.run(main()))


@click.command("unpause", short_help="Let a paused run go on.")
@of_a_run
def unpause_run(
    outer_url: str | None, workflow_id: str, run_id: str | None, url: str | None
) -> None:
    """Let the run of the workflow ID go on that was paused."""

    async def main() -> str:
        async with connected(url or outer_url) as client:
            handle, row = await find(client, workflow_id, run_id)
            await handle.unpause()
            if row.bound:
                return (
                    f"run {row.workflow_id!r} is not paused any more: its call, if one waits, the "
                    "same call with its id, or a process that can make its objects, continues it"
                )

            return (
                f"run {row.workflow_id!r} is not paused any more: a worker of the queue "
                f"{row.task_queue!r} continues it"
            )

    say(asyncio.run(main()))


@click.command("retry", short_help="Do not wait for the next attempt of an activity.")
@click.option("--activity", metavar="N", help="This one alone, by its number.")
@of_a_run
def retry_run(
    outer_url: str | None,
    workflow_id: str,
    run_id: str | None,
    url: str | None,
    activity: str | None,
) -> None:
    """Let the activities of the workflow ID that wait for their next attempt begin it now."""

    async def main() -> str:
        async with connected(url or outer_url) as client:
            handle, row = await find(client, workflow_id, run_id)
            status = await Statuses(client).of(row)
            await handle.retry_now(activity)
            which = f"activity {activity}" if activity else "what waits"
            said = f"{which} of run {row.workflow_id!r} is tried again"
            return f"{said} now" if status == "running" else f"{said} as soon as it continues"

    say(asyncio.run(main()))
