"""Arguments of what is sent to a run, by a client or by another run, as they are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_core._signatures import signature

from . import _faithful, _json

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["encoded", "types_of"]


def encoded(target: str | Callable[..., Any], args: tuple[Any, ...], owner: str) -> bytes:
    """Return the JSON of the arguments of what is sent to a run, checked as far as it is known."""
    what = f"the arguments of {owner}"
    if isinstance(target, str):
        data = _json.encode(args, what=what)
        _faithful.check_size(data, what=what)
        return data

    takes = signature(target).without_self()
    takes.check_count(args, what=owner)
    parameters = _faithful.expected(takes, len(args))
    return _faithful.encode_arguments(args, parameters, owner=owner, what=what)


def types_of(target: str | Callable[..., Any], count: int) -> tuple[Any, ...]:
    """Return the types of so many arguments, as far as they are known."""
    if isinstance(target, str):
        return ()

    return _faithful.types_of(signature(target).without_self(), count)
