"""Replay: the commands that code asks for, against those that were recorded (ENGINE R8-R10).

Within an activation commands are matched by identity, not by position: kind, name, key and the
occurrence of that triple in the run. What is left over on either side is a mismatch, and so are
arguments that still differ after both sides were brought to today's types.
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Any, TypeVar, cast

from durable_core.exceptions import NonDeterminismError
from durable_core.history import (
    Activation,
    AnswerUpdate,
    AskPeople,
    CancelActivity,
    CancelTimer,
    Payload,
    RemindPeople,
    ScheduleActivity,
    StartChild,
    StartTimer,
    TellRun,
    UpsertAttributes,
    UpsertMemo,
    WithdrawRequest,
    describe,
)
from durable_core.payloads import _digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_core.adapter import Unit
    from durable_core.history import Command

__all__ = ["Expected", "python_version", "waiting_line"]

Identity = tuple[str, str, int]
Asks = TypeVar("Asks", TellRun, StartChild, AskPeople)


def python_version() -> str:
    """Return implementation and minor version, such as ``cpython-3.11``."""
    return f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}"


class Expected:
    """The recorded commands of one activation, taken off as the code asks for them again.

    Args:
        record: The activation.
        recorded_python: What ran it first.
        waiting: Returns the line at which the code waits, for when none of it is running.
        broken: Takes each mismatch: it breaks the run, whoever catches it on its way out.
    """

    def __init__(
        self,
        record: Activation,
        recorded_python: str,
        waiting: Callable[[], str | None],
        broken: Callable[[NonDeterminismError], None],
    ) -> None:
        self._number = record.number
        self._python = recorded_python
        self._waiting = waiting
        self._broken = broken
        self._activities: dict[Identity, ScheduleActivity] = {}
        self._timers: dict[int, StartTimer] = {}
        self._others: dict[tuple[type, int | str], Command] = {}
        for command in record.commands:
            match command:
                case ScheduleActivity():
                    self._activities[(command.name, command.key, command.occurrence)] = command
                case StartTimer():
                    self._timers[command.occurrence] = command
                case _:
                    self._others[_identity(command)] = command

    def activity(
        self, unit: Unit, occurrence: int, digest: str, types: tuple[object, ...]
    ) -> ScheduleActivity:
        """Return the recorded command of an activity.

        Raises:
            NonDeterminismError: There is none, or its arguments differ.
        """
        found = self._activities.pop((unit.name, unit.key, occurrence), None)
        if found is None:
            raise self.error(self._left(), describe(_command_of(unit, occurrence)))

        if found.digest != digest:
            path = _digest.difference(
                found.args.data, unit.args, types, what=f"activity {unit.name!r}"
            )
            if path is not None:
                got = describe(found)
                raise self.error(
                    f"{got} with the recorded arguments", f"{got} with other arguments", path=path
                )

        return found

    def text_error(
        self, unit: Unit, recorded: ScheduleActivity, changed: list[str]
    ) -> NonDeterminismError:
        """Return the report of a text that differs though it must not."""
        got = describe(recorded)
        return self.error(
            f"{got} with the recorded text",
            f"{got} with another one (strict)",
            path=", ".join(f"{unit.name}.{key}" for key in changed),
        )

    def timer(self, occurrence: int, delay: float) -> StartTimer:
        """Return the recorded command of a timer.

        Raises:
            NonDeterminismError: There is none, or it is of another length.
        """
        found = self._timers.pop(occurrence, None)
        if found is not None and round(found.delay, 6) == round(delay, 6):
            return found

        expected = self._left() if found is None else describe(found)
        raise self.error(expected, f"timer of {delay:g} s #{occurrence}")

    def same(self, command: Asks, args: tuple[Any, ...], types: tuple[Any, ...]) -> Asks:
        """Return the recorded command that asks the same of another run, or of people.

        Raises:
            NonDeterminismError: There is none, or its arguments differ.
        """
        # The type is part of the identity.
        found = cast("Asks", self.other(command))
        if found.digest != command.digest:
            what = describe(found)
            path = _digest.difference(found.args.data, args, types, what=what)
            if path is not None:
                raise self.error(
                    f"{what} with the recorded arguments", f"{what} with other arguments", path=path
                )

        return found

    def other(self, command: Command) -> Command:
        """Return the recorded command of the same identity.

        Raises:
            NonDeterminismError: It is not recorded.
        """
        found = self._others.pop(_identity(command), None)
        if found is None:
            raise self.error(self._left(), describe(command))

        return found

    def finish(self) -> None:
        """Check that nothing recorded is left.

        Raises:
            NonDeterminismError: The code did not ask for something that is recorded.
        """
        left = self._left()
        if left is not None:
            raise self.error(left, None)

    def error(
        self, expected: str | None, got: str | None, *, path: str | None = None
    ) -> NonDeterminismError:
        """Tell and return a mismatch, with the line of the code that runs or waits."""
        location = _workflow_line() or self._waiting()
        parts: list[str] = []
        if self._python and self._python != python_version():
            parts.append(
                f"this run was recorded on {self._python} and is replayed on {python_version()}, "
                "which may order tasks differently"
            )

        parts.append(
            f"the code asks for other commands than were recorded, in activation {self._number}: "
            f"recorded {expected or 'nothing more'}, got {got or 'nothing more'}"
        )
        if path:
            parts.append(f"they differ at {path}")

        if location:
            parts.append(f"at {location}")

        text = "; ".join(parts)
        remedy = (
            "Workflow code must ask for the same on every replay: restore what the code did "
            "before, keep this run on the old code, or start it anew under another id"
        )
        found = NonDeterminismError(
            f"{text}. {remedy}",
            activation=self._number,
            expected=expected,
            got=got,
            path=path,
            location=location,
        )
        self._broken(found)
        return found

    def _left(self) -> str | None:
        left: list[Command] = [
            *self._activities.values(),
            *self._timers.values(),
            *self._others.values(),
        ]
        if not left:
            return None

        shown = ", ".join(describe(c) for c in left[:3])
        return shown if len(left) <= 3 else f"{shown} and {len(left) - 3} more"


def _identity(command: Command) -> tuple[type, int | str]:
    match command:
        case CancelActivity() | CancelTimer() | WithdrawRequest():
            return type(command), command.seq
        case RemindPeople():
            return type(command), f"{command.seq} {command.number}"
        case AskPeople():
            return type(command), f"{command.kind}\0{command.key}\0{command.occurrence}"
        case AnswerUpdate():
            return type(command), command.request
        case TellRun():
            parts = (command.workflow_id, command.run_id, command.signal, str(command.occurrence))
            return type(command), "\0".join(parts)
        case StartChild():
            return type(command), f"{command.workflow_type}\0{command.key}\0{command.occurrence}"
        case UpsertAttributes() | UpsertMemo():
            return type(command), command.occurrence
        case _:
            return type(command), 0


def _command_of(unit: Unit, occurrence: int) -> ScheduleActivity:
    return ScheduleActivity(
        seq=0, name=unit.name, args=Payload(), digest="", key=unit.key, occurrence=occurrence
    )


_OWN = __file__.rpartition("durable_core")[0] + "durable_core"
_STDLIB = traceback.__file__.rpartition("/")[0]


def waiting_line(coroutine: Any) -> str | None:
    """Return ``file:line in function`` at which a suspended coroutine waits, in user code."""
    found = None
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        code = frame.f_code
        if not code.co_filename.startswith((_OWN, _STDLIB)):
            found = f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"

        coroutine = coroutine.cr_await

    return found


def _workflow_line() -> str | None:
    """Return ``file:line in function`` of the innermost frame of user code, if any runs."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(_OWN) and frame.name in {"_execute", "replay"}:
            # Further out is whoever drives the run.
            return None

        if not frame.filename.startswith((_OWN, _STDLIB)):
            return f"{frame.filename}:{frame.lineno} in {frame.name}"

    return None
