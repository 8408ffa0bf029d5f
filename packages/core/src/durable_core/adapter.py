"""What an adapter for an agent framework needs from an engine, and nothing else.

An adapter runs the framework's own loop as workflow code and turns every call with an effect into a
*unit*: a recorded activity with an identity of its own. It finds the engine through the running
event loop::

    engine = adapter.current_engine()
    if engine is None:          # plain code: the framework works as always
        ...
    answer = await engine.schedule(Unit(name="openai_agents.model", body=call_model, ...))

Data crosses as recorded bytes, also in one process: a body receives its arguments decoded from the
record, and workflow code receives the decoded record of the result. Live objects that are no data
(a model, a tool, the user's context) travel beside them as resources, by reference, and are never
recorded.

Engines differ; `Capabilities` says in what. An adapter issues its units in a deterministic order,
since an engine may match them by position instead of by identity.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from ._codecs import ExceptionCodec as ExceptionCodec
from ._codecs import register_exception as register_exception
from ._outside import outside as outside
from ._requests import Answer as Answer
from ._requests import Request as Request
from .common import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random
    from uuid import UUID

__all__ = [
    "Answer",
    "CallOptions",
    "Cancellation",
    "Capabilities",
    "Delivery",
    "Engine",
    "ExceptionCodec",
    "Items",
    "Request",
    "RetryDecision",
    "RunOptions",
    "RunStream",
    "StreamWriter",
    "Unit",
    "UnitOptions",
    "current_engine",
    "outside",
    "register_exception",
]


Cancellation = Literal["try_cancel", "wait_cancellation_completed", "abandon"]
"""What cancelling an activity does, see `UnitOptions`."""

Delivery = Literal["at_least_once", "at_most_once"]
"""How often the body of an activity may begin."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can do beyond the protocol.

    Attributes:
        name: Name of the engine, for messages.
        durable: Whether a record outlives the process.
        atomic: Whether all commands of one activation are committed together or not at all.
        identity_matching: Whether commands are matched by identity; if not, by position.
        resources: Whether live objects reach a body by reference.
        requests: Whether people can be asked, see `Engine.request`.
        waits: Whether code may wait for conditions and timers, see `Engine.until`.
        streams: Whether there are streams, for `Engine.stream` and `durable_core.activity.stream`.
    """

    name: str
    durable: bool
    atomic: bool
    identity_matching: bool
    resources: bool
    requests: bool = False
    waits: bool = False
    streams: bool = False


class RetryDecision(msgspec.Struct, frozen=True):
    """Whether another attempt follows.

    Attributes:
        retry: Whether it does.
        after: Seconds until it, if the failure tells.
        known: Whether the kind of failure is one that the judge knows; a policy that the user gave
            is asked about others.
    """

    retry: bool
    after: float | None = None
    known: bool = True


class UnitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a unit is executed. Options are recorded for readers and never compared on replay.

    Attributes:
        start_to_close_timeout: Seconds that one attempt may take; None is no limit.
        schedule_to_start_timeout: Seconds that it may wait for its first attempt to begin.
        schedule_to_close_timeout: Seconds that it may take in all, with its retries.
        retry_window: Seconds from the first attempt after which no further one starts; None is no
            limit.
        retry_policy: When a failed attempt is followed by another.
        decide: Judges an exception before the policy does; None, also as its answer, leaves it to
            the policy.
        lost_attempts_count: Whether an attempt that died with its worker counts against
            ``maximum_attempts``.
        heartbeat_timeout: Seconds after which an attempt that says nothing has failed; None is no
            limit.
        cancellation: What cancelling does: ask the body to end and go on at once, ask and wait
            until the outcome is known, or go on at once and leave the body alone.
        delivery: Whether a body may begin again after an attempt that did not complete, or at most
            once: that it begins is then durable before it does, `OutcomeUnknown` is its outcome if
            its worker dies, and only `NotStarted` is followed by another attempt.
    """

    start_to_close_timeout: float | None = 600.0
    schedule_to_start_timeout: float | None = None
    schedule_to_close_timeout: float | None = None
    retry_window: float | None = None
    retry_policy: RetryPolicy = RetryPolicy()
    decide: Callable[[BaseException], RetryDecision | None] | None = None
    lost_attempts_count: bool = True
    heartbeat_timeout: float | None = None
    cancellation: Cancellation = "try_cancel"
    delivery: Delivery = "at_least_once"


class Items(msgspec.Struct, frozen=True):
    """A list that grows, such as a conversation: stored item by item, each item once per run.

    Attributes:
        values: The items, encodable one by one.
        stream: Lists with the same name are expected to extend one another.
    """

    values: Sequence[Any]
    stream: str = ""


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded activity: its identity, its data, and how to execute it.

    Attributes:
        name: Registrable name of the activity. Part of the identity.
        body: The callable; None looks ``name`` up among the worker's activities.
        args: Data. Encoded, recorded and compared on replay.
        key: Tells apart units of one name, such as a tool call id prefixed by the run path. Part of
            the identity, together with an occurrence number that the engine counts.
        text: Data that is recorded for readers and may differ on replay, such as a prompt: a
            difference is noted in log and history, the recorded result stands. An `Items` value
            inside it is stored item by item, and compared only if ``strict``.
        strict: Whether a difference of ``text`` is a mismatch instead.
        arg_types: Types that the body's arguments are decoded to; None takes the body's
            annotations.
        result_type: Type that the result is decoded to; None takes the body's annotation.
        resources: Live objects for the body by role, see `durable_core.activity.resource`.
        options: Timeouts and retries.
        summary: One line for people.
        failure_modules: Modules of user code that the body calls, such as that of a tool. An
            exception of a class that one of them defines or names comes back as that class, as one
            of the body's own module does.
        raise_cause: Whether a failure surfaces as the cause itself instead of as `ActivityError`.
        in_context: Whether the body runs in a copy of the context that scheduled it, instead of the
            context that started the run.
    """

    name: str
    body: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    key: str = ""
    text: Mapping[str, Any] | None = None
    strict: bool = False
    arg_types: tuple[Any, ...] | None = None
    result_type: Any = None
    resources: Mapping[str, Any] = {}
    options: UnitOptions = UnitOptions()
    summary: str | None = None
    failure_modules: tuple[str, ...] = ()
    raise_cause: bool = True
    in_context: bool = True


class StreamWriter(Protocol):
    """What writes to one stream of a run."""

    @property
    def name(self) -> str:
        """Name of the stream, unique in its run."""
        ...

    def write(self, value: Any) -> None:
        """Append a chunk. It is not durable yet; readers see it once it is.

        Args:
            value: Anything that can be recorded.

        Raises:
            EncodeError: It cannot be recorded, or is too large for one chunk.
            StreamError: The stream is full, or was ended; or the run has too many streams.
            CancelledError: Of an activity: its attempt is over, so nobody would get it.
        """
        ...


class RunStream(StreamWriter, Protocol):
    """What workflow code writes to one stream by."""

    def end(self) -> None:
        """Let readers know that nothing more comes.

        Raises:
            StreamError: It was ended before.
        """
        ...


class Engine(Protocol):
    """The engine below the workflow code that is running."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    @property
    def workflow_id(self) -> str:
        """Id of the run, as its user chose it."""
        ...

    @property
    def run_id(self) -> str:
        """Unique id of the run."""
        ...

    @property
    def replaying(self) -> bool:
        """Whether the code now running repeats what is already recorded."""
        ...

    def schedule(self, unit: Unit) -> asyncio.Future[Any]:
        """Ask for a unit and return a future of its decoded result.

        The body starts after the command is durable. Cancelling the future, or the task that awaits
        it, asks for the body's cancellation.

        Raises:
            EncodeError: An argument cannot be recorded.
            NotRegisteredError: ``body`` is None and no activity has this name.
        """
        ...

    def request(self, request: Request) -> asyncio.Future[Answer[Any]]:
        """Put a question to people and return a future of the answer.

        They see it once it is durable. Cancelling the future, or the task that awaits it, withdraws
        the question.

        Raises:
            DefinitionError: The JSON form of the type of the answer cannot be told.
            EncodeError: The question cannot be recorded.
            NotSupported: This engine asks nobody.
        """
        ...

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition of the run's own state holds.

        It is looked at whenever the run's code has nothing else to do. Timers need no call of their
        own: those of the running loop, such as `asyncio.sleep`, are recorded.
        """
        ...

    def annotate(self, name: str, value: Any) -> None:
        """Record a fact for readers with the activation under way; it never influences replay."""
        ...

    def stream(self, name: str) -> RunStream:
        """Return what writes to a stream of the run, see `durable_core.workflow.stream`.

        Raises:
            NotSupported: The engine has no streams.
            ValueError: A stream cannot be called so.
        """
        ...

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call something once the activation under way is durable, to tell others what happened.

        It is called outside the workflow, in the context of the task that asked for it, before the
        effects of the activation begin. It is not called on replay, nor for an activation that is
        never committed, nor if the process dies between the commit and the call.
        """
        ...

    def resource(self, role: str) -> Any:
        """Return a live object that was attached to the run in this process.

        Raises:
            LookupError: Nothing is attached under that role.
        """
        ...

    def now(self) -> float:
        """Return the time of the activation, in seconds since the epoch."""
        ...

    def random(self) -> Random:
        """Return the run's own random generator; equal on every replay."""
        ...

    def uuid4(self) -> UUID:
        """Return a new UUID; equal on every replay."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What a user may say about one kind of call of an agent. None keeps the adapter's default.

    Attributes:
        retry_policy: When a failed attempt is followed by another.
        start_to_close_timeout: How long one attempt may take.
    """

    retry_policy: RetryPolicy | None = None
    start_to_close_timeout: timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse what would fail every call.

        Raises:
            TypeError: A field is of another type.
            ValueError: The timeout is not positive.
        """
        policy: Any = self.retry_policy
        if policy is not None and not isinstance(policy, RetryPolicy):
            raise TypeError(f"retry_policy must be a RetryPolicy, got {policy!r}")

        timeout: Any = self.start_to_close_timeout
        if timeout is None:
            return

        if not isinstance(timeout, timedelta):
            raise TypeError(f"start_to_close_timeout must be a timedelta, got {timeout!r}")

        if timeout <= timedelta(0):
            raise ValueError(f"start_to_close_timeout must be positive, got {timeout}")

    def apply(self, options: UnitOptions) -> UnitOptions:
        """Return an adapter's default options with what the user said in their place."""
        changes: dict[str, Any] = {}
        if self.retry_policy is not None:
            changes["retry_policy"] = self.retry_policy
            changes["retry_window"] = None
            if options.decide is not None:
                changes["decide"] = _leaving_the_rest(options.decide)

        if self.start_to_close_timeout is not None:
            changes["start_to_close_timeout"] = self.start_to_close_timeout.total_seconds()

        return msgspec.structs.replace(options, **changes)


def _leaving_the_rest(
    decide: Callable[[BaseException], RetryDecision | None],
) -> Callable[[BaseException], RetryDecision | None]:
    """Return a judge that leaves what it does not know to the policy, which the user gave."""

    def judge(error: BaseException) -> RetryDecision | None:
        decision = decide(error)
        return decision if decision is None or decision.known else None

    return judge


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How an agent run is executed; the same for every adapter.

    Attributes:
        on_failed: What calling a run does that has ended without a result: continue it (what is
            recorded is reused, the failing call is tried again), raise its failure again, or start
            another run with its id.
        on_cancel: What cancelling the await does: cancel the run, or let it go on in its process.
        model: Model calls.
        tools: Tools by name.
        metadata: Recorded at the start, such as user, session or tags; never compared.
        strict: Whether a replay must ask the model for the same in every word. Otherwise another
            prompt, tool list or setting is noted, and the recorded answer stands.
    """

    on_failed: Literal["resume", "raise", "restart"] = "resume"
    on_cancel: Literal["cancel", "detach"] = "cancel"
    model: CallOptions = field(default_factory=CallOptions)
    tools: Mapping[str, CallOptions] = field(default_factory=dict[str, CallOptions])
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    strict: bool = False

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            TypeError: What is said of the model or of a tool is no `CallOptions`.
            ValueError: ``on_failed`` or ``on_cancel`` is none of those above.
        """
        for name, given, known in (
            ("on_failed", self.on_failed, ("resume", "raise", "restart")),
            ("on_cancel", self.on_cancel, ("cancel", "detach")),
        ):
            if given not in known:
                raise ValueError(f"{name}={given!r} is none of {', '.join(map(repr, known))}")

        calls: dict[str, Any] = {"model": self.model}
        calls.update((f"tools[{tool!r}]", said) for tool, said in self.tools.items())
        for name, said in calls.items():
            if not isinstance(said, CallOptions):
                raise TypeError(f"{name} must be CallOptions, got {said!r}")


def current_engine() -> Engine | None:
    """Return the engine of the workflow that is running here, or None in plain code."""
    loop = asyncio._get_running_loop()  # noqa: SLF001  # as get_running_loop, without raising
    return getattr(loop, "durable_engine", None)
