"""Runs that a run makes: children, whose ends it hears of, and the one that takes its place."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable_core import _defaults
from durable_core import exceptions as ex
from durable_core._arguments import check_workflow_id
from durable_core.history import ContinueRun, Payload, StartChild
from durable_core.payloads import _json
from durable_core.payloads._input import digest_of, encoded_input, types_of
from durable_core.workflow._children import ChildWorkflowHandle

from ._handle import OutcomeFuture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_core.history import ChildEnded, ChildStarted, Start
    from durable_core.payloads._failures import Registry
    from durable_core.workflow._children import Asked, Cancellation
    from durable_core.workflow._defn import Definition

    from ._blame import Blame
    from ._commands import Commands
    from ._loop import WorkflowLoop
    from ._others import Others

__all__ = ["ChildFuture", "Children"]


class ChildFuture(OutcomeFuture, ChildWorkflowHandle[Any, Any]):
    """The outcome of one child."""

    def __init__(
        self,
        *,
        loop: WorkflowLoop,
        others: Others,
        command: StartChild,
        asked: Asked,
        namespace: str,
    ) -> None:
        waits = asked.cancellation in {"wait_completed", "wait_requested"}
        super().__init__(loop=loop, seq=command.seq, waits=waits)
        self.begun = loop.create_future()
        self._others = others
        self._command = command
        self._cancellation: Cancellation = asked.cancellation
        self._namespace = namespace

    @property
    def id(self) -> str:
        """Id of the child."""
        return self._command.workflow_id

    @property
    def first_execution_run_id(self) -> str:
        """Unique id of the child's first run."""
        return self._command.run_id

    def begin(self, refused: ex.DurableError | None = None) -> None:
        """Let whoever started it know that it exists, or why it does not."""
        if self.begun.done():
            return

        if refused is None:
            self.begun.set_result(None)
        else:
            self.begun.set_exception(refused)

    def withdraw(self, msg: Any | None) -> None:
        """Ask the child to end, unless it is abandoned."""
        if self._cancellation == "abandon":
            return

        def heard(done: asyncio.Future[None]) -> None:
            # Refused if the child has just ended: then its outcome comes.
            known = done.cancelled() or done.exception() is not None
            if self._cancellation == "wait_requested" and not known and not self.done():
                asyncio.Future.cancel(self, msg)

        reason = msg if isinstance(msg, str) else ""
        told = self._others.cancel(self.id, self._command.run_id, reason)
        told.add_done_callback(heard)

    def cancelled_error(self) -> ex.ChildWorkflowError:
        """Return what awaiting raises when the child was cancelled by somebody else."""
        return self.failed(ex.CancelledError(f"child workflow {self.id!r} was cancelled"))

    def failed(self, cause: BaseException) -> ex.ChildWorkflowError:
        """Return what awaiting raises for a child that ended without a result."""
        command = self._command
        error = ex.ChildWorkflowError(
            f"child workflow {command.workflow_type!r} (run {self.id!r}) failed: "
            f"{type(cause).__name__}: {cause}",
            namespace=self._namespace,
            workflow_id=command.workflow_id,
            run_id=command.run_id,
            workflow_type=command.workflow_type,
        )
        error.__cause__ = cause
        return error


class Children:
    """The children of one run.

    Attributes:
        waiting: Those whose end it has not heard of, by command number.
    """

    def __init__(
        self,
        start: Start,
        commands: Commands,
        loop: WorkflowLoop,
        others: Others,
        blame: Blame,
    ) -> None:
        self.waiting: dict[int, tuple[ChildFuture, Any, Sequence[str]]] = {}
        self._start = start
        self._commands = commands
        self._loop = loop
        self._others = others
        self._blame = blame
        self._occurrences: dict[tuple[str, str], int] = {}

    def start(
        self, workflow: str | Definition, args: tuple[Any, ...], asked: Asked, made_up: str
    ) -> ChildFuture:
        """Start a child; see `durable_core.workflow.start_child_workflow`.

        Args:
            workflow: What it runs, or its name.
            args: Its arguments.
            asked: How.
            made_up: Its id, if the code chose none.
        """
        definition = self._commands.host.child(workflow)
        name = workflow if isinstance(workflow, str) else workflow.name
        check_workflow_id(made_up if asked.id is None else asked.id)
        parent = self._start.parent
        if parent is not None and parent.depth + 1 >= _defaults.CHILD_DEPTH:
            raise ex.ApplicationError(
                f"run {self._start.workflow_id!r} is a child of a child, "
                f"{_defaults.CHILD_DEPTH} times, and started another one ({name!r}): workflows "
                "that start each other have to come to an end",
                type="ChildDepthError",
            )

        # Of one that is named what is known here is not known everywhere.
        typed = None if isinstance(workflow, str) else workflow.signature
        live = self._commands.expected is None
        data = encoded_input(name, typed, args) if live else b""
        key = asked.id or ""
        occurrence = self._occurrences[name, key] = self._occurrences.get((name, key), 0) + 1
        seq = self._commands.next_seq
        command = StartChild(
            seq=seq,
            workflow_id=asked.id or made_up,
            run_id=self._new_run_id(seq),
            workflow_type=name,
            task_queue=asked.task_queue or self._start.task_queue,
            args=Payload(data=data),
            digest=digest_of(name, typed, args),
            key=key,
            occurrence=occurrence,
            policy=asked.policy,
            reuse=asked.reuse,
        )
        command = self._commands.ask(command, args, types_of(typed, args))
        result = asked.result_type
        if result is None and typed is not None:
            result = typed.result.type

        child = ChildFuture(
            loop=self._loop,
            others=self._others,
            command=command,
            asked=asked,
            namespace=self._start.namespace,
        )
        modules = () if definition is None else (definition.module,)
        self.waiting[command.seq] = child, result, modules
        return child

    def successor(
        self, workflow: str | Definition, args: tuple[Any, ...], task_queue: str | None
    ) -> ContinueRun:
        """Return the command by which another run takes the place of this one."""
        self._commands.host.child(workflow)
        name = workflow if isinstance(workflow, str) else workflow.name
        typed = None if isinstance(workflow, str) else workflow.signature
        live = self._commands.expected is None
        return ContinueRun(
            run_id=self._new_run_id(0),
            workflow_type=name,
            task_queue=task_queue or self._start.task_queue,
            args=Payload(data=encoded_input(name, typed, args) if live else b""),
            digest=digest_of(name, typed, args),
        )

    def _new_run_id(self, seq: int) -> str:
        """Return the unique id of a run that a command makes: no other command has the same."""
        salt = f"{self._start.run_id}\0{seq}".encode()
        drawn = int.from_bytes(blake2b(salt, digest_size=10).digest(), "big")
        value = int(self._commands.time * 1000) << 80 | drawn
        # As RFC 9562 has it: version 7, which sorts by time.
        value = value & ~(0xF << 76) | 0x7 << 76
        return str(UUID(int=value & ~(0x3 << 62) | 0x2 << 62))

    def started(self, event: ChildStarted) -> None:
        """Note that a child exists, or cannot."""
        child, _, _ = self.waiting.get(event.seq, (None, None, ()))
        if child is None:
            return

        if not event.refused:
            child.begin()
            return

        del self.waiting[event.seq]
        error = ex.WorkflowAlreadyStartedError(
            f"no child {child.id!r} was started: {event.refused}", workflow_id=child.id
        )
        self._blame.deliver(error, event.seq)
        child.begin(error)

    def ended(self, event: ChildEnded, failures: Registry) -> None:
        """Let whoever waits for a child know how it ended."""
        child, result, modules = self.waiting.pop(event.seq, (None, None, ()))
        if child is None or child.done():
            return

        child.begin()
        if event.failure is not None:
            error = child.failed(failures.rebuild(event.failure, modules=modules))
            self._blame.deliver(error, event.seq)
            child.set_exception(error)
            return

        data = b"null" if event.result is None else event.result.data
        what = f"the recorded result of child workflow {child.id!r}"
        if result is None:
            child.set_result(_json.decode_untyped(data, what=what))
        else:
            child.set_result(_json.decode(data, result, what=what))
