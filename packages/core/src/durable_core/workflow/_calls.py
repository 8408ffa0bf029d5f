"""What workflow code may ask for. Each call finds its engine through the running event loop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from durable_core import _clock, _defaults
from durable_core._search_attributes import TypedSearchAttributes, untyped
from durable_core.adapter import Engine, current_engine
from durable_core.exceptions import NotInWorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, MutableMapping, Sequence
    from datetime import datetime
    from random import Random
    from uuid import UUID

    from ._children import Asked, ChildWorkflowHandle
    from ._defn import Definition
    from ._handlers import Handler, Kind
    from ._profile import Profile

__all__ = [
    "Info",
    "LoggerAdapter",
    "ParentInfo",
    "PayloadConverter",
    "UpdateInfo",
    "cancellation_reason",
    "current_update_info",
    "in_workflow",
    "info",
    "instance",
    "logger",
    "now",
    "payload_converter",
    "random",
    "runtime",
    "seconds",
    "sleep",
    "time",
    "time_ns",
    "unsafe",
    "uuid4",
    "wait_condition",
]


@dataclass(frozen=True, slots=True)
class ParentInfo:
    """The run that started the run whose code is running, as its child.

    Attributes:
        namespace, workflow_id, run_id: Of the parent.
    """

    namespace: str
    run_id: str
    workflow_id: str


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about the run whose code is running.

    Attributes:
        namespace: Namespace of the run.
        workflow_id: Id of the run, as its user chose it.
        run_id: Unique id of the run.
        workflow_type: Name of the workflow.
        task_queue: Queue that the run was started on.
        start_time: When the run was started.
        parent: The run whose child it is; None if it is nobody's.
        continued_run_id: Unique id of the run that it continues; None if it continues none.
        typed_search_attributes: The run's search attributes when this was asked for.
    """

    namespace: str
    workflow_id: str
    run_id: str
    workflow_type: str
    task_queue: str
    start_time: datetime
    parent: ParentInfo | None = None
    continued_run_id: str | None = None
    typed_search_attributes: TypedSearchAttributes = TypedSearchAttributes.empty

    @property
    def search_attributes(self) -> Mapping[str, Sequence[Any]]:
        """Their values by name, each as a list: temporalio's older form."""
        return untyped(self.typed_search_attributes)

    def get_current_history_length(self) -> int:
        """Return how many activations the run has, with the one under way."""
        return runtime().history_length

    def is_continue_as_new_suggested(self) -> bool:
        """Return whether the history is so long that the run had better continue as a new one.

        Replaying it takes the longer the longer it is. The default is in the table of defaults.
        """
        return runtime().history_length >= _defaults.HISTORY_SUGGESTED


@dataclass(frozen=True, slots=True)
class UpdateInfo:
    """Facts about the update whose handler or validator is running.

    Attributes:
        id: Id of the update.
        name: Its name.
    """

    id: str
    name: str


class PayloadConverter(Protocol):
    """Makes values of recorded arguments, and the reverse."""

    def from_payload(self, payload: bytes, type_hint: Any = None) -> Any:
        """Return the value that a payload holds.

        Raises:
            DecodeError: It does not fit the type.
        """
        ...

    def to_payload(self, value: Any) -> bytes:
        """Return a value as it would be recorded.

        Raises:
            EncodeError: It cannot be.
        """
        ...


class Runtime(Engine, Protocol):
    """An `Engine` with what only this module asks for."""

    def info(self) -> Info:
        """Return facts about the run."""
        ...

    @property
    def handlers(self) -> Handlers:
        """What handles the run's signals, queries and updates."""
        ...

    @property
    def payload_converter(self) -> PayloadConverter:
        """Makes values of recorded arguments, and the reverse."""
        ...

    @property
    def others(self) -> Others:
        """What it asks of other runs."""
        ...

    @property
    def profile(self) -> Profile:
        """What it shows of itself."""
        ...

    @property
    def children(self) -> Children:
        """The runs that it starts."""
        ...

    @property
    def history_length(self) -> int:
        """How many activations it has, with the one under way."""
        ...

    def continue_as_new(
        self, workflow: str | Definition | None, args: tuple[Any, ...], task_queue: str | None
    ) -> NoReturn:
        """End the run for a new one."""
        ...


class Children(Protocol):
    """The runs that a run starts."""

    def start(
        self, workflow: str | Definition, args: tuple[Any, ...], asked: Asked, made_up: str
    ) -> ChildWorkflowHandle[Any, Any]:
        """Start a child; ``made_up`` is its id if none was chosen."""
        ...


class Others(Protocol):
    """What a run asks of other runs; each future ends when the other one has it, or cannot."""

    def signal(
        self,
        workflow_id: str,
        run_id: str,
        name: str,
        target: str | Callable[..., Any],
        args: tuple[Any, ...],
    ) -> asyncio.Future[None]:
        """Send a signal to another run."""
        ...

    def cancel(self, workflow_id: str, run_id: str, reason: str) -> asyncio.Future[None]:
        """Ask another run to end."""
        ...


class Handlers(Protocol):
    """What handles the signals, queries and updates of one run."""

    instance: Any
    cancellation_reason: str | None

    @property
    def update(self) -> UpdateInfo | None:
        """The update that the code now running handles, if it does."""
        ...

    def set(self, kind: Kind, handler: Handler | None, name: str | None) -> None:
        """Let something be taken from now on; signals also if they came before."""
        ...

    def get(self, kind: Kind, name: str | None) -> Handler | None:
        """Return what takes it."""
        ...

    def finished(self) -> bool:
        """Return whether no handler of a signal or an update is under way."""
        ...


def runtime() -> Runtime:
    """Return the engine of the workflow code that calls.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    engine = current_engine()
    if engine is None:
        raise NotInWorkflowError(
            "not inside a workflow: call this from workflow code, on its event loop"
        )

    return cast("Runtime", engine)


def in_workflow() -> bool:
    """Return whether the caller is workflow code."""
    return current_engine() is not None


def info() -> Info:
    """Return facts about the run whose code is running.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().info()


def now() -> datetime:
    """Return the time of the activation, UTC: the same on every replay.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return _clock.from_timestamp(runtime().now())


def time() -> float:
    """Return the time of the activation in seconds since the epoch, as ``time.time`` would.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().now()


def time_ns() -> int:
    """Return the time of the activation in nanoseconds since the epoch.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return int(runtime().now() * 1e9)


def random() -> Random:
    """Return the run's random generator: the same numbers on every replay.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().random()


def uuid4() -> UUID:
    """Return a new UUID: the same on every replay.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().uuid4()


async def sleep(duration: timedelta | float) -> None:
    """Wait by a recorded timer, over crashes and restarts. `asyncio.sleep` does the same.

    Args:
        duration: A timedelta, or seconds.

    Raises:
        ValueError: The duration is negative.
        NotInWorkflowError: Called outside workflow code.
    """
    runtime()
    await asyncio.sleep(seconds(duration, "sleep for"))


def seconds(duration: timedelta | float, what: str) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: It is negative.
    """
    found = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if found < 0:
        raise ValueError(f"cannot {what} {duration}: a duration must not be negative")

    return found


async def wait_condition(
    fn: Callable[[], bool], *, timeout: timedelta | float | None = None
) -> None:
    """Wait until a function of the run's own state returns true.

    It is called whenever the run's code has nothing else to do, so it must be quick, and must not
    change anything.

    Args:
        fn: Takes nothing and returns whether to go on.
        timeout: A timedelta, or seconds, by a recorded timer; None waits for ever.

    Raises:
        TimeoutError: The time is over.
        ValueError: The timeout is negative.
        NotInWorkflowError: Called outside workflow code.
    """
    engine = runtime()
    if timeout is None:
        await engine.until(fn)
        return

    limit = seconds(timeout, "wait for")
    async with asyncio.timeout(limit):
        await engine.until(fn)


def instance() -> Any:
    """Return the object whose run method is the workflow; None if the workflow is a function.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().handlers.instance


def current_update_info() -> UpdateInfo | None:
    """Return what update the code that calls handles or validates; None if it does neither.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().handlers.update


def payload_converter() -> PayloadConverter:
    """Return what makes values of the arguments that a dynamic handler gets.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().payload_converter


def cancellation_reason() -> str | None:
    """Return why the run's cancellation was asked for; None if it was not, "" without a reason.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().handlers.cancellation_reason


class unsafe:  # noqa: N801  # temporalio's name
    """What most workflow code should not need."""

    @staticmethod
    def is_replaying() -> bool:
        """Return whether the code now running repeats what is recorded.

        For what must not be repeated and is no part of the run, such as a metric. Never let it
        decide what the run does.

        Raises:
            NotInWorkflowError: Called outside workflow code.
        """
        return runtime().replaying

    @staticmethod
    @contextmanager
    def imports_passed_through() -> Generator[None]:
        """Do nothing: there is no sandbox that imports could pass by.

        So that a module written for temporalio runs as it is.
        """
        yield


class LoggerAdapter(logging.LoggerAdapter[logging.Logger]):
    """Says nothing while replaying, and adds the run's ids to each record's ``extra``."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        """Return False for what an earlier execution has logged already."""
        engine = current_engine()
        if engine is not None and engine.replaying:
            return False

        return super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the ids of the run whose code is running, if one is."""
        engine = current_engine()
        if engine is not None:
            ids = {"workflow_id": engine.workflow_id, "workflow_run_id": engine.run_id}
            kwargs["extra"] = {**(kwargs.get("extra") or {}), "durable_workflow": ids}

        return msg, kwargs


logger = LoggerAdapter(logging.getLogger("durable_core.workflow"), {})
