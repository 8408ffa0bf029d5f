"""The deterministic engine: pure, without I/O and without a clock of its own.

Walk it in this order: `_loop` (the event loop that workflow code runs on), `_run` (one run: events
in, commands out), `_match` (replay and its error report), `_handle` (activity futures).
"""

from __future__ import annotations

from ._match import describe, python_version
from ._run import Host, Pending, Run

__all__ = ["Host", "Pending", "Run", "describe", "python_version"]
