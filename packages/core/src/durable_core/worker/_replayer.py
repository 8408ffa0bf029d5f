"""Replaying recorded histories against today's code: the test before a deployment."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from durable_core.history import effective

from ._host import Registered
from ._replay import rebuild

if TYPE_CHECKING:
    from durable_core.client import WorkflowHistory

__all__ = ["Replayer", "WorkflowReplayResult", "WorkflowReplayResults"]


@dataclass(frozen=True, slots=True)
class WorkflowReplayResult:
    """How one replay ended.

    Attributes:
        history: What was replayed.
        replay_failure: Why today's code cannot continue it; None if it can.
    """

    history: WorkflowHistory
    replay_failure: Exception | None


@dataclass(frozen=True, slots=True)
class WorkflowReplayResults:
    """How several replays ended.

    Attributes:
        replay_failures: Why today's code cannot continue runs, by their run id.
    """

    replay_failures: Mapping[str, Exception]


class Replayer:
    """Checks that workflow code asks for what recorded histories hold. Executes nothing.

    ::

        replayer = Replayer(workflows=[Order])
        await replayer.replay_workflow(WorkflowHistory.from_json(Path("order.json").read_text()))

    Args:
        workflows: Workflow classes and functions.
        resources: Live objects for code that asks for some, see
            `durable_core.adapter.Engine.resource`.
    """

    def __init__(
        self,
        *,
        workflows: Sequence[Callable[..., Any]],
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        self._registered = Registered(workflows, None)
        self._resources = resources

    async def replay_workflow(
        self, history: WorkflowHistory, *, raise_on_replay_failure: bool = True
    ) -> WorkflowReplayResult:
        """Replay one history.

        Args:
            history: From `WorkflowHandle.fetch_history` or `WorkflowHistory.from_json`.
            raise_on_replay_failure: Whether to raise what the code meets, or to return it.

        Raises:
            NotRegisteredError: Its workflow is not among those given.
            NonDeterminismError: The code asks for something else than is recorded.
            Exception: What a bug in the code raised.
        """
        definition = self._registered.workflow(history.start.workflow_type)
        failure: Exception | None = None
        try:
            run = await rebuild(
                history.start,
                effective(history.activations),
                definition,
                self._registered,
                resources=self._resources,
            )
            run.close()
        except Exception as error:
            if raise_on_replay_failure:
                raise

            failure = error

        return WorkflowReplayResult(history, failure)

    async def replay_workflows(
        self,
        histories: AsyncIterable[WorkflowHistory] | Iterable[WorkflowHistory],
        *,
        raise_on_replay_failure: bool = False,
    ) -> WorkflowReplayResults:
        """Replay several histories; see `replay_workflow`."""
        failures: dict[str, Exception] = {}
        async for history in _each(histories):
            result = await self.replay_workflow(
                history, raise_on_replay_failure=raise_on_replay_failure
            )
            if result.replay_failure is not None:
                failures[history.run_id] = result.replay_failure

        return WorkflowReplayResults(failures)


async def _each(
    histories: AsyncIterable[WorkflowHistory] | Iterable[WorkflowHistory],
) -> AsyncIterable[WorkflowHistory]:
    if isinstance(histories, AsyncIterable):
        async for history in histories:
            yield history
    else:
        for history in histories:
            yield history
