"""What a worker is given: checked, and the defaults of what it is not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from durable_core import _defaults

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["cached_runs", "lease_of"]

_SHORTEST_LEASE = 0.1


def lease_of(given: timedelta | None) -> float:
    """Return the length of a lease in seconds.

    Raises:
        ValueError: It is too short to be renewed in time.
    """
    if given is None:
        return _defaults.LEASE

    if given.total_seconds() < _SHORTEST_LEASE:
        raise ValueError(
            f"lease must be {_SHORTEST_LEASE:g} s or more, got {given}: it is renewed three times "
            "in that time, and a commit may take a while"
        )

    return given.total_seconds()


def cached_runs(given: int | None) -> int:
    """Return how many runs stay in memory while they wait.

    Raises:
        ValueError: The number, or the one in the environment, is none or too small.
    """
    if given is None:
        said = os.environ.get(_defaults.CACHED_RUNS_VARIABLE, str(_defaults.CACHED_RUNS))
        try:
            given = int(said)
        except ValueError:
            raise ValueError(
                f"${_defaults.CACHED_RUNS_VARIABLE}={said!r} is no whole number: give one, such as "
                f"{_defaults.CACHED_RUNS}, or unset it"
            ) from None

    if given < 0:
        raise ValueError(f"max_cached_workflows must be 0 or more, got {given}")

    return given
