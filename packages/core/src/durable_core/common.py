"""Values that clients, workers, workflows and activities share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ._search_attributes import (
    SearchAttributeIndexedValueType as SearchAttributeIndexedValueType,
)
from ._search_attributes import SearchAttributeKey as SearchAttributeKey
from ._search_attributes import SearchAttributePair as SearchAttributePair
from ._search_attributes import SearchAttributeUpdate as SearchAttributeUpdate
from ._search_attributes import TypedSearchAttributes as TypedSearchAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "RawValue",
    "RetryPolicy",
    "SearchAttributeIndexedValueType",
    "SearchAttributeKey",
    "SearchAttributePair",
    "SearchAttributeUpdate",
    "TypedSearchAttributes",
    "WorkflowIDConflictPolicy",
    "WorkflowIDReusePolicy",
]


@dataclass(frozen=True, slots=True)
class RawValue:
    """An argument as it was recorded, for a handler that takes any.

    Attributes:
        payload: `durable_core.workflow.payload_converter` makes a value of it.
    """

    payload: bytes


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often a failed activity is tried again; temporalio's fields and defaults.

    Attributes:
        initial_interval: Delay before the second attempt.
        backoff_coefficient: Factor from one delay to the next.
        maximum_interval: Upper bound of a delay; 100 times the initial one when None.
        maximum_attempts: How many attempts there may be in all; 0 is no limit.
        non_retryable_error_types: Names of exception classes, or ``type`` of an `ApplicationError`,
            that are not worth a retry.
    """

    initial_interval: timedelta = timedelta(seconds=1)
    backoff_coefficient: float = 2.0
    maximum_interval: timedelta | None = None
    maximum_attempts: int = 0
    non_retryable_error_types: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Refuse values that would retry at once for ever.

        Raises:
            TypeError: An interval is no `timedelta`.
            ValueError: A field is negative, or the coefficient is below 1 or not finite.
        """
        intervals: dict[str, Any] = {
            "initial_interval": self.initial_interval,
            "maximum_interval": self.maximum_interval or timedelta(0),
        }
        for name, given in intervals.items():
            if not isinstance(given, timedelta):
                raise TypeError(f"{name} must be a timedelta, got {given!r}")

        if self.initial_interval <= timedelta(0):
            raise ValueError(f"initial_interval must be positive, got {self.initial_interval}")

        if not 1 <= self.backoff_coefficient < math.inf:
            raise ValueError(
                f"backoff_coefficient must be 1 or more and finite, got {self.backoff_coefficient}"
            )

        if self.maximum_interval is not None and self.maximum_interval < self.initial_interval:
            raise ValueError(
                f"maximum_interval {self.maximum_interval} is below initial_interval "
                f"{self.initial_interval}"
            )

        if self.maximum_attempts < 0:
            raise ValueError(
                f"maximum_attempts must be 0 (no limit) or more, got {self.maximum_attempts}"
            )

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after the ``attempt``-th attempt (1 is the first) failed."""
        initial = self.initial_interval.total_seconds()
        ceiling = (
            initial * 100
            if self.maximum_interval is None
            else self.maximum_interval.total_seconds()
        )
        try:
            return min(initial * self.backoff_coefficient ** (attempt - 1), ceiling)
        except OverflowError:
            return ceiling


class WorkflowIDReusePolicy(IntEnum):
    """What starting a run does if its id is that of a run that has ended."""

    ALLOW_DUPLICATE = 1
    """Start another run."""
    ALLOW_DUPLICATE_FAILED_ONLY = 2
    """Start another run unless the one before completed."""
    REJECT_DUPLICATE = 3
    """Refuse."""


class WorkflowIDConflictPolicy(IntEnum):
    """What starting a run does if its id is that of a run that is open."""

    UNSPECIFIED = 0
    """`FAIL`, or, if the run is started with a signal, `USE_EXISTING`."""
    FAIL = 1
    """Refuse."""
    USE_EXISTING = 2
    """Return a handle on the run that is open."""
    TERMINATE_EXISTING = 3
    """Terminate the run that is open, and start another one."""
