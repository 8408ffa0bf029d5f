"""Changes that a body makes to the user's context, which a continued run does not have.

The object that a user passes as ``context=`` reaches tools by reference and is never recorded, so
what a tool's body leaves behind in it is gone after a crash: the result of the body is recorded,
the body does not run again. Here the attributes are compared before and after a body, and a change
is told once.

Only stored values are read, and only of types that have a JSON form: no property, method, iterator
or serializer of the user's is called. Whatever else a context holds, such as clients and locks, is
passed over.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import logging
import pathlib
import types
import uuid
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import pydantic

__all__ = ["others_ran", "watched"]

_log = logging.getLogger("durable_openai_agents")

# Bounds of the work. Text is one part, whatever its length: it is not copied.
_ATTRIBUTES = 256
_PARTS = 20_000
_DEPTH = 32
_REMEMBERED = 4096

_IMMUTABLE = frozenset(
    {
        *(type(None), int, str, bytes, uuid.UUID),
        *(dt.date, dt.datetime, dt.time, dt.timedelta),
        *(pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())),
    }
)
_OPAQUE = object()
_MISSING = object()

# Attributes without a JSON form, or too large: by class of the context, name and type.
_opaque: set[tuple[type, str, type]] = set()
# What was told already: which bodies ran, whether beside others, and the attribute.
_told: set[tuple[tuple[str, ...], bool, str]] = set()


class _NoFormError(Exception):
    """A value is not compared by its stored parts."""


@dataclasses.dataclass(eq=False, slots=True)
class _Body:
    """A body that is running.

    Attributes:
        name: For people.
        beside: The names of bodies that ran at some time while it did.
        others: Whether workflow code, such as hooks, may have run meanwhile.
    """

    name: str
    beside: set[str] = dataclasses.field(default_factory=set[str])
    others: bool = False


# By the identity of their context.
_running: dict[int, list[_Body]] = {}


@contextmanager
def watched(
    context: object, body: str, *, instead: str = "return it from the tool"
) -> Generator[None]:
    """Warn of attributes of the context that a body leaves changed.

    Args:
        context: The user's own object.
        body: What runs, for people, such as ``tool 'add'``.
        instead: What to do instead of changing the context.
    """
    if context is None:
        yield
        return

    here = _Body(body)
    running = _running.setdefault(id(context), [])
    for other in running:
        other.beside.add(body)
        here.beside.add(other.name)

    running.append(here)
    before = _look(context)
    try:
        yield
    finally:
        running.remove(here)
        if not running:
            _running.pop(id(context), None)

        _tell(_changed(before, _look(context)), here, instead)


def others_ran(context: object) -> None:
    """Note that the run of a context goes on, while bodies of other calls may still run."""
    for body in _running.get(id(context), ()):
        body.others = True


def _tell(attributes: list[str], body: _Body, instead: str) -> None:
    """Warn of attributes that were not told yet."""
    # Each of several bodies may have made the change, and so may a hook, whose changes a replay
    # repeats: then nobody is accused.
    bodies = tuple(sorted({body.name, *body.beside}))
    is_known_alone = [((name,), False) for name in bodies]
    who = (bodies, bool(body.beside) or body.others)
    new = [
        name
        for name in attributes
        if not any((*known, name) in _told for known in (who, *is_known_alone))
    ]
    if not new or len(_told) >= _REMEMBERED:
        return

    _told.update((*who, name) for name in new)
    _log.warning(
        "the context's %s %s changed while %s ran%s %s, or keep it in a store of your own; after a "
        "crash the change is not repeated",
        "attributes" if new[1:] else "attribute",
        ", ".join(map(repr, new)),
        " and ".join(bodies),
        " beside others; if this is what changed it:" if who[1] else ":",
        instead,
    )


def _changed(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    if before is None or after is None:
        return []

    changed: list[str] = []
    for name in {**before, **after}:
        old, new = before.get(name, _MISSING), after.get(name, _MISSING)
        if _OPAQUE not in (old, new) and old != new:
            changed.append(name)

    return changed


# Looking at values


def _look(context: object) -> dict[str, Any] | None:
    """Return what the attributes hold, by content; None if the context is not looked at."""
    try:
        stored = _stored(context)
        if len(stored) > _ATTRIBUTES:
            return None

        return {name: _attribute(type(context), name, value) for name, value in stored.items()}
    except Exception:  # noqa: BLE001  # a diagnosis must not fail the tool
        return None


def _attribute(owner: type, name: str, value: Any) -> Any:
    kind = (owner, name, type(value))
    if kind in _opaque:
        return _OPAQUE

    try:
        return _form(value, [_PARTS], _DEPTH)
    except (_NoFormError, TypeError):
        if len(_opaque) < _REMEMBERED:
            _opaque.add(kind)

        return _OPAQUE


def _form(value: Any, left: list[int], depth: int) -> Any:
    """Return the content of a value: equal for equal content, and fixed when the value changes."""
    left[0] -= 1
    if left[0] < 0 or depth < 0:
        raise _NoFormError

    cls: Any = type(value)
    if cls in _IMMUTABLE:
        return value

    if cls in (bool, float, decimal.Decimal):
        # True, 1 and 1.0 are equal, and NaN does not equal itself.
        return (cls, str(value))

    if issubclass(cls, enum.Enum):
        return (cls, value._name_)

    if issubclass(cls, dict):
        items = dict.copy(value).items()
        return (cls, {_form(k, left, depth - 1): _form(v, left, depth - 1) for k, v in items})

    inner = [_form(part, left, depth - 1) for part in _parts(value, cls)]
    return (cls, frozenset(inner) if issubclass(cls, (set, frozenset)) else tuple(inner))


def _parts(value: Any, cls: Any) -> Iterable[Any]:
    """Return a copy of what a sequence, set or model holds, made without code of the user's."""
    if issubclass(cls, list):
        return list.copy(value)

    if issubclass(cls, tuple):
        return tuple.__iter__(value)

    if issubclass(cls, set):
        return set.copy(value)

    if issubclass(cls, frozenset):
        return frozenset.copy(value)

    if cls is deque:
        return deque(value)

    if _members(cls).is_model:
        return sorted(_stored(value).items(), key=itemgetter(0))

    raise _NoFormError


@dataclasses.dataclass(frozen=True, slots=True)
class _Members:
    """Where the instances of a class store their attributes.

    Attributes:
        is_model: Whether they are data: dataclasses, models of pydantic, msgspec or attrs.
        slots: Descriptors of slots, by name.
        dictionary: Descriptor of ``__dict__``, if there is one.
        extra: Descriptor of the mapping that holds undeclared fields of a pydantic model.
        derived: Names in ``__dict__`` that hold computed values.
    """

    is_model: bool
    slots: dict[str, Any]
    dictionary: Any
    extra: Any
    derived: frozenset[str]


@functools.lru_cache(maxsize=256)
def _members(cls: type) -> _Members:
    own = {name: m for c in reversed(cls.__mro__) for name, m in vars(c).items()}
    slots = {name: m for name, m in own.items() if isinstance(m, types.MemberDescriptorType)}
    dictionaries = [vars(c).get("__dict__") for c in cls.__mro__]
    return _Members(
        is_model=(
            dataclasses.is_dataclass(cls)
            or pydantic.BaseModel in cls.__mro__
            or {"__struct_fields__", "__attrs_attrs__"} & own.keys() != set()
        ),
        slots={name: m for name, m in slots.items() if not name.startswith("__")},
        dictionary=next(
            (d for d in dictionaries if isinstance(d, types.GetSetDescriptorType)), None
        ),
        extra=slots.get("__pydantic_extra__"),
        derived=frozenset(
            name for name, m in own.items() if isinstance(m, functools.cached_property)
        ),
    )


def _stored(value: Any) -> dict[str, Any]:
    """Return the attributes that an object stores; the items of a mapping."""
    cls: Any = type(value)
    if issubclass(cls, dict):
        return {k if type(k) is str else repr(k): v for k, v in dict.copy(value).items()}

    found: dict[str, Any] = {}
    if issubclass(cls, type):
        return found

    members = _members(cls)
    for name, member in members.slots.items():
        try:
            found[name] = member.__get__(value)
        except AttributeError:  # not set
            continue

    if members.dictionary is not None:
        found.update(dict.copy(members.dictionary.__get__(value)))

    if members.extra is not None:
        found.update(members.extra.__get__(value) or {})

    return {name: v for name, v in found.items() if name not in members.derived}
