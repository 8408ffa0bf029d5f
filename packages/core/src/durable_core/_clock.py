"""The only place that reads the wall clock, so that tests can put another in its place."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["from_timestamp", "now"]


def now() -> float:
    """Return the seconds since the epoch, UTC."""
    return time.time()


def from_timestamp(seconds: float) -> datetime:
    """Return the aware UTC datetime of a recorded time."""
    return datetime.fromtimestamp(seconds, tz=UTC)
