"""Everything that is recorded of one run, as clients read it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from durable_core import history as h
from durable_core.exceptions import StoreCorruptError

from ._export import plain, restored
from ._timeline import TimelineEntry, timeline_of

__all__ = ["WorkflowHistory"]


@dataclass(frozen=True, slots=True)
class WorkflowHistory:
    """Everything recorded of one run, in order.

    Attributes:
        workflow_id: Id of the run, as its user chose it.
        run_id: Unique id of the run.
        start: How it began.
        activations: Its steps.
        pending: What is known of activities without an outcome, by command number.
        waiting: Events that no activation has taken yet.
        stall: Why it stalled, if it did.
    """

    workflow_id: str
    run_id: str
    start: h.Start
    activations: Sequence[h.Activation]
    pending: Mapping[int, h.PendingActivity] = field(default_factory=dict[int, h.PendingActivity])
    waiting: Sequence[h.Event] = ()
    stall: Mapping[str, Any] | None = None

    def to_json_dict(self) -> dict[str, Any]:
        """Return the history in JSON's own types; recorded values as their JSON, not as text."""
        return {
            "workflow_id": self.workflow_id,
            "run_id": self.run_id,
            "start": plain(self.start),
            "activations": plain(self.activations),
            "pending": plain(list(self.pending.values())),
            "waiting": plain(self.waiting),
            "stall": self.stall,
        }

    def to_json(self) -> str:
        """Return the history as JSON, which `from_json` and a `Replayer` take."""
        return json.dumps(self.to_json_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, history: str | Mapping[str, Any]) -> Self:
        """Return the history that `to_json`, or ``durable show --json``, made.

        Args:
            history: JSON, or what it holds.

        Raises:
            StoreCorruptError: It is no history.
        """
        try:
            parts = json.loads(history) if isinstance(history, str) else history
            return cls(
                workflow_id=parts["workflow_id"],
                run_id=parts["run_id"],
                start=restored(h.Start, parts["start"]),
                activations=[restored(h.Activation, a) for a in parts["activations"]],
                pending={
                    p["seq"]: restored(h.PendingActivity, p) for p in parts.get("pending", ())
                },
                waiting=[restored(h.Event, e) for e in parts.get("waiting", ())],
                stall=parts.get("stall"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreCorruptError(
                f"this is no history as WorkflowHistory.to_json writes it: {error!r}"
            ) from error

    def workers(self) -> dict[int, str]:
        """Return the workers that owned the run by their fence, oldest first, as far as is known.

        The first owner is not recorded as such: of a run from plain code it was the caller, of
        others it is known once an attempt of it ended.
        """
        found: dict[int, str] = {1: self.start.client} if self.start.bound else {}
        attempts = [a for p in self.pending.values() for a in p.attempts]
        events = [e for activation in self.activations for e in activation.events]
        for event in (*events, *self.waiting):
            if isinstance(event, h.Taken):
                found[event.fence] = event.worker
            else:
                attempts += getattr(event, "attempts", ())

        for attempt in attempts:
            if attempt.worker:
                found.setdefault(attempt.fence, attempt.worker)

        return dict(sorted(found.items()))

    def timeline(self) -> list[TimelineEntry]:
        """Return what happened, in the order in which it was asked for."""
        return timeline_of(self)
