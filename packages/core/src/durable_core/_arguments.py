"""temporalio's way to pass arguments: one positionally, or several by ``args=``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from ._signatures import short
from .exceptions import ArgumentError

__all__ = ["UNSET", "arguments"]


class _Unset:
    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final[Any] = _Unset()


def arguments(arg: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments as a tuple.

    Raises:
        ValueError: Both ways were used at once.
        ArgumentError: ``args`` is one value instead of a list of them.
    """
    given = cast("object", args)
    # A text would come apart into its characters, and a set has no order.
    if isinstance(given, (str, bytes, bytearray)) or not isinstance(given, Sequence):
        raise ArgumentError(f"args takes a list of arguments, got {short(args)}: pass args=[…]")

    if arg is UNSET:
        return tuple(args)

    if args:
        raise ValueError("pass one argument positionally or several by args=, not both")

    return (arg,)
