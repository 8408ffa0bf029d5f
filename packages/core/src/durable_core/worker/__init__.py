"""Workers own runs and execute activities."""

from __future__ import annotations

from ._worker import Worker

__all__ = ["Worker"]
