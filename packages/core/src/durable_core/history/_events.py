"""What happens to a run; see `_records`."""

from __future__ import annotations

import msgspec

from ._parts import Attempt, Failure, Payload

__all__ = [
    "ActivityCancelled",
    "ActivityCompleted",
    "ActivityFailed",
    "CancelRequested",
    "ChildEnded",
    "ChildStarted",
    "Event",
    "RequestAnswered",
    "RetryAsked",
    "Rewound",
    "RunTold",
    "SignalReceived",
    "Taken",
    "TimerFired",
    "UpdateReceived",
    "WasPaused",
]


class Taken(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="taken"):
    """A worker became the owner of the run."""

    worker: str
    fence: int
    python: str
    time: float


class ActivityCompleted(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="completed"):
    """An activity returned."""

    seq: int
    result: Payload
    attempts: tuple[Attempt, ...] = ()


class ActivityFailed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="failed"):
    """An activity failed for good."""

    seq: int
    failure: Failure
    retry_state: int = 0
    attempts: tuple[Attempt, ...] = ()


class ActivityCancelled(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="cancelled"):
    """An activity ended because its cancellation was asked for."""

    seq: int
    attempts: tuple[Attempt, ...] = ()


class TimerFired(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="fired"):
    """A timer reached its due time."""

    seq: int


class SignalReceived(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="signal"):
    """A signal was accepted.

    Attributes:
        name: Of the signal.
        args: JSON array of the arguments.
        request: Unique id of the sending.
        client: Identity of the sender.
        time: When it was accepted, in seconds since the epoch.
    """

    name: str
    args: Payload
    request: str
    client: str = ""
    time: float = 0.0


class UpdateReceived(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="update"):
    """An update was accepted: nothing refused it.

    Attributes:
        name: Of the update.
        args: JSON array of the arguments.
        request: Id of the update, unique in the run: what has it again is the same update.
        client: Identity of the sender.
        time: When it was sent, in seconds since the epoch.
    """

    name: str
    args: Payload
    request: str
    client: str = ""
    time: float = 0.0


class CancelRequested(
    msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="cancel_requested"
):
    """Somebody asked for the end of the run.

    Attributes:
        request: Unique id of the sending.
        reason: Why, in the words of whoever asked.
        client: Identity of whoever asked; empty for the caller whose own call the run is.
        time: When it was accepted, in seconds since the epoch.
    """

    request: str
    reason: str = ""
    client: str = ""
    time: float = 0.0


class RetryAsked(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="retry_asked"):
    """Somebody does not want to wait for the next attempt of an activity.

    Attributes:
        request: Unique id of the sending.
        activity: Number of its command; 0 for every activity that waits for one.
        client: Identity of whoever asked.
        time: When it was accepted, in seconds since the epoch.
    """

    request: str
    activity: int = 0
    client: str = ""
    time: float = 0.0


class WasPaused(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="paused"):
    """The run stood still for a while, since somebody wanted it to; its code does not learn of it.

    Attributes:
        request: Unique id of the sending.
        since, time: From when until when, in seconds since the epoch.
        reason: Why, in the words of whoever paused it.
        paused_by: Identity of whoever paused it.
        client: Identity of whoever let it go on.
    """

    request: str
    since: float
    time: float
    reason: str = ""
    paused_by: str = ""
    client: str = ""


class RunTold(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="told"):
    """What the run had to tell another one is in that one's inbox, or cannot be.

    Attributes:
        refused: Why it cannot be; empty if it is there.
    """

    seq: int
    refused: str = ""


class ChildStarted(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="child_started"):
    """A child exists, or cannot.

    Attributes:
        refused: Why it cannot; empty if it does.
    """

    seq: int
    refused: str = ""


class ChildEnded(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="child_ended"):
    """A child ended: with a result, or with a failure."""

    seq: int
    result: Payload | None = None
    failure: Failure | None = None


class RequestAnswered(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="answered"):
    """Somebody answered a request.

    Attributes:
        seq: Number of the request's command.
        value: JSON of the answer.
        by: Who gave it, as its sender says.
        note: What was said beside it.
        client: Identity of the sender.
        time: When it was accepted, in seconds since the epoch.
    """

    seq: int
    value: Payload
    by: str
    note: str = ""
    client: str = ""
    time: float = 0.0

    @property
    def request(self) -> str:
        """Id in the inbox: the same for every answer to one request, so there is one at most."""
        return f"answer:{self.seq}"


class Rewound(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag="rewound"):
    """The run had ended and goes on: the activations from ``to`` on are set aside.

    They stay in the history for readers; a replay passes over them. The first event of its
    activation, which also holds again what had been received since and still counts.

    Attributes:
        to: Number of the first activation that is set aside.
        next_seq: Where the numbers of commands go on, so that none is used twice.
        reason: Why, for people.
        client: Identity of whoever asked for it.
        time: In seconds since the epoch.
    """

    to: int
    next_seq: int
    reason: str = ""
    client: str = ""
    time: float = 0.0


Event = (
    Taken
    | ActivityCompleted
    | ActivityFailed
    | ActivityCancelled
    | TimerFired
    | SignalReceived
    | UpdateReceived
    | CancelRequested
    | RunTold
    | ChildStarted
    | ChildEnded
    | RetryAsked
    | WasPaused
    | RequestAnswered
    | Rewound
)
