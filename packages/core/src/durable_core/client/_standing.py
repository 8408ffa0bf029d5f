"""Letting a run stand still, and go on; not waiting for a next attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from durable_core import _ids
from durable_core.exceptions import CallError, WorkflowNotFoundError
from durable_core.history import Packer, WasPaused
from durable_core.stores import InboxRow, Outcome, Pause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durable_core.history import PendingActivity
    from durable_core.stores import RunRow

    from ._client import Client

__all__ = ["backing_off", "pause", "pause_of", "unpause"]


def pause_of(row: RunRow) -> Pause | None:
    """Return who paused a run, if it is paused."""
    return None if row.paused is None else msgspec.json.decode(row.paused, type=Pause)


async def pause(client: Client, row: RunRow, reason: str) -> None:
    """Pause an open run.

    Raises:
        CallError: It is paused already.
        WorkflowNotFoundError: It has ended.
    """
    why = Pause(time=client.clock.now(), reason=reason, client=client.identity)
    outcome = await client.store.pause(row.run_id, msgspec.json.encode(why).decode())
    if outcome is Outcome.ACCEPTED:
        owned = client.owned(row.workflow_id, row.run_id)
        if owned is not None:
            owned.pause()

        return

    fresh = await client.current_row(row.workflow_id, row.run_id)
    if fresh.run_id != row.run_id:
        # Another run took its place meanwhile.
        await pause(client, fresh, reason)
        return

    before = pause_of(fresh)
    if before is not None:
        because = f": {before.reason}" if before.reason else ""
        raise CallError(
            f"run {row.workflow_id!r} is paused already, by {before.client}{because}. It goes on "
            f"with: durable unpause {row.workflow_id}"
        )

    raise WorkflowNotFoundError(
        f"run {row.workflow_id!r} has ended ({fresh.status}): it cannot be paused. See: durable "
        f"show {row.workflow_id}"
    )


async def unpause(client: Client, row: RunRow) -> None:
    """Let a paused run go on.

    Raises:
        CallError: It is not paused.
    """
    before, now = pause_of(row), client.clock.now()
    if before is not None:
        event = WasPaused(
            request=_ids.uuid7(),
            since=before.time,
            time=now,
            reason=before.reason,
            paused_by=before.client,
            client=client.identity,
        )
        inbox = InboxRow(request=event.request, arrived=now, data=Packer.pack_whole(event))
        if await client.store.unpause(row.run_id, inbox) is Outcome.ACCEPTED:
            for worker in client.workers:
                worker.look_again()

            return

    raise CallError(f"run {row.workflow_id!r} is not paused. See: durable show {row.workflow_id}")


def backing_off(
    row: RunRow, pending: Mapping[int, PendingActivity], activity: str | None, now: float
) -> int:
    """Return the number of the activity whose next attempt is waited for; 0 for all of them.

    Raises:
        CallError: There is none, or not the one that is asked for.
    """
    waiting = [seq for seq, state in pending.items() if state.attempts and state.retry_at > now]
    if activity is None and waiting:
        return 0

    if activity is not None and activity in map(str, waiting):
        return int(activity)

    which = "no activity" if activity is None else f"no activity {activity!r}"
    known = f"those that do: {', '.join(map(str, waiting))}" if waiting else "none does"
    raise CallError(
        f"{which} of run {row.workflow_id!r} waits for a next attempt ({known}). See: durable "
        f"show {row.workflow_id}"
    )
