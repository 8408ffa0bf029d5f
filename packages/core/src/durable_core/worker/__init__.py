"""Workers own runs and execute activities."""

from __future__ import annotations

from ._replayer import Replayer, WorkflowReplayResult, WorkflowReplayResults
from ._worker import Worker

__all__ = ["Replayer", "Worker", "WorkflowReplayResult", "WorkflowReplayResults"]
