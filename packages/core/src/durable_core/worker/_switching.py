"""How soon a thread that computes lets another one go on, while workers of this process own runs.

A step takes the interpreter lock a few times: for the activation, in the writer's thread, for the
answer. A sync body that computes holds it for the switch interval each time, 5 ms unless somebody
said otherwise, so each step would wait that long several times over (ENGINE R39).

The interval is one of the process. The first worker shortens it, and the last one puts it back,
unless somebody else has set it meanwhile. Where there are many, each on an event loop in a thread
of its own, it grows with them: fifty threads that took the lock from each other every 0.1 ms would
spend two thirds of their time on that. A forked child has no worker, and begins with what was
before.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import ClassVar

from durable_core import _defaults

__all__ = ["Switching"]


class Switching:
    """One worker's share in the short interval, from its making until `end`."""

    _lock = threading.Lock()
    _holders: ClassVar[set[Switching]] = set()
    _before = 0.0
    _set = 0.0

    def __init__(self) -> None:
        with Switching._lock:
            if not Switching._holders:
                Switching._before = Switching._set = sys.getswitchinterval()

            Switching._holders.add(self)
            Switching._adapt()

    def end(self) -> None:
        """Give the share back. May be called again."""
        with Switching._lock:
            if self in Switching._holders:
                Switching._holders.remove(self)
                Switching._adapt()

    @classmethod
    def forked(cls) -> None:
        """Forget what workers of the parent hold, and a lock that one of its threads may hold."""
        cls._lock = threading.Lock()
        if cls._holders:
            cls._holders.clear()
            cls._adapt()

    @classmethod
    def _adapt(cls) -> None:
        """Set what the workers want that there are now, unless somebody else has set it."""
        # Python keeps whole microseconds.
        if abs(sys.getswitchinterval() - cls._set) > 1e-6:
            return

        share = max(1, len(cls._holders) // 2)
        wanted = _defaults.SWITCH_INTERVAL * share if cls._holders else cls._before
        cls._set = min(wanted, cls._before)
        sys.setswitchinterval(cls._set)


os.register_at_fork(after_in_child=Switching.forked)
