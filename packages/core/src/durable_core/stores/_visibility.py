"""Finding runs by what they show of themselves.

A filter is read by `_filter_parser`; what it selects is the same in every store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._filter import Condition, Selection
    from ._profiles import IndexedValue
    from ._rows import RunRow

__all__ = ["Listed", "Place", "Visibility"]


class Listed(msgspec.Struct, frozen=True):
    """A run as a list shows it.

    Attributes:
        row: Its row.
        profile: Bytes of the `Profile`; empty if it shows nothing.
        value: What the list is ordered by; None if the run has none, or if that is its start.
    """

    row: RunRow
    profile: bytes
    value: IndexedValue | None = None


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of a list ends: at a run, by what lists are ordered by.

    Attributes:
        value: What the list is ordered by, of the run; None if it has none.
        started: When the run was started.
        run_id: Its unique id.
    """

    value: str | int | float | bool | None
    started: float
    run_id: str


class Visibility(Protocol):
    """Lists and counts runs of a store."""

    async def kinds(self, namespace: str) -> Mapping[str, str]:
        """Return the types of all search attributes that were ever used, by name."""
        ...

    async def profile(self, run_id: str) -> bytes:
        """Return what a run shows of itself: bytes of a `Profile`; empty if that is nothing."""
        ...

    async def page(
        self, namespace: str, selection: Selection, *, after: Place | None, limit: int
    ) -> Sequence[Listed]:
        """Return runs that a filter selects, in its order.

        Those that have nothing of what the list is ordered by come last; equal ones by their
        start, then by their id.

        Args:
            namespace: Of the runs.
            selection: Which, and in what order.
            after: Only what comes after this place.
            limit: At most so many.
        """
        ...

    async def count(self, namespace: str, where: Condition | None) -> Mapping[str, int]:
        """Return how many runs a filter selects, by status."""
        ...
