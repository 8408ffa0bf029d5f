"""Going on as a new run, so that no history grows without end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from durable_core._arguments import UNSET, arguments

from . import _defn
from ._calls import runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ContinueAsNewError", "continue_as_new", "only_continuation"]


class ContinueAsNewError(BaseException):  # so that no ``except Exception`` stops it
    """Ends the run whose code raises it; `continue_as_new` does. Never made by hand.

    Attributes:
        command: What the engine makes of it.
    """

    def __init__(self, command: object) -> None:
        super().__init__("the run continues as a new one")
        self.command = command


def continue_as_new(
    arg: Any = UNSET,
    *,
    args: Sequence[Any] = (),
    workflow: Callable[..., Any] | type | str | None = None,
    task_queue: str | None = None,
) -> NoReturn:
    """End the run, and let a new one with the same id go on: it begins with an empty history.

    Both are one commit, so there is always exactly one of them. Signals and updates that the run
    has not taken are for the new one, in their order; whoever waits for the result waits for that
    of the new one. Its children end as their policies say; activities under way are cancelled, and
    so is whatever else still goes on.

    Args:
        arg: The only argument of the new run.
        args: Its arguments, if there is more than one.
        workflow: What the new run executes; the same as this one by default.
        task_queue: Queue whose workers execute it; that of this run by default.

    Raises:
        ContinueAsNewError: Always; let it through.
        ArgumentError: The workflow does not take so many arguments.
        EncodeError: An argument cannot be recorded.
        NotInWorkflowError: Called outside workflow code.
    """
    named = (
        workflow if workflow is None or isinstance(workflow, str) else _defn.definition_of(workflow)
    )
    runtime().continue_as_new(named, arguments(arg, args), task_queue)


def only_continuation(group: BaseExceptionGroup[BaseException]) -> ContinueAsNewError | None:
    """Return the first `ContinueAsNewError` of a group that holds nothing else."""
    matched, rest = group.split(ContinueAsNewError)
    if rest is not None:
        return None

    found: BaseException | None = matched
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]

    return found if isinstance(found, ContinueAsNewError) else None
