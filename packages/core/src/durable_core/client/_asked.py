"""A run as people see it whom it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_core.exceptions import AnswerError
from durable_core.stores import RequestFilter

from . import _requests
from ._reference import RunReference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._requests import HumanRequest

__all__ = ["AskingRun"]


class AskingRun(RunReference):
    """One run that may ask people."""

    async def requests(self) -> Sequence[HumanRequest]:
        """Return the requests of the run that nobody has answered, the oldest first.

        Raises:
            WorkflowNotFoundError: There is no such run.
        """
        row = await self._row()
        which = RequestFilter(run_id=row.run_id)
        return [r async for r in _requests.listed(self._client, which)]

    async def answer(
        self, value: Any, *, request_id: str | None = None, by: str | None = None, note: str = ""
    ) -> HumanRequest:
        """Answer a request of the run; return it when that is durable. See `Client.answer`.

        Args:
            value: The answer.
            request_id: Of the request; None for the only one that waits.
            by: Who gives it; the client's identity by default.
            note: For the run, and for its history.

        Raises:
            AnswerError: The value does not fit what the request asks for; or there is no request,
                or more than one, and ``request_id`` is None.
            RequestClosedError: The request was answered before, or withdrawn, or the run has ended.
            WorkflowNotFoundError: There is no such run.
            EncodeError: The value cannot be recorded.
            StoreError: The answer could not be written.
        """
        request = await self._asked(request_id, await self.requests(), "request")
        await self._client.answer(request, value, by=by, note=note)
        return request

    async def approve(
        self, request_id: str | None = None, *, by: str | None = None, note: str = ""
    ) -> HumanRequest:
        """Answer yes to a request; return it when that is durable. Otherwise as `answer`.

        Args:
            request_id: Of the request; None for the only one that waits for yes or no.
            by: Who says so; the client's identity by default.
            note: For the run, and for its history.
        """
        return await self._say(yes=True, request_id=request_id, by=by, note=note)

    async def reject(
        self, request_id: str | None = None, *, by: str | None = None, note: str = ""
    ) -> HumanRequest:
        """Answer no to a request; return it when that is durable. See `approve`."""
        return await self._say(yes=False, request_id=request_id, by=by, note=note)

    async def _say(
        self, *, yes: bool, request_id: str | None, by: str | None, note: str
    ) -> HumanRequest:
        waiting = await self.requests()
        if request_id is None:
            waiting = [r for r in waiting if r.yes_or_no]

        request = await self._asked(request_id, waiting, "request for yes or no")
        await self._client.answer(request, yes, by=by, note=note)
        return request

    async def _asked(
        self, id: str | None, waiting: Sequence[HumanRequest], what: str
    ) -> HumanRequest:
        """Return the request that is meant.

        Raises:
            AnswerError: There is none, or there are several.
            RequestClosedError: It takes no answer any more.
        """
        if id is not None:
            found = next((r for r in waiting if r.id == id), None)
            if found is None:
                recorded, run = await self.fetch_history(), await self.describe()
                raise _requests.closed_error(recorded, id, run.status.value)

            return found

        if len(waiting) == 1:
            return waiting[0]

        row = await self._row()
        if not waiting:
            ended = "" if row.status == "running" else f": it has ended ({row.status})"
            raise AnswerError(
                f"no {what} of run {row.workflow_id!r} waits for an answer{ended}. See: durable "
                f"show {row.workflow_id}"
            )

        known = ", ".join(f"{r.id} ({r.kind}{f' {r.key}' if r.key else ''})" for r in waiting)
        raise AnswerError(
            f"{len(waiting)} requests of run {row.workflow_id!r} wait for an answer; say which "
            f"by its id: {known}"
        )
