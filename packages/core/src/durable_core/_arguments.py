"""temporalio's way to pass arguments: one positionally, or several by ``args=``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from . import _defaults
from ._signatures import short
from .exceptions import ArgumentError

__all__ = ["UNSET", "arguments", "check_workflow_id"]


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


def check_workflow_id(workflow_id: Any) -> None:
    """Check that something can be the id of a run.

    Raises:
        TypeError: It is no str.
        ValueError: It is empty or too long, or cannot be written as UTF-8.
    """
    use = "use a short name, such as a key of your own data or a hash of it"
    if not isinstance(workflow_id, str):
        raise TypeError(f"a workflow id is a str, got {workflow_id!r}: {use}")

    longest = _defaults.ID_LENGTH
    if not workflow_id or len(workflow_id) > longest:
        shown = (
            workflow_id
            if len(workflow_id) <= 60
            else f"{workflow_id[:60]}… ({len(workflow_id)} characters)"
        )
        raise ValueError(f"a workflow id has 1 to {longest} characters, got {shown!r}: {use}")

    try:
        workflow_id.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"a workflow id is written as UTF-8, got {workflow_id!r} ({error.reason}): {use}"
        ) from error
