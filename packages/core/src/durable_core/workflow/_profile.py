"""What a run shows of itself: search attributes, memo, and details for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

from durable_core._arguments import UNSET
from durable_core._search_attributes import SearchAttributeUpdate

from ._calls import runtime

__all__ = [
    "Profile",
    "get_current_details",
    "memo",
    "memo_value",
    "set_current_details",
    "upsert_memo",
    "upsert_search_attributes",
]

T = TypeVar("T")
D = TypeVar("D")


class Profile(Protocol):
    """What a run shows of itself, as its engine keeps it."""

    current_details: str

    def memo(self) -> Mapping[str, Any]:
        """Return the memo."""
        ...

    def memo_value(self, key: str, type_hint: Any) -> Any:
        """Return one value of the memo."""
        ...

    def set_current_details(self, details: str) -> None:
        """Say something for people."""
        ...

    def upsert_attributes(self, updates: object) -> None:
        """Set search attributes, or take them away."""
        ...

    def upsert_memo(self, updates: Mapping[str, Any]) -> None:
        """Change the memo."""
        ...


def upsert_search_attributes(attributes: Sequence[SearchAttributeUpdate[Any]]) -> None:
    """Set search attributes of the run, or take them away, in the commit of this step.

    Whoever lists runs sees them as soon as what the step asks for is durable, and not before.

    Args:
        attributes: What `SearchAttributeKey.value_set` and ``value_unset`` return.

    Raises:
        SearchAttributeError: A name, a type or a value cannot be kept, or there are too many; none
            is changed then. An attribute that other runs have with another type stalls the run
            instead, when the step is committed.
        ReadOnlyContextError: Called by a query or a validator.
        NotInWorkflowError: Called outside workflow code.
    """
    runtime().profile.upsert_attributes(attributes)


def memo() -> Mapping[str, Any]:
    """Return the memo of the run, its values as JSON has them; `memo_value` knows types.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().profile.memo()


@overload
def memo_value(key: str, default: Any = ...) -> Any: ...


@overload
def memo_value(key: str, *, type_hint: type[T]) -> T: ...


@overload
def memo_value(key: str, default: D, *, type_hint: type[T]) -> T | D: ...


def memo_value(key: str, default: Any = UNSET, *, type_hint: Any = None) -> Any:
    """Return one value of the run's memo.

    Args:
        key: Of the value.
        default: Returned if there is none.
        type_hint: What it is decoded to; JSON's own types without one.

    Raises:
        KeyError: There is none, and no default.
        DecodeError: It does not fit the type.
        NotInWorkflowError: Called outside workflow code.
    """
    profile = runtime().profile
    try:
        return profile.memo_value(key, type_hint)
    except KeyError:
        if default is UNSET:
            raise

        return default


def upsert_memo(updates: Mapping[str, Any]) -> None:
    """Change the memo of the run, in the commit of this step; keys that are not named stay.

    Args:
        updates: Values by key; None takes a key away.

    Raises:
        EncodeError: A value cannot be recorded.
        CallError: What the run has changed in all is too large.
        ReadOnlyContextError: Called by a query or a validator.
        NotInWorkflowError: Called outside workflow code.
    """
    runtime().profile.upsert_memo(updates)


def set_current_details(description: str) -> None:
    """Say what the run is at, for people; it is shown once this step is committed.

    Words are recorded and never compared: a replay may say something else.

    Args:
        description: Of several lines, if need be. It takes the place of what was said before.

    Raises:
        CallError: It is too long.
        ReadOnlyContextError: Called by a query or a validator.
        NotInWorkflowError: Called outside workflow code.
    """
    runtime().profile.set_current_details(description)


def get_current_details() -> str:
    """Return what the run last said by `set_current_details`; empty at first.

    Raises:
        NotInWorkflowError: Called outside workflow code.
    """
    return runtime().profile.current_details
