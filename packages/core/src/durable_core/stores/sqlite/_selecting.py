"""Filters of runs as SQL; values are bound, never written into it.

A page must not look at all runs. A comparison by ``=`` with a search attribute, if all must hold,
leads: its index has the runs in order of their start. A list that is ordered by an attribute is led
by that attribute. What else is asked is then tested on the runs that are found so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_core.stores._filter import All, Either, No, Test, beyond, everything

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from durable_core.stores._filter import Condition, Field, Selection
    from durable_core.stores._visibility import Place

__all__ = ["Select"]

_COLUMNS = {
    "WorkflowId": "run.workflow_id",
    "RunId": "run.id",
    "WorkflowType": "run.workflow_type",
    "TaskQueue": "run.task_queue",
    "ExecutionStatus": "run.status",
    "StartTime": "run.started",
    "CloseTime": "run.closed",
}
_NULLABLE = {"CloseTime"}
_LEADS = {"=", "<", "<=", ">", ">=", "between", "starts"}


class Select:
    """One statement, as it is put together.

    Attributes:
        values: What is bound, by name.
    """

    def __init__(self, sql: Mapping[str, str], namespace: str) -> None:
        self.values: dict[str, Any] = {"namespace": namespace}
        self._sql = sql
        self._led = False

    def pages(
        self, selection: Selection, after: Place | None
    ) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Return the statements whose rows, one after the other, are the list."""
        order = selection.order
        if order.field.name == "StartTime":
            return [self._page(selection, after, None)]

        pages: list[tuple[str, Mapping[str, Any]]] = []
        if after is None or after.value is not None:
            pages.append(self._page(selection, after, order.field))

        # Then those that have nothing of what the list is ordered by.
        rest = Select(self._sql, self.values["namespace"])
        last = after if after is not None and after.value is None else None
        pages.append(rest._page(selection, last, None, without=order.field))
        return pages

    def _page(
        self,
        selection: Selection,
        after: Place | None,
        by: Field | None,
        *,
        without: Field | None = None,
    ) -> tuple[str, Mapping[str, Any]]:
        parts = list(everything(selection.where))
        keys = ["run.started", "run.id"]
        if by is not None and not by.builtin:
            source, where = self._lead_by(by.name, parts)
            keys = ["led.value", "led.started", "led.run"]
        elif by is not None:
            source, where = self._from(parts, leads=False)
            column = _COLUMNS[by.name]
            keys.insert(0, column)
            where.append(f"{column} IS NOT NULL")
        else:
            source, where = self._from(parts)
            if self._led:
                keys = ["led.started", "led.run"]

        if without is not None:
            where.append(f"NOT ({self._test(Test(without, 'exists'))})")

        if after is not None:
            there = [after.started, after.run_id]
            there = there if by is None else [after.value, *there]
            than = "<" if selection.order.descending else ">"
            bound = ", ".join(self._bind(each) for each in there)
            where.append(f"({', '.join(keys)}) {than} ({bound})")

        direction = "DESC" if selection.order.descending else "ASC"
        text = self._put(
            "list",
            value="NULL" if by is None else keys[0],
            source=source,
            where=" AND ".join(where),
            order=", ".join(f"{key} {direction}" for key in keys),
        )
        return text, self.values

    def count(self, where: Condition | None) -> tuple[str, Mapping[str, Any]]:
        """Return the statement that counts."""
        source, conditions = self._from(list(everything(where)))
        return self._put("count", source=source, where=" AND ".join(conditions)), self.values

    # Where it begins

    def _from(self, parts: list[Condition], *, leads: bool = True) -> tuple[str, list[str]]:
        """Return what is gone through, and what must hold."""
        for part in parts if leads else ():
            if isinstance(part, Test) and not part.field.builtin and part.operator == "=":
                parts.remove(part)
                source, where = self._begin(part.field.name)
                where.append(self._compare("led.value", part))
                return source, where + self._all(parts)

        where = [self._sql["in_namespace"], *self._all(parts)]
        statuses = [
            part.values[0]
            for part in parts
            if isinstance(part, Test)
            and part.field.name == "ExecutionStatus"
            and part.field.builtin
            and part.operator == "="
        ]
        if statuses and statuses[0] != "running":
            # In these words, since an index is for them alone.
            where.append("run.status <> 'running'")

        return self._sql["from_runs"], where

    def _lead_by(self, name: str, parts: list[Condition]) -> tuple[str, list[str]]:
        """Go through the runs that have an attribute, in its order."""
        source, where = self._begin(name)
        for part in list(parts):
            if isinstance(part, Test) and not part.field.builtin and part.field.name == name:
                if part.operator in _LEADS:
                    where.append(self._compare("led.value", part))

                if part.operator in {*_LEADS, "exists"}:
                    parts.remove(part)

        return source, where + self._all(parts)

    def _begin(self, name: str) -> tuple[str, list[str]]:
        self._led = True
        self.values["led"] = name
        return self._sql["from_attribute"], [self._sql["led"]]

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
        if test.field.builtin:
            column = _COLUMNS[test.field.name]
            found = "1" if test.operator == "exists" else self._compare(column, test)
            # Never NULL: what is not there makes a test false.
            is_there = f"{column} IS NOT NULL"
            return f"{is_there} AND {found}" if test.field.name in _NULLABLE else found

        how = "test_attribute" if self._led else "find_attribute"
        inner = "1" if test.operator == "exists" else self._compare("a.value", test)
        return self._put(how, name=self._bind(test.field.name), test=inner)

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
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def _put(self, statement: str, **parts: str) -> str:
        text = self._sql[statement]
        for part, value in parts.items():
            text = text.replace("{" + part + "}", value)

        return text
