"""Which modules of the user's a tool runs code of, found through the SDK's wrappers.

The SDK keeps the function of a tool in closures and attributes of its own. They are walked,
whatever they are called, so that an exception of a class of the user's is known by the tool alone,
also in a process that has only replayed the call.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

__all__ = ["modules_behind"]

_MOST = 200
_NOT_THE_USERS = {"agents", "durable_core", "durable_openai_agents"} | sys.stdlib_module_names


def modules_behind(function: Any) -> tuple[str, ...]:
    """Return the modules of the callables that a callable of the SDK leads to, nearest first."""
    found: dict[str, None] = {}
    seen: set[int] = set()
    waiting = deque([function])
    while waiting and len(seen) < _MOST:
        part = waiting.popleft()
        if id(part) in seen or isinstance(part, type) or not callable(part):
            continue

        seen.add(id(part))
        module = getattr(part, "__module__", None) or type(part).__module__
        if module == "__main__" or module.partition(".")[0] not in _NOT_THE_USERS:
            found[module] = None

        waiting.extend(_inside(part))

    return tuple(found)


def _inside(part: Any) -> Iterator[Any]:
    if inspect.ismethod(part):
        yield part.__func__
        yield part.__self__
    elif isinstance(part, functools.partial):
        yield part.func
        yield from part.args
        yield from part.keywords.values()

    for cell in getattr(part, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue  # not assigned yet

    # Of an object only what it holds: nothing is asked for that could compute.
    yield from getattr(part, "__dict__", {}).values()
