"""What a worker is given: checked, and the defaults of what it is not."""

from __future__ import annotations

import os

from durable_core import _defaults

__all__ = ["cached_runs"]


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
