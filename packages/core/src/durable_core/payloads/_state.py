"""What an exception holds ↔ JSON: its arguments, its attributes, its slots.

`restore` makes an object without calling anything of its class, so it does not matter what the
class's ``__init__`` takes, or does.
"""

from __future__ import annotations

import dataclasses
import types
from typing import TYPE_CHECKING, Any

from . import _tagged

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["restore", "state_of"]

# Of builtins: the object that lacks an attribute, which is mostly alive; what a group is made of.
_NOT_KEPT = frozenset({"obj", "exceptions", "message"})


def state_of(error: BaseException, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return JSON's own types that rebuild an exception.

    Args:
        error: The exception.
        without: Attributes that are kept elsewhere.

    Raises:
        UnrecordableError: It holds something that would not come back as it is.
    """
    attributes = {
        name: value
        for name, value in vars(error).items()
        if not name.startswith("__") and name not in without
    }
    slots = _slot_values(error)
    members: list[BaseException] = []
    if isinstance(error, BaseExceptionGroup):
        members.extend(error.exceptions)

    seen: dict[str, type] = {}
    state: dict[str, Any] = {"args": _tagged.dump([] if members else list(error.args), seen)}
    if isinstance(error, BaseExceptionGroup):
        state["message"] = error.message

    if attributes:
        state["attributes"] = _tagged.dump(attributes, seen)

    if slots:
        state["slots"] = _tagged.dump(slots, seen)

    back = restore(type(error), state, seen.get, members)
    if not without and _text(back) != _text(error):
        raise _tagged.UnrecordableError(f"it would come back as {_text(back)}")

    return state


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # of the user's class: the same is raised by both
        return ""


def restore(
    cls: type[BaseException],
    state: dict[str, Any],
    find: _tagged.Find,
    members: list[BaseException],
) -> BaseException:
    """Return an exception of a class.

    Args:
        cls: The class.
        state: What `state_of` returned.
        find: Finds classes of its attributes.
        members: The exceptions inside it, if it is a group.

    Raises:
        LookupError: A class is not found.
        ValueError, TypeError: The state does not fit.
    """
    # Of the builtin below it, as the class's own `__new__` may want arguments.
    make: Any = next(c for c in cls.__mro__ if c.__module__ == "builtins").__new__
    if issubclass(cls, BaseExceptionGroup):
        error: BaseException = make(cls, state["message"], members)
    else:
        error = make(cls)
        error.args = tuple(_tagged.load(state["args"], find))

    slots = _slots(cls)
    for name, value in state.get("slots", {}).items():
        if name in slots:
            slots[name].__set__(error, _tagged.load(value, find))

    vars(error).update(_tagged.load(state.get("attributes", {}), find))
    for field in _missing_fields(error):
        object.__setattr__(error, field.name, field.default_factory())

    return error


def _slots(cls: type) -> dict[str, Any]:
    """Return what a class keeps outside of ``__dict__``: builtins do, and ``__slots__``."""
    return {
        name: descriptor
        for base in reversed(cls.__mro__)
        for name, descriptor in vars(base).items()
        if isinstance(descriptor, types.MemberDescriptorType)
        and not name.startswith("__")
        and not (name in _NOT_KEPT and base.__module__ == "builtins")
    }


def _slot_values(error: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, slot in _slots(type(error)).items():
        value = getattr(error, name, None)
        # What a builtin was not given reads as None, but an object that was given None is another.
        absent = slot.__objclass__.__module__ == "builtins" or not hasattr(error, name)
        if value is not None or not absent:
            found[name] = value

    return found


def _missing_fields(error: BaseException) -> Iterator[Any]:
    """Yield fields of a dataclass that the record is too old to hold, and that need a value."""
    if dataclasses.is_dataclass(error):
        for field in dataclasses.fields(error):
            factory = field.default_factory is not dataclasses.MISSING
            if factory and not hasattr(error, field.name):
                yield field
