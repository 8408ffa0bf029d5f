"""Every exception that durable-core raises on purpose.

Split by what the reader does next::

    DurableError
    ├── FailureError                  fails the run; raised and caught in workflow code
    │   ├── ApplicationError          raise this to fail an activity or a run with a reason
    │   │   └── OutcomeUnknown        an at-most-once activity may have happened, or not
    │   ├── CancelledError            the run or the activity was cancelled
    │   ├── TerminatedError           the run was terminated
    │   ├── TimeoutError              a recorded timeout expired
    │   ├── ActivityError             an activity failed for good; the reason is its ``cause``
    │   └── ChildWorkflowError        a child ended without a result; the reason is its ``cause``
    ├── CallError                     fix the call
    │   ├── EngineURLError            unknown or malformed URL
    │   ├── ArgumentError             too few or too many arguments
    │   ├── EncodeError               a value cannot be recorded, or would come back changed
    │   ├── DefinitionError           a workflow or activity is defined or registered wrongly
    │   │   ├── DuplicateNameError
    │   │   └── NotRegisteredError
    │   ├── NotInWorkflowError        called outside workflow code
    │   ├── NotInActivityError        called outside an activity
    │   ├── ReadOnlyContextError      a query tried to change its run
    │   ├── AnswerError               an answer does not fit the request, or does not name one
    │   ├── RequestClosedError        a request is answered or withdrawn, or its run has ended
    │   ├── WorkflowQueryFailedError  a query raised; its ``cause`` says why
    │   │   └── WorkflowQueryUnansweredError  no worker that knows the workflow answered in time
    │   ├── StreamError               a stream cannot take that, or does not have it
    │   ├── NotSupported              this engine or version cannot do that
    │   ├── SearchAttributeError      a search attribute cannot be kept: name, type or size
    │   ├── WorkflowFilterError       a filter of runs cannot be read; it says where
    │   ├── WorkflowAlreadyStartedError
    │   └── WorkflowNotFoundError
    ├── WorkflowFailureError          what a client gets of a failed run; its ``cause`` says why
    ├── WorkflowContinuedAsNewError   another run took the place of one that was waited for
    ├── WorkflowUpdateFailedError     what a client gets of a failed or rejected update; as above
    ├── WorkflowBugError              fix the workflow code; the run is kept and continues
    │   ├── WorkflowStalledError      what a client gets when a run stalled
    │   ├── NonDeterminismError       replay asked for other commands than the record holds
    │   ├── DecodeError               a recorded value does not fit today's type
    │   └── SpinError                 workflow code never came to rest
    └── StoreError                    look at the disk or the database
        ├── StoreReadOnlyError
        ├── StoreCorruptError
        ├── StoreVersionError
        └── StoreClosedError
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime, timedelta

__all__ = [
    "ActivityError",
    "AnswerError",
    "ApplicationError",
    "ArgumentError",
    "CallError",
    "CancelledError",
    "ChildWorkflowError",
    "DecodeError",
    "DefinitionError",
    "DuplicateNameError",
    "DurableError",
    "EncodeError",
    "EngineURLError",
    "FailureError",
    "NonDeterminismError",
    "NotInActivityError",
    "NotInWorkflowError",
    "NotRegisteredError",
    "NotStarted",
    "NotSupported",
    "OutcomeUnknown",
    "ReadOnlyContextError",
    "RequestClosedError",
    "RetryState",
    "SearchAttributeError",
    "SpinError",
    "StoreClosedError",
    "StoreCorruptError",
    "StoreError",
    "StoreReadOnlyError",
    "StoreVersionError",
    "StreamError",
    "TerminatedError",
    "TimeoutError",
    "TimeoutType",
    "WorkflowAlreadyStartedError",
    "WorkflowBugError",
    "WorkflowContinuedAsNewError",
    "WorkflowFailureError",
    "WorkflowFilterError",
    "WorkflowNotFoundError",
    "WorkflowQueryFailedError",
    "WorkflowQueryUnansweredError",
    "WorkflowStalledError",
    "WorkflowUpdateFailedError",
]


class DurableError(Exception):
    """Base of every exception that durable-core raises on purpose."""


class FailureError(DurableError):
    """Base of the failures that fail a run instead of stalling it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def cause(self) -> BaseException | None:
        """The failure below this one, if any."""
        return self.__cause__


class ApplicationError(FailureError):
    """Fail an activity or a run with a reason of your own.

    Also stands in for a recorded exception whose class cannot be rebuilt; ``type`` is then the
    qualified name of that class.

    Args:
        message: What went wrong.
        details: Values that travel with the failure; they must be encodable.
        type: A name that retry policies and callers can match on.
        non_retryable: Whether retrying the activity is pointless.
        next_retry_delay: Overrides the delay that the retry policy would choose for the next
            attempt.

    Raises:
        ValueError: ``next_retry_delay`` is negative.
    """

    def __init__(
        self,
        message: str,
        *details: Any,
        type: str | None = None,
        non_retryable: bool = False,
        next_retry_delay: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        if next_retry_delay is not None and next_retry_delay.total_seconds() < 0:
            raise ValueError(f"next_retry_delay must not be negative, got {next_retry_delay}")

        self.details = details
        self.type = type
        self.non_retryable = non_retryable
        self.next_retry_delay = next_retry_delay


class OutcomeUnknown(ApplicationError):  # the documented name
    """An activity that may happen at most once had begun when its worker died, or was stopped.

    Nobody knows whether its effect happened, and it is never begun again. Workflow code that
    catches it may find out, and ask for another activity.
    """


class NotStarted(ApplicationError):  # the documented name
    """Raised by the body of an at-most-once activity: its effect has not happened.

    It may then be tried again, as its retry policy says; after any other exception it may not.
    """


class CancelledError(FailureError):
    """The run or the activity was cancelled."""

    def __init__(self, message: str = "cancelled", *details: Any) -> None:
        super().__init__(message)
        self.details = details


class TerminatedError(FailureError):
    """The run was terminated."""


class TimeoutType(IntEnum):
    """Which of the timeouts expired."""

    START_TO_CLOSE = 1
    SCHEDULE_TO_START = 2
    SCHEDULE_TO_CLOSE = 3
    HEARTBEAT = 4


class TimeoutError(FailureError):  # noqa: A001  # temporalio's name
    """A recorded timeout expired."""

    def __init__(self, message: str, *, type: TimeoutType | None = None) -> None:
        super().__init__(message)
        self.type = type


class RetryState(IntEnum):
    """Why an activity was not tried again."""

    NON_RETRYABLE_FAILURE = 2
    TIMEOUT = 3
    MAXIMUM_ATTEMPTS_REACHED = 4
    CANCEL_REQUESTED = 7


class ActivityError(FailureError):
    """An activity failed for good; its ``cause`` says why."""

    def __init__(
        self,
        message: str,
        *,
        activity_type: str,
        activity_id: str,
        attempts: int,
        retry_state: RetryState | None,
    ) -> None:
        super().__init__(message)
        self.activity_type = activity_type
        self.activity_id = activity_id
        self.attempts = attempts
        self.retry_state = retry_state


class ChildWorkflowError(FailureError):
    """A child ended without a result; its ``cause`` says why."""

    def __init__(
        self,
        message: str,
        *,
        namespace: str,
        workflow_id: str,
        run_id: str,
        workflow_type: str,
        retry_state: RetryState | None = None,
    ) -> None:
        super().__init__(message)
        self.namespace = namespace
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.workflow_type = workflow_type
        self.retry_state = retry_state


class CallError(DurableError):
    """Base of the errors that a change of the calling code mends."""


class EngineURLError(CallError, ValueError):
    """An engine URL is malformed or its scheme is not known."""


class ArgumentError(CallError, TypeError):
    """A workflow or an activity does not take so many arguments."""


class EncodeError(CallError, TypeError):
    """A value cannot be recorded, or would come back from the record as something else."""


class DefinitionError(CallError, ValueError):
    """A workflow or an activity is defined or registered wrongly."""


class DuplicateNameError(DefinitionError):
    """Two workflows or two activities have one name."""


class NotRegisteredError(DefinitionError):
    """No worker of this process knows a workflow or an activity of that name."""


class NotInWorkflowError(CallError, RuntimeError):
    """A function of ``durable_core.workflow`` was called outside workflow code."""


class NotInActivityError(CallError, RuntimeError):
    """A function of ``durable_core.activity`` was called outside an activity."""


class ReadOnlyContextError(CallError, RuntimeError):
    """Code that may only look, such as a query, tried to change its run."""


class AnswerError(CallError, ValueError):
    """An answer does not fit its request, or does not say which request it is for."""


class RequestClosedError(CallError):
    """A request takes no answer any more; its run is as it was.

    Attributes:
        by: Who answered it before; None if nobody did: it was withdrawn, or its time was over, or
            its run has ended.
        time: When it was answered before, UTC; None as above.
    """

    def __init__(
        self, message: str, *, by: str | None = None, time: datetime | None = None
    ) -> None:
        super().__init__(message)
        self.by = by
        self.time = time


class WorkflowQueryFailedError(CallError):
    """A query raised, or the run has none of that name; its ``cause`` says why."""

    @property
    def cause(self) -> BaseException | None:
        """What the query raised, if it ran."""
        return self.__cause__


class WorkflowQueryUnansweredError(WorkflowQueryFailedError):
    """This process does not know the run's code, and no worker that does answered in time."""


class SearchAttributeError(CallError, ValueError):
    """A search attribute cannot be kept: its name, its type, its value, or too much of it.

    Attributes:
        name: Of an attribute that has another type already; empty for any other reason.
    """

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class WorkflowFilterError(CallError, ValueError):
    """A filter of runs cannot be read.

    Attributes:
        position: Where in its text, counted in characters from 0.
    """

    def __init__(self, message: str, *, position: int) -> None:
        super().__init__(message)
        self.position = position


# No RuntimeError: anyio takes that for the end of a loop, and its thread then waits for ever.
class StreamError(CallError):
    """A stream cannot take what is written, or does not have what is asked for.

    Not retried in activities: another attempt would meet it again.
    """


class NotSupported(CallError):  # the documented name
    """This engine, or this version, cannot do what was asked."""


class WorkflowAlreadyStartedError(CallError):
    """A run with this workflow id exists and the new start cannot be the same run."""

    def __init__(self, message: str, *, workflow_id: str, run_id: str | None = None) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.run_id = run_id


class WorkflowNotFoundError(CallError, LookupError):
    """No run has this workflow id or run id."""


class WorkflowFailureError(DurableError):
    """A run ended without a result; its ``cause`` says why."""

    @property
    def cause(self) -> BaseException | None:
        """The failure that ended the run."""
        return self.__cause__


class WorkflowContinuedAsNewError(DurableError):
    """Another run took the place of one, whose result was asked for.

    Attributes:
        new_execution_run_id: Unique id of the other run.
    """

    def __init__(self, message: str, *, new_execution_run_id: str) -> None:
        super().__init__(message)
        self.new_execution_run_id = new_execution_run_id


class WorkflowUpdateFailedError(DurableError):
    """An update was rejected, its handler failed, or its run ended; its ``cause`` says why."""

    @property
    def cause(self) -> BaseException | None:
        """Why."""
        return self.__cause__


class WorkflowBugError(DurableError):
    """Base of the errors that a change of the workflow code mends; the run is kept."""


class WorkflowStalledError(WorkflowBugError):
    """A run stalled on a bug or a mismatch; fixed code continues it."""

    def __init__(self, message: str, *, workflow_id: str, run_id: str) -> None:
        super().__init__(message)
        self.workflow_id = workflow_id
        self.run_id = run_id


class NonDeterminismError(WorkflowBugError):
    """Replay asked for other commands than the record holds.

    Attributes:
        activation: Number of the activation in which the difference was found.
        expected: What the record holds, or None if the code asked for something new.
        got: What the code asked for, or None if it did not ask for what the record holds.
        path: Where inside the arguments they differ, such as ``$[0].cents``.
        location: ``file:line`` of the workflow code that asked.
    """

    def __init__(
        self,
        message: str,
        *,
        activation: int,
        expected: str | None,
        got: str | None,
        path: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(message)
        self.activation = activation
        self.expected = expected
        self.got = got
        self.path = path
        self.location = location


class DecodeError(WorkflowBugError, TypeError):
    """A recorded value does not fit today's type."""


class SpinError(WorkflowBugError):
    """Workflow code kept scheduling itself and never came to rest."""


class StoreError(DurableError):
    """Reading or writing the store failed; nothing that was acknowledged is affected."""


class StoreReadOnlyError(StoreError):
    """The store cannot be written."""


class StoreCorruptError(StoreError):
    """The store holds what durable-core did not write."""


class StoreVersionError(StoreError):
    """The store was written by a newer durable-core."""


class StoreClosedError(StoreError):
    """The store was closed while the request waited."""
