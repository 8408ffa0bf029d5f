"""What a run asks of other runs: that they take a signal, or end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_core.exceptions import ApplicationError
from durable_core.history import Payload, TellRun
from durable_core.payloads import _digest, _json, _sent

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from durable_core.history import RunTold

    from ._commands import Commands
    from ._loop import WorkflowLoop

__all__ = ["NOT_THERE", "Others"]

NOT_THERE = "WorkflowNotFoundError"


class Others:
    """What one run asked of others, and has no answer to yet."""

    def __init__(self, commands: Commands, loop: WorkflowLoop) -> None:
        self._commands = commands
        self._loop = loop
        self._occurrences: dict[tuple[str, str, str], int] = {}
        self.waiting: dict[int, tuple[TellRun, asyncio.Future[None]]] = {}

    def signal(
        self,
        workflow_id: str,
        run_id: str,
        name: str,
        target: str | Callable[..., Any],
        args: tuple[Any, ...],
    ) -> asyncio.Future[None]:
        """Send a signal to another run.

        Args:
            workflow_id: Of the run.
            run_id: Its unique id; empty for the one that is open.
            name: Of the signal.
            target: What takes it, or its name.
            args: Its arguments.

        Raises:
            ArgumentError: It does not take so many arguments.
            EncodeError: An argument cannot be recorded.
        """
        owner = f"signal {name!r}"
        what = f"the arguments of {owner}"
        types = _sent.types_of(target, len(args))
        digest = _digest.digest(_json.lower_args(args, types, what=what), what=what)
        data = b"" if self._commands.expected else _sent.encoded(target, args, owner)
        payload = Payload(data=data)
        command = self._command(workflow_id, run_id, name, args=payload, digest=digest)
        return self._tell(command, args, types)

    def cancel(self, workflow_id: str, run_id: str, reason: str) -> asyncio.Future[None]:
        """Ask another run to end."""
        return self._tell(self._command(workflow_id, run_id, "", reason=reason), (), ())

    def told(self, event: RunTold) -> None:
        """Let whoever waits know what became of it."""
        command, future = self.waiting.pop(event.seq, (None, None))
        if command is None or future is None or future.done():
            return

        if not event.refused:
            future.set_result(None)
            return

        what = f"take the signal {command.signal!r}" if command.signal else "be cancelled"
        future.set_exception(
            ApplicationError(
                f"run {command.workflow_id!r} could not {what}: {event.refused}", type=NOT_THERE
            )
        )

    def _command(self, workflow_id: str, run_id: str, signal: str, **more: Any) -> TellRun:
        key = workflow_id, run_id, signal
        occurrence = self._occurrences[key] = self._occurrences.get(key, 0) + 1
        return TellRun(
            seq=self._commands.next_seq,
            workflow_id=workflow_id,
            run_id=run_id,
            signal=signal,
            occurrence=occurrence,
            **more,
        )

    def _tell(
        self, command: TellRun, args: tuple[Any, ...], types: tuple[Any, ...]
    ) -> asyncio.Future[None]:
        seq = self._commands.ask(command, args, types).seq
        future: asyncio.Future[None] = self._loop.create_future()
        self.waiting[seq] = command, future
        return future
