"""One run in memory: events in, workflow code runs until nothing is ready, commands out.

A `Run` is built from its start record and then fed activations, in order: recorded ones by
`replay`, which checks that the code asks for the same commands again, new ones by `activate`, which
returns the commands to commit. It does no I/O and reads no clock. What the code receives is always
decoded from recorded bytes, so that the first execution sees what a replay sees.

Invariant: after an activation raised, the run in memory is dead. It is closed and rebuilt from its
history; the events of the failed try are not lost, the caller still has them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

from durable_core import exceptions as ex
from durable_core._planted import planted
from durable_core.history import (
    Activation,
    ActivityCancelled,
    ActivityCompleted,
    ActivityFailed,
    CancelRequested,
    ChildEnded,
    ChildStarted,
    CompleteRun,
    ContinueRun,
    FailRun,
    Payload,
    RequestAnswered,
    RetryAsked,
    Rewound,
    RunTold,
    SignalReceived,
    Taken,
    TerminateRun,
    TimerFired,
    UpdateReceived,
    WasPaused,
    status_after,
)
from durable_core.payloads import _faithful, _json
from durable_core.workflow._continuing import ContinueAsNewError, only_continuation

from ._blame import Blame
from ._children import Children
from ._commands import Commands, Host, Pending
from ._facts import Facts
from ._handlers import Handlers
from ._loop import Timer, WorkflowTask, new_loop
from ._match import Expected, waiting_line
from ._others import Others
from ._profile import Profile
from ._requests import Requests, answers_first, in_turns
from ._streams import Streams, Writer
from ._updates import Updates

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from durable_core.adapter import Request, Unit
    from durable_core.history import Command, Ending, Event, Failure, Start
    from durable_core.workflow._defn import Definition

    from ._handle import ActivityFuture
    from ._requests import RequestFuture

__all__ = ["Run"]

_log = logging.getLogger("durable_core.engine")


class Run(Facts):
    """One run in memory. Belongs to the thread and event loop of its worker.

    Attributes:
        start: Its start record.
        next_number: Number of the next activation.
        time: Time of the last activation.
        closed: The command that ended the run, once there is one.
        handlers: What handles its signals, queries and updates.
        blame: Judges what its code raises.
        updates: Its updates.
        requests: What it asks people.
        streams: What it writes to streams.
        resources: Live objects that were attached to the run in this process, by role.
        wake: Set by the owner; called, in any thread, when the run can only fail from now on, and
            nothing that it waits for may ever come.
    """

    def __init__(
        self,
        start: Start,
        definition: Definition,
        host: Host,
        *,
        context: contextvars.Context | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(start, resources)
        self.next_number = 0
        self.closed: Ending | None = None
        self.handlers = Handlers(definition, start, self._begin_handler, self._check_usable)
        self.wake: Callable[[], object] | None = None
        self._definition = definition
        self._host = host
        self.blame = Blame(definition.failure_exception_types)
        by_address = planted("hash.address")
        self._loop = new_loop(self, self, id(self) if by_address else self.derived("hash"))
        self._outer = context or contextvars.copy_context()
        # The run's own: what one execution sets must not be there at the next.
        self._context = self._outer.copy()
        self._commands = Commands(start, self._loop, host, self._context, definition.module)
        self.updates = Updates(self, self.handlers, host.failures)
        self._others = Others(self._commands, self._loop)
        self._children = Children(start, self._commands, self._loop, self._others, self.blame)
        self.requests = Requests(self._commands, self._loop)
        self.profile = Profile(start, self._commands, self._check_usable)
        self.streams = Streams(self._commands, self._check_usable)
        self._python = start.python
        self._args: tuple[Any, ...] = ()
        self._main: asyncio.Task[Any] | None = None
        self._handler_failure: BaseException | None = None

    def again(self) -> Run:
        """Return a run with the same start, code and resources that has not begun."""
        run = Run(
            self.start,
            self._definition,
            self._host,
            context=self._outer,
            resources=self.resources,
        )
        run.wake = self.wake
        run.updates.inherit(self.updates)
        return run

    @property
    def modules(self) -> Iterable[str]:
        """Modules whose exception classes the failures of its activities may come back as."""
        return self._commands.modules

    @property
    def pending(self) -> dict[int, Pending]:
        """Activities without an outcome, by command number."""
        return self._commands.pending

    @property
    def timers(self) -> dict[int, Timer]:
        """Timers that have not fired, by command number."""
        return self._commands.timers

    @property
    def next_seq(self) -> int:
        """Number of the next command."""
        return self._commands.next_seq

    @property
    def history_length(self) -> int:
        """How many activations it has, with the one under way."""
        return self.next_number + 1

    @property
    def new_items(self) -> dict[str, bytes]:
        """Items that the last activation refers to, by address, still to be stored."""
        return self._commands.collected.items

    # Activations

    def activate(self, time: float, events: Iterable[Event], fence: int) -> Activation | None:
        """Run workflow code on new events and return the activation to commit.

        None if nothing came of them: all were updates that are rejected, or known.

        Raises:
            Exception: What a bug in workflow code raised; the run in memory is dead.
        """
        counted = self._execute(time, tuple(events))
        if counted is None:
            return None

        return Activation(
            number=self.next_number - 1,
            time=time,
            fence=fence,
            events=counted,
            commands=tuple(self._commands.collected.commands),
            notes=self._commands.take_notes(),
        )

    def replay(self, record: Activation) -> None:
        """Run workflow code on recorded events and check that it asks for the recorded commands.

        Raises:
            NonDeterminismError: It asks for something else.
            Exception: What a bug in workflow code raised; the run in memory is dead.
        """
        # Those before it may have been set aside.
        self.next_number = record.number
        if record.commands and isinstance(record.commands[-1], TerminateRun):
            # Its code did not learn of it.
            self.closed = record.commands[-1]
            self.next_number += 1
            return

        for event in record.events:
            if isinstance(event, Taken):
                self._python = event.python

        commands = self._commands
        commands.expected = Expected(record, self._python, self._where, self._break)
        try:
            self._execute(record.time, record.events)
            commands.expected.finish()
        finally:
            commands.expected = None

    def query(self, name: str, args: bytes) -> bytes:
        """Answer a query on the state after the last activation, by JSON.

        Raises:
            WorkflowQueryFailedError: There is none of that name, or it raised.
        """
        loop = self._loop
        loop.read_only = True
        try:
            with loop.entered(self.time):
                return self._context.copy().run(self.handlers.query, name, args)
        finally:
            loop.read_only = False

    def close(self) -> None:
        """Drop the run from memory: its coroutines are closed in their own loop. Never raises."""
        with self._loop.entered(self.time):
            self._context.copy().run(self._loop.close_run)

        self.pending.clear()
        self.timers.clear()

    def _execute(self, time: float, events: tuple[Event, ...]) -> tuple[Event, ...] | None:
        """Run workflow code and return the events that count."""
        self._commands.begin(time)
        self.time = time
        loop = self._loop
        with loop.entered(time, self.start.seed, self.next_number):
            # Before the code begins, so that a signal that came with the start finds its handler
            # and the code finds what the handler did.
            begun = self._main is not None or self._prepare()
            came = events
            if not self.replaying:
                self.updates.rejected.clear()
                events = answers_first(e for e in events if self._admits(e))
                if begun and came and not events:
                    return None

            for turn in in_turns(events * 2 if planted("event.twice") else events):
                for event in turn:
                    self._apply(event)

                if not begun:
                    begun = True
                    self._begin()

                loop.drain()

            if loop.error is not None:
                raise loop.error

            self._commands.settle_timers()
            if self.closed is None:
                self._end()

        self.next_number += 1
        return events

    def _admits(self, event: Event) -> bool:
        if not isinstance(event, UpdateReceived):
            return True

        self._loop.read_only = True
        try:
            return self.updates.admits(event, self._context.copy())
        finally:
            self._loop.read_only = False

    def _prepare(self) -> bool:
        definition = self._definition
        owner = f"workflow {definition.name!r}"
        data = self.start.args.data
        self._args = _faithful.decode_arguments(data, definition.signature, owner=owner)
        if definition.cls is not None:
            args = self._args if definition.init_takes_input else ()
            self.handlers.bind(self._context.run(definition.cls, *args))

        return False

    def _begin(self) -> None:
        instance, args = self.handlers.instance, self._args

        async def main() -> Any:
            run_fn = self._definition.run_fn
            return await (run_fn(*args) if instance is None else run_fn(instance, *args))

        self._main = self._loop.create_task(main(), name="workflow", context=self._context)
        if self.handlers.cancellation_reason is not None:
            self._main.cancel()

    def _begin_handler(self, handler: Coroutine[Any, Any, None], name: str) -> None:
        async def handle() -> None:
            try:
                await handler
            except BaseException as error:
                if not self.blame.fails(error):
                    # Nobody awaits a handler: what is a bug in the run's code would go unseen.
                    if isinstance(error, Exception):
                        self._loop.error = self._loop.error or error

                    raise

                self._handler_failure = self._handler_failure or error

        self._loop.create_task(handle(), name=name, context=self._context.copy())

    def _end(self) -> None:
        """Close the run if its code has ended, or a handler failed."""
        main = self._main
        assert main is not None
        error = self._handler_failure
        if error is None:
            if not main.done():
                return

            error = asyncio.CancelledError() if main.cancelled() else main.exception()

        if isinstance(error, BaseExceptionGroup):
            # Raised inside a task group, it comes out in a group, perhaps alone.
            error = only_continuation(error) or error

        if error is None:
            self.closed = self._completion(main.result())
        elif isinstance(error, ContinueAsNewError):
            self.closed = cast("ContinueRun", error.command)
        elif isinstance(error, asyncio.CancelledError) or self.blame.fails(error):
            asked = self.handlers.cancellation_reason is not None
            cancelled = isinstance(error, asyncio.CancelledError) or (
                asked and self.blame.says_cancelled(error)
            )
            self.closed = FailRun(
                failure=self._host.failures.record(error),
                cancelled=cancelled,
                culprits=self.blame.culprits(error),
            )
        else:
            raise error

        # On replay what is recorded stands.
        self.closed = cast("Ending", self.issue(self.closed))

    def _completion(self, result: Any) -> CompleteRun:
        if self.replaying:
            return CompleteRun(result=Payload())

        what = f"the result of workflow {self._definition.name!r}"
        annotated = _faithful.result_of(self._definition.run_fn)
        return CompleteRun(
            result=Payload(data=_faithful.encode_result(result, annotated, what=what))
        )

    # Events

    def _apply(self, event: Event) -> None:
        match event:
            case ActivityCompleted():
                self._complete(event)
            case ActivityFailed():
                pending = self.pending.pop(event.seq, None)
                if pending is not None and not pending.future.done():
                    pending.future.set_exception(self._failure(pending, event))
            case ActivityCancelled():
                pending = self.pending.pop(event.seq, None)
                if pending is not None and not pending.future.done():
                    pending.future.set_exception(pending.future.cancelled_error())
            case TimerFired():
                handle = self.timers.pop(event.seq, None)
                if handle is not None:
                    self._loop.ready_timer(handle)
            case SignalReceived():
                self.handlers.signal(event)
            case UpdateReceived():
                self.updates.begin(event)
            case RequestAnswered():
                self.requests.answered(event)
            case RunTold():
                self._others.told(event)
            case ChildStarted():
                self._children.started(event)
            case ChildEnded():
                self._children.ended(event, self._host.failures)
            case CancelRequested():
                self.handlers.cancellation_reason = event.reason
                if self._main is not None:
                    self._main.cancel()
            case Rewound():
                self._commands.next_seq = max(self.next_seq, event.next_seq)
            case Taken():
                self._python = event.python
            case RetryAsked() | WasPaused():
                # A matter of its owner, and of readers.
                pass

    def _complete(self, event: ActivityCompleted) -> None:
        pending = self.pending.pop(event.seq, None)
        if pending is None or pending.future.done():
            return

        self._commands.completed(event)
        what = f"the recorded result of activity {pending.unit.name!r}"
        live = planted("value.live") and not self.replaying
        target = Any if live else pending.result.type
        pending.future.set_result(_json.decode(event.result.data, target, what=what))

    def _failure(self, pending: Pending, event: ActivityFailed) -> BaseException:
        cause = self._host.failures.rebuild(event.failure, modules=pending.modules)
        if isinstance(cause, (StopIteration, asyncio.CancelledError)):
            # Neither can travel through a future as itself.
            cause = ex.ApplicationError(str(cause), type=event.failure.type)

        self.blame.deliver(cause, pending.seq)
        if pending.unit.raise_cause:
            return cause

        error = ex.ActivityError(
            f"activity {pending.unit.name!r} failed: {event.failure.type}: {event.failure.message}",
            activity_type=pending.unit.name,
            activity_id=str(pending.seq),
            attempts=len(event.attempts),
            retry_state=ex.RetryState(event.retry_state) if event.retry_state else None,
        )
        error.__cause__ = cause
        return error

    # What the loop and activity futures ask

    def timer_started(self, handle: Timer) -> None:
        """Note a timer."""
        self._check_usable()
        self._commands.timer_started(handle)

    def timer_cancelled(self, handle: Timer) -> None:
        """Withdraw a timer."""
        self._commands.timer_cancelled(handle)

    # What workflow code asks

    def schedule(self, unit: Unit) -> ActivityFuture:
        """Ask for a unit; see `durable_core.adapter.Engine.schedule`."""
        self._check_usable()
        return self._commands.schedule(unit)

    def request(self, request: Request) -> RequestFuture:
        """Put a question to people; see `durable_core.adapter.Engine.request`."""
        self._check_usable()
        return self.requests.ask(request)

    @property
    def told_later(self) -> Iterable[int]:
        """Numbers of the commands that other runs have not answered yet."""
        return [*self._others.waiting, *self._children.waiting]

    @property
    def open_children(self) -> dict[int, str]:
        """Unique ids of the children whose end it has not heard of, by command number."""
        waiting = self._children.waiting
        return {seq: child.first_execution_run_id for seq, (child, _, _) in waiting.items()}

    @property
    def others(self) -> Others:
        """What it asks of other runs."""
        self._check_usable()
        return self._others

    @property
    def children(self) -> Children:
        """The runs that it starts."""
        self._check_usable()
        return self._children

    def continue_as_new(
        self, workflow: str | Definition | None, args: tuple[Any, ...], task_queue: str | None
    ) -> NoReturn:
        """End the run for a new one; see `durable_core.workflow.continue_as_new`."""
        self._check_usable()
        raise ContinueAsNewError(
            self._children.successor(workflow or self._definition, args, task_queue)
        )

    def issue(self, command: Command) -> Command:
        """Ask for what has no identity of its own; see `Commands.issue`."""
        return self._commands.issue(command)

    def _break(self, error: BaseException) -> None:
        self._loop.error = error

    def broken_from_outside(self) -> None:
        """Let the owner run an activation, which fails with what broke the loop."""
        if self.wake is not None:
            self.wake()

    @property
    def broken(self) -> bool:
        """Whether the next activation is bound to fail."""
        return self._loop.error is not None

    def annotate(self, name: str, value: Any) -> None:
        """Record a fact for readers; see `durable_core.adapter.Engine.annotate`."""
        self._commands.annotate(name, value)

    def stream(self, name: str) -> Writer:
        """Return what writes to a stream; see `durable_core.adapter.Engine.stream`."""
        self._check_usable()
        return self.streams.writer(name)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call something after the commit; see `durable_core.adapter.Engine.after_commit`."""
        # Not for cleanup in a run that is dropped, perhaps while its last commit is under way.
        if not self.replaying and not self._loop.is_closed():
            task = asyncio.current_task()
            # The very context, and not a copy: only there can the callback reset what was set.
            context = (
                task.get_context() if isinstance(task, WorkflowTask) else contextvars.copy_context()
            )
            self._commands.collected.callbacks.append(partial(context.run, callback))

    def call_back(self) -> None:
        """Call, once, what the last activation wants to be called after its commit."""
        collected = self._commands.collected
        callbacks, collected.callbacks = collected.callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001  # what others make of it is no matter of the run
                _log.exception("a callback after a commit of run %r failed", self.workflow_id)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        await self._loop.until(condition)

    @property
    def read_only(self) -> bool:
        """Whether the code now running may only look."""
        return self._loop.read_only

    @property
    def replaying(self) -> bool:
        """Whether the code now running repeats what is already recorded."""
        return self._commands.expected is not None

    @property
    def status(self) -> str:
        """What became of the run, in the words of `WorkflowExecutionStatus`."""
        return status_after(self.closed)

    @property
    def failure(self) -> Failure | None:
        """Why the run failed, if it did."""
        return self.closed.failure if isinstance(self.closed, FailRun | TerminateRun) else None

    def _check_usable(self) -> None:
        self._loop.check_writable()
        if self._loop.error is not None:
            raise self._loop.error

        if asyncio._get_running_loop() is not self._loop:  # noqa: SLF001
            raise ex.NotInWorkflowError(
                "this run's code called its engine from outside its own event loop"
            )

    def _where(self) -> str | None:
        """Return ``file:line in function`` at which the main task waits."""
        if self._main is None or self._main.done():
            return None

        return waiting_line(self._main.get_coro())
