"""Other runs as workflow code talks to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, overload

from durable_core._arguments import UNSET, arguments

from . import _defn, _handlers
from ._calls import runtime

__all__ = [
    "ExternalWorkflowHandle",
    "get_external_workflow_handle",
    "get_external_workflow_handle_for",
]

W = TypeVar("W")


class ExternalWorkflowHandle(Generic[W]):
    """Another run, which workflow code sends signals to, or asks to end.

    What is sent is committed together with the step that sends it, into the inbox of the other
    run: both are durable or neither is.
    """

    def __init__(self, workflow_id: str, run_id: str | None) -> None:
        self._id = workflow_id
        self._run_id = run_id

    @property
    def id(self) -> str:
        """Id of the run, as its user chose it."""
        return self._id

    @property
    def run_id(self) -> str | None:
        """Unique id of the run; None for the one that is open."""
        return self._run_id

    @overload
    async def signal(self, signal: str, arg: Any = ..., *, args: Sequence[Any] = ...) -> None: ...

    @overload
    async def signal(
        self, signal: Callable[..., Any], arg: Any = ..., *, args: Sequence[Any] = ...
    ) -> None: ...

    async def signal(
        self,
        signal: str | Callable[..., Any],
        arg: Any = UNSET,
        *,
        args: Sequence[Any] = (),
    ) -> None:
        """Send a signal; return when the other run has it. It is then handled, whatever happens.

        Signals to one run are handled in the order in which they were sent. One whose await is
        cancelled is sent all the same.

        Args:
            signal: A method with `workflow.signal`, or the name of a signal.
            arg: Its only argument.
            args: Its arguments, if there is more than one.

        Raises:
            ApplicationError: There is no such run, or it has ended; of the type
                ``WorkflowNotFoundError``.
            ArgumentError: The signal does not take so many arguments.
            EncodeError: An argument cannot be recorded.
            ValueError: The name is empty.
            NotInWorkflowError: Called outside workflow code.
        """
        name = _handlers.name_of(signal, "signal")
        if not name:
            raise ValueError("the name of a signal must not be empty: name one, or its method")

        others = runtime().others
        await others.signal(self._id, self._run_id or "", name, signal, arguments(arg, args))

    async def cancel(self, *, reason: str = "") -> None:
        """Ask the other run to end, as `WorkflowHandle.cancel`; return when it has the request.

        Args:
            reason: For the run's code and for people.

        Raises:
            ApplicationError: There is no such run, or it has ended; of the type
                ``WorkflowNotFoundError``.
            NotInWorkflowError: Called outside workflow code.
        """
        await runtime().others.cancel(self._id, self._run_id or "", reason)


def get_external_workflow_handle(
    workflow_id: str, *, run_id: str | None = None
) -> ExternalWorkflowHandle[Any]:
    """Return a handle on another run; nothing is looked up.

    Args:
        workflow_id: Of the run.
        run_id: Its unique id; None for the one that is open when something is sent.

    Raises:
        NotInWorkflowError: Called outside workflow code.
        ValueError: The id is empty.
    """
    runtime()
    if not workflow_id:
        raise ValueError("a workflow id must not be empty: give the id of the other run")

    return ExternalWorkflowHandle(workflow_id, run_id)


def get_external_workflow_handle_for(
    workflow: type[W] | Callable[..., Awaitable[Any]],
    workflow_id: str,
    *,
    run_id: str | None = None,
) -> ExternalWorkflowHandle[W]:
    """Return a handle on another run whose workflow is known, as `get_external_workflow_handle`.

    Args:
        workflow: The class or the run method of the workflow.
        workflow_id: Of the run.
        run_id: Its unique id; None for the one that is open when something is sent.

    Raises:
        DefinitionError: It is no workflow.
        NotInWorkflowError: Called outside workflow code.
        ValueError: The id is empty.
    """
    _defn.definition_of(workflow)
    return get_external_workflow_handle(workflow_id, run_id=run_id)
