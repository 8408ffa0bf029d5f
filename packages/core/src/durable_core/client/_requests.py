"""Requests that runs put to people: listed, and answered once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from durable_core import _clock, history
from durable_core import exceptions as ex
from durable_core.payloads import _faithful, _fits, _json
from durable_core.stores import InboxRow, Outcome, RequestFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime

    from durable_core.stores import RequestRow

    from ._client import Client
    from ._history import WorkflowHistory

__all__ = ["HumanRequest", "answer", "closed_error", "listed"]

_PAGE = 200
_SHOWN = 200
_LAST = 253_402_300_799  # of the year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanRequest:
    """A question that a run puts to people, and that nobody has answered.

    Attributes:
        id: Its id in the run.
        workflow_id: Id of the run, as its user chose it.
        run_id: Unique id of the run.
        workflow_type: Name of the workflow.
        kind: What is asked for.
        key: Tells it from others of its kind, if its run says how.
        question: In JSON's own types.
        summary: One line for people; empty if its run gives none.
        schema: JSON Schema that an answer has to fit.
        time: When it was put, UTC.
        due: When it is withdrawn, UTC; None if it never is.
        reminders: How often it was noted since that nobody has answered.
        reminded: When that was noted last, UTC.
    """

    id: str
    workflow_id: str
    run_id: str
    workflow_type: str
    kind: str
    key: str
    question: Any
    summary: str
    schema: Mapping[str, Any]
    time: datetime
    due: datetime | None
    reminders: int
    reminded: datetime | None

    @property
    def yes_or_no(self) -> bool:
        """Whether it is answered by yes or no."""
        return self.schema.get("type") == "boolean"


async def listed(
    client: Client,
    which: RequestFilter,
    *,
    limit: int | None = None,
    after: HumanRequest | None = None,
) -> AsyncIterator[HumanRequest]:
    """Yield requests that nobody has answered, those that wait longest first."""
    place = None if after is None else (after.time.timestamp(), after.run_id, int(after.id))
    left = limit
    while left is None or left > 0:
        page = _PAGE if left is None else min(left, _PAGE)
        rows = await client.store.requests(client.namespace, which, after=place, limit=page)
        for row in rows:
            yield await _request_of(client, row)

        if len(rows) < page:
            return

        place = rows[-1].since, rows[-1].run_id, rows[-1].seq
        left = None if left is None else left - len(rows)


async def _request_of(client: Client, row: RequestRow) -> HumanRequest:
    pending = history.request_from(row.data)
    wanted = history.references(pending)
    if wanted:
        items = await client.store.read_items(row.lineage, wanted)
        pending = history.resolve(pending, history.intact(items.items(), row.lineage))

    asked = pending.asked
    (question,) = _json.decode_untyped(asked.args.data, what=f"the question of {asked.kind!r}")
    return HumanRequest(
        id=str(row.seq),
        workflow_id=row.workflow_id,
        run_id=row.run_id,
        workflow_type=row.workflow_type,
        kind=asked.kind,
        key=asked.key,
        question=question,
        summary=asked.summary,
        schema=json.loads(asked.schema),
        time=_clock.from_timestamp(row.since),
        due=_time(asked.due),
        reminders=pending.reminders,
        reminded=_time(pending.reminded),
    )


def _time(seconds: float | None) -> datetime | None:
    """Return a time; None also for one that no calendar has."""
    return None if seconds is None or seconds > _LAST else _clock.from_timestamp(seconds)


async def answer(
    client: Client, request: HumanRequest, value: Any, *, by: str | None = None, note: str = ""
) -> None:
    """Answer a request; see `Client.answer`."""
    by = client.identity if by is None else by
    for name, text in (("by", by), ("note", note)):
        # Else it would be recorded, and not be read again.
        if not isinstance(cast("object", text), str):
            raise TypeError(f"{name} must be a text, got {text!r}")

    now = client.clock.now()
    event = history.RequestAnswered(
        seq=int(request.id),
        value=history.Payload(data=_checked(request, value)),
        by=by,
        note=note,
        client=client.identity,
        time=now,
    )
    # Whole: whoever takes it out of the inbox makes items of it.
    row = InboxRow(request=event.request, arrived=now, data=history.Packer.pack_whole(event))
    if await client.store.answer(request.run_id, event.seq, row) is not Outcome.ACCEPTED:
        raise await _closed(client, request)

    owned = client.owned(request.workflow_id, request.run_id)
    if owned is not None:
        # What this process hands to it from now on comes behind the answer.
        owned.inbox.sent += 1

    for worker in client.workers:
        worker.look_again()


def _checked(request: HumanRequest, value: Any) -> bytes:
    """Return the JSON of an answer that fits its request.

    Raises:
        AnswerError: It does not.
        EncodeError: It has no JSON form, or is too large.
    """
    what = f"the answer to request {request.id} ({request.kind!r}) of run {request.workflow_id!r}"
    data = _json.encode(value, what=what)
    _faithful.check_size(data, what=what)
    if data[:1] == _json.TAGGED:
        raise ex.AnswerError(f"{what} holds a number that is not finite, which JSON has not")

    problem = _fits.misfit(json.loads(data), request.schema)
    if problem is not None:
        shown = (
            data.decode() if len(data) <= _SHOWN else data[:_SHOWN].decode(errors="replace") + "…"
        )
        raise ex.AnswerError(
            f"{what} does not fit: {problem}. The answer was {shown}; expected is JSON of the "
            f"schema {json.dumps(request.schema)}. Nothing was written"
        )

    return data


async def _closed(client: Client, request: HumanRequest) -> ex.DurableError:
    """Return why a request takes no answer."""
    handle = client.get_workflow_handle(request.workflow_id, run_id=request.run_id)
    try:
        recorded = await handle.fetch_history()
    except ex.WorkflowNotFoundError as error:
        return error

    return closed_error(recorded, request.id, (await handle.describe()).status.value)


def closed_error(recorded: WorkflowHistory, id: str, status: str) -> ex.DurableError:
    """Return why a request of a run takes no answer.

    Args:
        recorded: Of the run.
        id: Of the request.
        status: Of the run.
    """
    run = recorded.workflow_id
    see = f"See: durable show {run}"
    found = [e for e in recorded.timeline() if e.kind == "request" and str(e.seq) == id]
    if not found:
        return ex.AnswerError(f"run {run!r} has made no request with the id {id!r}. {see}")

    which = f"request {id} ({found[0].name!r}) of run {run!r}"
    for event in reversed([*_events(recorded), *recorded.waiting]):
        if isinstance(event, history.RequestAnswered) and str(event.seq) == id:
            time = _clock.from_timestamp(event.time)
            return ex.RequestClosedError(
                f"{which} was answered by {event.by!r} on {time:%Y-%m-%d at %H:%M:%S} UTC: one "
                f"answer is taken. {see}",
                by=event.by,
                time=time,
            )

    if status != "running":
        return ex.RequestClosedError(
            f"{which} takes no answer any more: the run has ended ({status}). {see}"
        )

    how = "its time was over" if found[0].status == "timed out" else "the run has withdrawn it"
    return ex.RequestClosedError(f"{which} takes no answer any more: {how}. {see}")


def _events(recorded: WorkflowHistory) -> list[history.Event]:
    return [e for activation in recorded.activations for e in activation.events]
