"""Durable runs from plain code: no server, no `Worker` to write.

The first call makes a client and a worker for the event loop that it runs on. They live with the
loop, and end with it: runs that are under way then are released, not lost, and continue when their
id is called again, in this process or another.
"""

from __future__ import annotations

from ._loops import close, when_closed
from ._recover import MakeResources, Orphan, Recovery, recover
from ._run import Finished, OnCancel, OnFailed, execute_workflow, run, under_way

__all__ = [
    "Finished",
    "MakeResources",
    "OnCancel",
    "OnFailed",
    "Orphan",
    "Recovery",
    "close",
    "execute_workflow",
    "recover",
    "run",
    "under_way",
    "when_closed",
]
