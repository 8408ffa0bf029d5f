"""Agent runs on the engine that matches by position, in the place of the embedded one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from durable_core import _ids, embedded
from durable_core import exceptions as ex
from durable_core.embedded import Finished
from durable_core.payloads import _json
from durable_core.testing import PositionalEngine
from durable_core.workflow import _defn as workflow_defn

__all__ = ["install", "needs_a_store"]

_installed = False


def install(monkeypatch) -> None:
    """Let `durable_core.embedded.run` use positional engines, one per id, until the test ends."""
    runs: dict[str, _Run] = {}

    async def run(
        workflow: Any,
        args: tuple[Any, ...] = (),
        *,
        id: str | None = None,
        resources: Mapping[str, Any] | None = None,
        on_failed: str = "resume",
        **_: Any,
    ) -> Finished:
        workflow_id = id or _ids.uuid7()
        found = runs.setdefault(workflow_id, _Run(workflow_id, args))
        if found.args != args:
            raise ex.WorkflowAlreadyStartedError("other input", workflow_id=workflow_id)

        return await found.call(workflow, resources or {}, on_failed)

    monkeypatch.setattr(embedded, "run", run)
    monkeypatch.setitem(globals(), "_installed", True)


def needs_a_store() -> None:
    """End a test that has come to look at what is stored, where nothing is."""
    if _installed:
        pytest.skip("the rest looks at what is stored")


class _Run:
    """One run, over the calls with its id."""

    def __init__(self, workflow_id: str, args: tuple[Any, ...]) -> None:
        self.args = args
        self._id = workflow_id
        self._engine = PositionalEngine(workflow_id)
        self._failed: Finished | None = None

    async def call(self, workflow: Any, resources: Mapping[str, Any], on_failed: str) -> Finished:
        if self._failed is not None and on_failed == "raise":
            return self._failed

        definition = workflow_defn.definition_of(workflow)

        async def code() -> Any:
            instance = () if definition.cls is None else (definition.cls(),)
            return await definition.run_fn(*instance, *self.args)

        try:
            result = await self._engine.run(code, resources=resources)
        except Exception as error:
            declared = (ex.FailureError, TimeoutError, *definition.failure_exception_types)
            if not (isinstance(error, declared) or self._engine.failed_with(error)):
                raise

            self._failed = Finished(self._id, self._id, resources, None, error)
            return self._failed

        data = _json.encode(result, what="the result")
        return Finished(self._id, self._id, resources, data, None)
