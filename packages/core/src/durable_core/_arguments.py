"""temporalio's way to pass arguments: one positionally, or several by ``args=``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["UNSET", "arguments"]


class _Unset:
    def __repr__(self) -> str:
        return "<unset>"


UNSET: Final[Any] = _Unset()


def arguments(arg: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments as a tuple.

    Raises:
        ValueError: Both ways were used at once.
    """
    if arg is UNSET:
        return tuple(args)

    if args:
        raise ValueError("pass one argument positionally or several by args=, not both")

    return (arg,)
