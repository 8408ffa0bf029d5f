"""The way out of the guard: what is called through here belongs to the process, not to the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["outside"]

P = ParamSpec("P")
T = TypeVar("T")


def outside(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function without the guard that keeps clocks, randomness and I/O from workflow code.

    For what belongs to the process and not to the run, such as an exporter of traces that starts
    its thread when it first hears of one. What it returns must not decide what the run does.

    Args:
        fn: A plain function. Of a coroutine function only the making of the coroutine is outside.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    return fn(*args, **kwargs)
