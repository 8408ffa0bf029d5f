"""What a durable run returns: the SDK's own result, and the id of its run."""

from __future__ import annotations

import json
from typing import Any

from agents import Agent, RunResult
from durable_core.exceptions import NotSupported

from . import _outputs

__all__ = ["DurableRunResult", "RecordedRunResult", "durable_result", "recorded_result"]


class DurableRunResult(RunResult):
    """The SDK's result of a run.

    Attributes:
        workflow_id: Id of the run; of the workflow, if the agent ran inside one of the user's own.
    """

    workflow_id: str


class _UnknownError(NotSupported, AttributeError):
    """What a record alone does not tell."""


class RecordedRunResult(DurableRunResult):
    """What is left of a completed run whose code has changed too much to be replayed.

    It has its ``final_output`` and ``workflow_id``; asking for anything else raises `NotSupported`.
    """

    def __getattr__(self, name: str) -> Any:
        """Refuse what the record alone does not tell."""
        raise self._unknown(name)

    def __eq__(self, other: object) -> bool:
        """Compare by identity: what it would be compared by is not known."""
        return self is other

    __hash__ = None  # type: ignore[assignment]  # as of any other result

    @property
    def last_agent(self) -> Agent[Any]:
        """Refuse it too: only its name is recorded."""
        raise self._unknown("last_agent")

    def _unknown(self, name: str) -> NotSupported:
        return _UnknownError(
            f"run {self.workflow_id!r} is completed, and its code has changed so that it cannot be "
            f"replayed: only its final_output is known, not {name.removeprefix('_')!r}. Restore "
            "what the code did to have the rest"
        )

    def __str__(self) -> str:
        """Return the final output for people."""
        return f"RunResult of {self.workflow_id!r}, from the record:\n{self.final_output}"

    __repr__ = __str__


def durable_result(result: RunResult, workflow_id: str) -> DurableRunResult:
    """Return a result that knows its run. It stays the same object, which hooks may hold."""
    result.__class__ = DurableRunResult
    assert isinstance(result, DurableRunResult)
    result.workflow_id = workflow_id
    return result


def recorded_result(record: bytes, workflow_id: str) -> DurableRunResult:
    """Return a result of what a completed run has recorded of it."""
    result = object.__new__(RecordedRunResult)
    result.workflow_id = workflow_id
    result.interruptions = []
    result.final_output = _outputs.load(json.loads(record)["final_output"])
    return result
