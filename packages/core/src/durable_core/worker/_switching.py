"""How soon a thread that computes lets another one go on, while workers of this process own runs.

A step takes the interpreter lock a few times: for the activation, in the writer's thread, for the
answer. A sync body that computes holds it for the switch interval each time, 5 ms unless somebody
said otherwise, so each step would wait that long several times over (ENGINE R39).

The interval is one of the process. The first worker shortens it, and the last one puts it back,
unless somebody else has set it meanwhile.
"""

from __future__ import annotations

import sys
import threading

from durable_core import _defaults

__all__ = ["Switching"]


class Switching:
    """One worker's share in the short interval, from its making until `end`."""

    _lock = threading.Lock()
    _holders = 0
    _before = 0.0

    def __init__(self) -> None:
        self._ended = False
        with Switching._lock:
            Switching._holders += 1
            if Switching._holders == 1:
                Switching._before = sys.getswitchinterval()
                sys.setswitchinterval(min(Switching._before, _defaults.SWITCH_INTERVAL))

    def end(self) -> None:
        """Give the share back. May be called again."""
        with Switching._lock:
            if self._ended:
                return

            self._ended = True
            Switching._holders -= 1
            # Python keeps whole microseconds.
            is_ours = abs(sys.getswitchinterval() - _defaults.SWITCH_INTERVAL) < 1e-6
            if Switching._holders == 0 and is_ours:
                sys.setswitchinterval(Switching._before)
