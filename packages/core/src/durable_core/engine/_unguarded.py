"""What the guard cannot reach in the code of a workflow, found in its bytecode.

The guard replaces functions in their modules. It cannot replace methods of ``datetime``, which is
written in C, nor what a module has bound to a name of its own by ``from time import time``.

Only the code of the workflow itself is looked at, not what it calls, and only names whose value is
certain: there is no false alarm, and what is not found the mismatch check finds at a replay.
Values are asked for their type alone: even ``isinstance`` and ``bool`` run code of some objects.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache
from types import (
    BuiltinFunctionType,
    BuiltinMethodType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any

from . import _guard

if TYPE_CHECKING:
    from durable_core.workflow._defn import Definition

__all__ = ["unguarded_calls"]

_REMEDIES = {
    "time": "workflow.time()",
    "random": "workflow.random()",
    "os": "workflow.random().randbytes(n)",
    "uuid": "workflow.uuid4()",
}
# They take the time, and only without one they read the clock.
_TAKE_A_TIME = {"gmtime", "localtime", "ctime", "asctime", "strftime"}


def unguarded_calls(definition: Definition) -> list[str]:
    """Return, for each use of a clock or of randomness that is not guarded, where, what and why."""
    return [
        f"{where} uses {name}: what it returns is not recorded and differs at a replay. {remedy}"
        for function in _functions(definition)
        for code, outer in _codes(function.__code__, function.__code__.co_freevars)
        for where, name, remedy in _uses(function, code, outer)
    ]


def _functions(definition: Definition) -> Iterator[FunctionType]:
    if definition.cls is None:
        members: list[Any] = [definition.run_fn]
    else:
        members = [m for cls in definition.cls.__mro__[:-1] for m in vars(cls).values()]

    for member in members:
        found = member
        if type(member) in {staticmethod, classmethod}:
            found = member.__func__
        elif type(member) is property:
            found = member.fget

        if type(found) is FunctionType:
            yield found


def _codes(code: CodeType, outer: Iterable[str]) -> Iterator[tuple[CodeType, list[str]]]:
    """Yield what a function consists of, each with the variables that come from outside of it."""
    names = [name for name in outer if name in code.co_freevars]
    yield code, names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant, names)


def _uses(
    function: FunctionType, code: CodeType, outer: list[str]
) -> Iterator[tuple[str, str, str]]:
    """Follow names, their attributes and imports from one instruction to the next."""
    free = _free(function)
    local: dict[str, Any] = {}
    value: Any = None
    line = code.co_firstlineno
    for step in dis.get_instructions(code):
        # Python 3.13 numbers each instruction, those before it the first of each line.
        line = getattr(step, "line_number", None) or _int(step.starts_line) or line
        early = None
        match step.opname:
            case "LOAD_GLOBAL" | "LOAD_NAME":
                value = early = function.__globals__.get(step.argval)
            case "LOAD_DEREF" if step.argval in outer:
                value = early = free.get(step.argval)
            case "LOAD_DEREF" | "LOAD_FAST" | "LOAD_FAST_CHECK":
                # What was imported while the code ran is guarded.
                value = local.get(step.argval)
            case "IMPORT_NAME":
                value = sys.modules.get(step.argval.partition(".")[0])
            case "IMPORT_FROM" | "LOAD_ATTR" | "LOAD_METHOD":
                value = _attribute(value, step.argval)
            case "STORE_FAST" | "STORE_DEREF":
                local[step.argval], value = value, None
            case "STORE_FAST_LOAD_FAST" | "STORE_FAST_STORE_FAST":
                local, value = {}, None  # of Python 3.13, and rare
            case "CACHE" | "PUSH_NULL":
                pass
            case _:
                value = None

        found = _of_datetime(value) or _bound_early(early)
        if found is not None:
            yield (f"{code.co_filename}:{line}", *found)
            value = None


def _int(found: Any) -> int:
    return found if type(found) is int else 0


def _free(function: FunctionType) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:  # it has no value yet
            continue

    return values


def _attribute(value: Any, name: str) -> Any:
    """Return an attribute of a module or class, where asking runs no code of the user."""
    if issubclass(type(value), ModuleType):
        return vars(value).get(name)

    return getattr(value, name, None) if value is datetime else None


def _of_datetime(value: Any) -> tuple[str, str] | None:
    is_method = type(value) is BuiltinMethodType and value.__self__ is datetime
    if is_method and value.__name__ in {"now", "utcnow"}:
        return f"datetime.{value.__name__}()", "Use: workflow.now()"

    return None


@cache
def _originals() -> dict[Any, tuple[str, str]]:
    found = {
        function: (f"{module}.{name}, imported by name", f"Use: {remedy}, or import {module}")
        for module, remedy in _REMEDIES.items()
        for name, function in _guard.real(module).items()
        if name not in _TAKE_A_TIME and not name.startswith("_")
    }
    sleep = _guard.real("time")["sleep"]
    return {**found, sleep: (found[sleep][0], "Use: await asyncio.sleep(…)")}


def _bound_early(value: Any) -> tuple[str, str] | None:
    is_function = type(value) in {FunctionType, BuiltinFunctionType, MethodType}
    return _originals().get(value) if is_function else None
