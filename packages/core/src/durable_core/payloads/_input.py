"""The input of a run, as it is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _digest, _faithful, _json

if TYPE_CHECKING:
    from durable_core._signatures import Signature

__all__ = ["digest_of", "encoded_input", "types_of"]


def types_of(target: Signature | None, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the types of arguments, as far as it is known what they are for."""
    return () if target is None else _faithful.types_of(target, len(args))


def digest_of(name: str, target: Signature | None, args: tuple[Any, ...]) -> str:
    """Return what tells the input of a workflow from another one.

    Raises:
        EncodeError: An argument has no JSON form.
    """
    what = f"the input of workflow {name!r}"
    lowered = _json.lower_args(args, types_of(target, args), what=what)
    return _digest.digest(lowered, what=what)


def encoded_input(name: str, target: Signature | None, args: tuple[Any, ...]) -> bytes:
    """Return the JSON of the input of a workflow, checked as far as it is known what it is for.

    Raises:
        ArgumentError: The workflow does not take so many arguments.
        EncodeError: An argument cannot be recorded, or is too large.
    """
    owner, what = f"workflow {name!r}", f"the input of workflow {name!r}"
    if target is None:
        data = _json.encode(args, what=what)
        _faithful.check_size(data, what=what)
        return data

    target.check_count(args, what=owner)
    _faithful.check_result(target.result, owner=owner)
    parameters = _faithful.expected(target, len(args))
    return _faithful.encode_arguments(args, parameters, owner=owner, what=what)
