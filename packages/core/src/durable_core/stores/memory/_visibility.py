"""Lists and counts of the store in memory: filters, asked of each run."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from durable_core.stores._filter import (
    All,
    Condition,
    Either,
    Field,
    No,
    Selection,
    Test,
    Value,
    beyond,
)
from durable_core.stores._profiles import ProfileRow
from durable_core.stores._rows import RunRow
from durable_core.stores._visibility import Listed, Place

from ._database import Database

__all__ = ["MemoryVisibility"]

Found = tuple[RunRow, "ProfileRow | None"]


class MemoryVisibility:
    """A `Visibility` of a store in memory."""

    def __init__(self, read: Callable[[Callable[[Database], Any]], Any]) -> None:
        self._read = read

    async def kinds(self, namespace: str) -> Mapping[str, str]:
        """Return the types of all search attributes that were ever used, by name."""
        kinds: dict[tuple[str, str], str] = self._read(lambda d: dict(d.kinds))
        return {name: kind for (space, name), kind in kinds.items() if space == namespace}

    async def profile(self, run_id: str) -> bytes:
        """Return what a run shows of itself."""
        found: bytes = self._read(lambda d: d.profile(run_id))
        return found

    async def page(
        self, namespace: str, selection: Selection, *, after: Place | None, limit: int
    ) -> Sequence[Listed]:
        """Return runs that a filter selects, in its order."""
        order = selection.order
        by_start = order.field.name == "StartTime"
        found = [
            Listed(
                row,
                profile.data if profile else b"",
                None if by_start else next(iter(_values(order.field, row, profile)), None),
            )
            for row, profile in self._found(namespace, selection.where)
        ]
        # Those without a value come last in either direction.
        with_value = [each for each in found if each.value is not None]
        without = [each for each in found if each.value is None]
        for some in (with_value, without):
            some.sort(key=_place, reverse=order.descending)

        if after is not None:
            with_value = (
                []
                if after.value is None
                else [each for each in with_value if _is_after(each, after, order.descending)]
            )
            if after.value is None:
                without = [each for each in without if _is_after(each, after, order.descending)]

        return [*with_value, *without][:limit]

    async def count(self, namespace: str, where: Condition | None) -> Mapping[str, int]:
        """Return how many runs a filter selects, by status."""
        return Counter(row.status for row, _ in self._found(namespace, where))

    def _found(self, namespace: str, where: Condition | None) -> list[Found]:
        runs: Iterable[Found] = self._read(Database.shown)
        return [
            (row, profile)
            for row, profile in runs
            if row.namespace == namespace and (where is None or _holds(where, row, profile))
        ]


def _place(listed: Listed) -> tuple[Any, float, str]:
    value = 0 if listed.value is None else listed.value
    return value, listed.row.started, listed.row.run_id


def _is_after(listed: Listed, after: Place, descending: bool) -> bool:  # noqa: FBT001
    there = (0 if after.value is None else after.value), after.started, after.run_id
    return _place(listed) < there if descending else _place(listed) > there


def _holds(condition: Condition, row: RunRow, profile: ProfileRow | None) -> bool:
    match condition:
        case No():
            return not _holds(condition.part, row, profile)
        case All():
            return all(_holds(part, row, profile) for part in condition.parts)
        case Either():
            return any(_holds(part, row, profile) for part in condition.parts)
        case Test():
            values = _values(condition.field, row, profile)
            return any(_is(condition, value) for value in values)


def _values(field: Field, row: RunRow, profile: ProfileRow | None) -> Sequence[Value]:
    if not field.builtin:
        values = () if profile is None else profile.values
        return [value for name, value in values if name == field.name]

    builtin: dict[str, Value | None] = {
        "WorkflowId": row.workflow_id,
        "RunId": row.run_id,
        "WorkflowType": row.workflow_type,
        "TaskQueue": row.task_queue,
        "ExecutionStatus": row.status,
        "StartTime": row.started,
        "CloseTime": row.closed,
    }
    value = builtin[field.name]
    return () if value is None else (value,)


def _is(test: Test, there: Value) -> bool:
    value, given = cast("Any", there), cast("tuple[Any, ...]", test.values)
    match test.operator:
        case "exists":
            return True
        case "=" | "in":
            return value in given
        case "between":
            return bool(given[0] <= value <= given[1])
        case "starts":
            end = beyond(given[0])
            return bool(given[0] <= value and (end is None or value < end))
        case _:
            return bool(_COMPARE[test.operator](value, given[0]))


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
