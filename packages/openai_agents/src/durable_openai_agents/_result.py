"""What a durable run returns: the SDK's own result, and the id of its run."""

from __future__ import annotations

from agents import RunResult

__all__ = ["DurableRunResult", "durable_result"]


class DurableRunResult(RunResult):
    """The SDK's result of a run.

    Attributes:
        workflow_id: Id of the run; of the workflow, if the agent ran inside one of the user's own.
    """

    workflow_id: str


def durable_result(result: RunResult, workflow_id: str) -> DurableRunResult:
    """Return a result that knows its run. It stays the same object, which hooks may hold."""
    result.__class__ = DurableRunResult
    assert isinstance(result, DurableRunResult)
    result.workflow_id = workflow_id
    return result
