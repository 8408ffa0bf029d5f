"""Opening a store to look at it: it is never created, and errors name what there is."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from durable_core import _defaults
from durable_core.client import Client, _url
from durable_core.exceptions import StoreError, WorkflowNotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from durable_core.stores import RunRow

__all__ = ["Statuses", "connected", "not_found"]

_COMPARED = 10_000


@asynccontextmanager
async def connected(url: str | None) -> AsyncGenerator[Client]:
    """Connect to a store that exists.

    Raises:
        StoreError: There is none, or it cannot be used.
        EngineURLError: The URL is malformed or its scheme is unknown.
    """
    path = quote(str(_existing(url)))
    async with await Client.connect(f"sqlite:///{path}") as client:
        yield client


def _existing(url: str | None) -> Path:
    # Named in full: without a name, `resolve` would make the default folder.
    path = _url.resolve(url or _url.default_url())
    if path.exists():
        return path

    if url or os.environ.get(_defaults.URL_VARIABLE):
        origin = "--url" if url else f"${_defaults.URL_VARIABLE}"
        raise StoreError(f"there is no store at {path}: check the path in {origin}")

    name = Path(_defaults.STORE_FOLDER, _defaults.STORE_FILE)
    above = next((p / name for p in Path.cwd().parents if (p / name).exists()), None)
    if above is not None:
        raise StoreError(f"there is no store at {path}, but one above it: --url sqlite:///{above}")

    raise StoreError(
        f"there is no store at {path}: go to the folder in which the program ran, or name its "
        f"store by --url sqlite:///path or {_defaults.URL_VARIABLE}"
    )


class Statuses:
    """Tells what became of runs; asks for each owner once. Valid as long as its client is."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._living: dict[int, bool] = {}

    async def of(self, row: RunRow) -> str:
        """Return the status of a run; ``stalled`` and ``interrupted`` ones are open for the store.

        An interrupted run has begun, and no living worker owns it.
        """
        if row.status == "running" and row.paused is not None:
            return "paused"

        if row.status != "running" or row.stall is not None:
            return "stalled" if row.status == "running" else row.status

        begun = row.bound or row.fence > 0
        return "interrupted" if begun and not await self._owned(row) else "running"

    async def _owned(self, row: RunRow) -> bool:
        if row.owner is None:
            return False

        if row.owner not in self._living:
            self._living[row.owner] = await self._client.store.owner_alive(row)

        return self._living[row.owner]


async def not_found(
    client: Client, workflow_id: str, run_id: str | None, error: WorkflowNotFoundError
) -> WorkflowNotFoundError:
    """Return the error with what its reader may have meant."""
    by_run_id = await client.store.find(client.namespace, "", workflow_id)
    if by_run_id is not None:
        return WorkflowNotFoundError(
            f"{workflow_id!r} is a run id: durable show {by_run_id.workflow_id} --run-id "
            f"{workflow_id}"
        )

    if run_id is not None and await client.store.find(client.namespace, workflow_id) is not None:
        return WorkflowNotFoundError(
            f"the workflow id {workflow_id!r} has no run {run_id!r} in {client.store.location}: "
            "leave --run-id out for its newest, or see: durable list --json"
        )

    known = [execution.id async for execution in client.list_workflows(limit=_COMPARED)]
    similar = _similar(workflow_id, list(dict.fromkeys(known)))
    if not similar:
        return error

    return WorkflowNotFoundError(
        f"there is no run with the workflow id {workflow_id!r} in {client.store.location}. "
        f"Similar: {', '.join(similar)}"
    )


def _similar(wanted: str, known: list[str]) -> list[str]:
    """Return up to three ids: those that contain what was asked for, then those spelled like it."""
    lowered = {id_.lower(): id_ for id_ in reversed(known)}
    containing = [id_ for low, id_ in lowered.items() if wanted.lower() in low][::-1]
    spelled = [lowered[low] for low in get_close_matches(wanted.lower(), lowered, n=3)]
    return list(dict.fromkeys([*containing[:3], *spelled]))[:3]
