"""Values on their way into the record: what goes in is what comes back, or the call says why not.

Checked live, before anything is written: that the signature takes so many arguments, that each fits
its annotation, that it comes back equal and of the same type, and that it is not too large. Replay
checks none of it: what is recorded stands, and is compared by digest.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from durable_core import _defaults
from durable_core._signatures import Parameter, Signature, short, signature
from durable_core.exceptions import DecodeError, DefinitionError, EncodeError

from . import _json
from ._forms import form_of
from ._models import is_model, name_of
from ._same import Difference, difference, moves
from ._types import unknown_class

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "check_result",
    "check_size",
    "decode_arguments",
    "encode_arguments",
    "encode_result",
    "expected",
    "result_of",
    "types_of",
]


def expected(
    target: Signature, count: int, types: tuple[Any, ...] | None = None
) -> tuple[Parameter, ...]:
    """Return the parameters that so many arguments go to, of other types if those are given."""
    found = target.parameters_for(count)
    if types is None:
        return found

    other = (*types, *[Any] * count)
    return tuple(Parameter(p.name, t, p.required) for p, t in zip(found, other, strict=False))


def types_of(
    target: Signature, count: int, types: tuple[Any, ...] | None = None
) -> tuple[Any, ...]:
    """Return the types of the parameters that so many arguments go to; see `expected`."""
    return target.types_for(count) if types is None else (*types, *[Any] * count)[:count]


def result_of(body: Callable[..., Any] | None, type_: Any = None) -> Parameter:
    """Return how a result is annotated: by whoever waits for it, else by who returns it."""
    if type_ is not None or body is None:
        return Parameter("return", Any if type_ is None else type_)

    return signature(body).result


def encode_arguments(
    args: tuple[Any, ...], parameters: tuple[Parameter, ...], *, owner: str, what: str
) -> bytes:
    """Return the JSON of arguments.

    Args:
        args: The arguments.
        parameters: What takes them, from `expected`.
        owner: Whose they are, such as ``activity 'charge'``.
        what: All of them together, for the message.

    Raises:
        EncodeError: One has no JSON form, does not fit its annotation, or would come back as
            something else; or they are too large.
    """
    if all(map(_is_safe, args, parameters)):
        data = _json.encode(args, what=what)
        check_size(data, what=what)
        return data

    names = [f"argument {p.name!r} of {owner}" for p in parameters]
    lowered = tuple(
        _json.lower(arg, p.type, what=name)
        for arg, p, name in zip(args, parameters, names, strict=True)
    )
    data = _json.encode(lowered, what=what)
    check_size(data, what=what)
    for arg, part, parameter, name in zip(args, _json.split(data), parameters, names, strict=True):
        _check(arg, part, parameter, what=name)

    return data


def decode_arguments(
    data: bytes, target: Signature, types: tuple[Any, ...] | None = None, *, owner: str
) -> tuple[Any, ...]:
    """Return recorded arguments as a function takes them.

    Raises:
        DecodeError: One does not fit its annotation.
    """
    parts = _json.split(data)
    of = types_of(target, len(parts), types)
    try:
        return tuple([_json.decode(p, t, what=owner) for p, t in zip(parts, of, strict=True)])
    except DecodeError:
        # Once more, to say which.
        parameters = expected(target, len(parts), types)
        return tuple(
            _json.decode(part, p.type, what=f"the recorded argument {p.name!r} of {owner}")
            for part, p in zip(parts, parameters, strict=True)
        )


def encode_result(value: Any, annotated: Parameter, *, what: str) -> bytes:
    """Return the JSON of a result.

    Raises:
        EncodeError: It has no JSON form, does not fit its annotation, or would come back as
            something else; or it is too large.
    """
    data = _json.encode(_json.lower(value, annotated.type, what=what), what=what)
    check_size(data, what=what)
    _check(value, data, annotated, what=what)
    return data


def check_result(annotated: Parameter, *, owner: str) -> None:
    """Check that a result can be brought back, before what it is the result of happens.

    Raises:
        DefinitionError: Nothing of that annotation comes back from a record.
    """
    if annotated.type is Any:
        return

    try:
        reason = _problem(annotated.type, "pydantic" in sys.modules)
    except TypeError:  # not hashable, such as Annotated[int, []]
        reason = _problem.__wrapped__(annotated.type, False)

    if reason:
        raise DefinitionError(
            f"the result of {owner} is annotated as {name_of(annotated.type)}, which cannot be "
            f"recorded: {reason}. Annotate and return data: dataclasses, pydantic or msgspec "
            "models, JSON types"
        )


@lru_cache(maxsize=1024)
def _problem(type_: Any, pydantic: bool) -> str:  # noqa: ARG001, FBT001  # it may be loaded later
    """Return why nothing of an annotation comes back from a record, or nothing if it does."""
    try:
        form_of(type_)
        unknown = unknown_class(type_)
    except TypeError as error:
        return str(error)

    return "" if unknown is None else f"{name_of(unknown)} has no JSON form"


def check_size(data: bytes, *, what: str) -> None:
    """Check that bytes are not too many for one record.

    Raises:
        EncodeError: They are.
    """
    if len(data) > _defaults.PAYLOAD_LIMIT:
        has = "have" if what.startswith("the arguments") else "has"
        raise EncodeError(
            f"{what} {has} {len(data):,} bytes, the limit is {_defaults.PAYLOAD_LIMIT:,}: store "
            "the data elsewhere and pass a reference to it"
        )


def _check(value: Any, data: bytes, parameter: Parameter, *, what: str) -> None:
    if _is_safe(value, parameter):
        return

    try:
        back = _json.decode(data, parameter.type, what=what)
        found = difference(value, back)
    except (DecodeError, RecursionError) as error:
        reason = error.__cause__ or error
        raise EncodeError(
            f"{what} does not fit {name_of(parameter.type)}: {reason}; the value is "
            f"{short(value)}. Pass what the annotation says, or change the annotation"
        ) from error

    if found is not None:
        raise EncodeError(
            f"{what} would not come back from the record as it is: at {found.path} "
            f"{_typed(found.value)} would be {_typed(found.back)}. {_remedy(found, parameter)}"
        )


_SAFE = frozenset({str, bool})
_WIDTH = 2**63


def _is_safe(value: Any, parameter: Parameter) -> bool:
    """Return whether a value is JSON's own, and the same after the way back."""
    cls = type(value)
    if parameter.type is not cls and parameter.type is not Any:
        return False

    return cls in _SAFE or (cls is int and -_WIDTH < value < _WIDTH)


def _typed(value: Any) -> str:
    return f"{short(value, 100)} (a {name_of(type(value))})"


def _remedy(found: Difference, parameter: Parameter) -> str:
    if moves(found.value):
        return (
            "JSON holds a distance from UTC and no rules of a zone: pass the time in UTC, and the "
            "name of the zone beside it if that matters"
        )

    if is_model(type(found.value)) and is_model(type(found.back)):
        return "Give the union inside the model a discriminator, so that pydantic can choose"

    if parameter.note:
        return f"Annotate it with its type: {parameter.note}"

    if parameter.type is Any:
        return "Any brings back JSON's own types only: annotate it with its type"

    return f"Pass what {name_of(parameter.type)} says, or annotate what is passed"
