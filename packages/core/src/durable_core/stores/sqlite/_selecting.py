"""Filters of runs as SQL; values are bound, never written into it.

A page must not look at all runs. If something that must hold leaves few runs, which a look at its
index tells, these are gone through and sorted. Else an index has the runs in the order of the list:
that of the attribute by which they are ordered, of an attribute that is compared by ``=``, or of
their starts; and what else is asked is tested until a page is full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_core.stores._filter import All, Either, No, Test, beyond, everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from durable_core.stores._filter import Condition, Field, Selection
    from durable_core.stores._visibility import Place

    Statement = tuple[str, Mapping[str, Any]]

__all__ = ["FEW", "Select"]

FEW = 1000
"""So many runs are found one by one and sorted sooner than others are passed over."""

_COLUMNS = {
    "WorkflowId": "workflow_id",
    "RunId": "id",
    "WorkflowType": "workflow_type",
    "TaskQueue": "task_queue",
    "ExecutionStatus": "status",
    "StartTime": "started",
    "CloseTime": "closed",
}
_NULLABLE = {"CloseTime"}
_PROBED = 10
_BY_START = ["run.started", "run.id"]
_LED = ["led.started", "led.run"]


class Select:
    """Statements about the runs of a namespace.

    Args:
        sql: Of ``listing.sql``.
        namespace: Of the runs.
        count: Executes a statement that counts.
    """

    def __init__(
        self, sql: Mapping[str, str], namespace: str, count: Callable[[str, Mapping[str, Any]], int]
    ) -> None:
        self._sql = sql
        self._values: dict[str, Any] = {"namespace": namespace, "few": FEW}
        self._count = count

    def pages(self, selection: Selection, after: Place | None) -> Iterator[Statement]:
        """Yield the statements whose rows, one after the other, are the list."""
        order = selection.order
        if order.field.name == "StartTime":
            yield self._page(selection, after)
            return

        if after is None or after.value is not None:
            yield self._page(selection, after, by=order.field)

        # Then those that have nothing of what the list is ordered by.
        last = after if after is not None and after.value is None else None
        yield self._page(selection, last, without=order.field)

    def counts(self, where: Condition | None) -> Statement:
        """Return the statement that counts."""
        parts = everything(where)
        source, conditions, _ = self._from(parts, None)
        return self._put("count", source, [*conditions, *self._all(parts)]), self._values

    def _page(
        self,
        selection: Selection,
        after: Place | None,
        *,
        by: Field | None = None,
        without: Field | None = None,
    ) -> Statement:
        parts = everything(selection.where)
        source, where, keys = self._from(parts, by)
        where += self._all(parts)
        if without is not None:
            where.append(f"NOT ({self._test(Test(without, 'exists'))})")

        if after is not None:
            there = [after.started, after.run_id]
            there = there if by is None else [after.value, *there]
            than = "<" if selection.order.descending else ">"
            bound = ", ".join(map(self._bind, there))
            where.append(f"({', '.join(keys)}) {than} ({bound})")

        way = "DESC" if selection.order.descending else "ASC"
        value = "NULL" if by is None else keys[0]
        order = ", ".join(f"{key} {way}" for key in keys)
        return self._put("page", source, where, value=value, order=order), self._values

    # Where it begins

    def _from(
        self, parts: Sequence[Condition], by: Field | None
    ) -> tuple[str, list[str], list[str]]:
        """Return what is gone through, what must hold of it, and what it is ordered by."""
        few = self._few(parts)
        if by is not None and not by.builtin:
            self._values["led"] = by.name
            where = [self._sql["led"], *self._bounds("led.value", by, parts)]
            return self._begin("attribute", few), where, ["led.value", *_LED]

        if by is not None:
            column = f"run.{_COLUMNS[by.name]}"
            where = [self._sql["in_namespace"], f"{column} IS NOT NULL"]
            where += self._bounds(column, by, parts)
            return self._begin("runs", few), where, [column, *_BY_START]

        if few is None:
            for part in parts:
                if isinstance(part, Test) and not part.field.builtin and part.operator == "=":
                    self._values["led"] = part.field.name
                    where = [self._sql["led"], self._compare("led.value", part)]
                    return self._begin("attribute", None), where, _LED

        where = [self._sql["in_namespace"]]
        tests = [part for part in parts if isinstance(part, Test) and _is_status(part)]
        if any(part.values[0] != "running" for part in tests):
            # In these words, since an index is for them alone.
            where.append("run.status <> 'running'")

        return self._begin("runs", few), where, _BY_START

    def _bounds(self, column: str, by: Field, parts: Sequence[Condition]) -> list[str]:
        """Return what must hold of the column that is gone through in order.

        Else those before the first that fits would be passed over one by one.
        """
        tests = [part for part in parts if isinstance(part, Test) and part.field == by]
        return [self._compare(column, test) for test in tests if test.operator != "exists"]

    def _begin(self, what: str, few: str | None) -> str:
        if few is None:
            return self._sql[f"from_{what}"]

        return self._sql[f"from_few_{what}"].replace("{few}", few)

    def _few(self, parts: Sequence[Condition]) -> str | None:
        """Return what selects the fewest runs of those that one condition leaves, if few do."""
        best, least = None, FEW
        for part in [part for part in parts if isinstance(part, Test)][:_PROBED]:
            found = self._leaves(part)
            if found is not None:
                number = self._count(self._sql["probe"].replace("{few}", found), self._values)
                if number < least:
                    best, least = found, number

        return best

    def _leaves(self, test: Test) -> str | None:
        """Return what selects the runs that a condition leaves, by an index; None without one."""
        if _is_status(test):
            running = test.values[0] == "running"
            return (
                self._sql["few_runs"].replace("{test}", "r.status = 'running'") if running else None
            )

        if test.field.name == "WorkflowId" and test.operator in {"=", "in", "starts"}:
            inner = self._compare("r.workflow_id", test)
            return self._sql["few_runs"].replace("{test}", inner)

        if test.field.builtin or test.operator == "exists":
            return None

        inner = self._compare("a.value", test)
        name = self._bind(test.field.name)
        return self._sql["few_attributes"].replace("{name}", name).replace("{test}", inner)

    # Conditions

    def _all(self, parts: Sequence[Condition]) -> list[str]:
        return [f"({self._condition(part)})" for part in parts]

    def _condition(self, condition: Condition) -> str:
        match condition:
            case No():
                return f"NOT ({self._condition(condition.part)})"
            case All():
                return " AND ".join(self._all(condition.parts)) or "1"
            case Either():
                return " OR ".join(self._all(condition.parts)) or "0"
            case Test():
                return self._test(condition)

    def _test(self, test: Test) -> str:
        exists = test.operator == "exists"
        if test.field.builtin:
            column = f"run.{_COLUMNS[test.field.name]}"
            # With a plus no index is used: one of ids would find many runs, to be sorted by start.
            leads = test.operator == "=" or test.field.name == "StartTime"
            found = "1" if exists else self._compare(column if leads else f"+{column}", test)
            # Never NULL: what is not there makes a test false.
            return f"{column} IS NOT NULL AND {found}" if test.field.name in _NULLABLE else found

        inner = "1" if exists else self._compare("a.value", test)
        name = self._bind(test.field.name)
        return self._sql["has_attribute"].replace("{name}", name).replace("{test}", inner)

    def _compare(self, column: str, test: Test) -> str:
        match test.operator:
            case "in":
                return f"{column} IN ({', '.join(map(self._bind, test.values))})"
            case "between":
                low, high = map(self._bind, test.values)
                return f"{column} BETWEEN {low} AND {high}"
            case "starts":
                prefix = str(test.values[0])
                found = f"{column} >= {self._bind(prefix)}"
                end = beyond(prefix)
                return found if end is None else f"{found} AND {column} < {self._bind(end)}"
            case _:
                return f"{column} {test.operator} {self._bind(test.values[0])}"

    def _bind(self, value: Any) -> str:
        name = f"v{len(self._values)}"
        self._values[name] = value
        return f":{name}"

    def _put(self, statement: str, source: str, where: Sequence[str], **parts: str) -> str:
        text = self._sql[statement]
        for part, value in {"source": source, "where": " AND ".join(where), **parts}.items():
            text = text.replace("{" + part + "}", value)

        return text


def _is_status(test: Test) -> bool:
    """Return whether a condition is that the status is a certain one."""
    return (test.field.name, test.field.builtin, test.operator) == ("ExecutionStatus", True, "=")
