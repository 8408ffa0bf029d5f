"""Named points at which a test can kill the process.

``DURABLE_FAULT=store.commit.before:3`` kills the process with SIGKILL when that point is reached
for the third time. Unset, a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
import threading

__all__ = ["POINTS", "reach"]

POINTS = (
    "activity.body.before",  # scheduled and committed, the body has not started
    "activity.body.after",  # the body's effect has happened, nothing is recorded yet
    "run.activated.before",  # events are in memory, the workflow code has not seen them
    "run.activated.after",  # commands are known, their commit has not been asked for
    "run.claim.before",  # a run was loaded and replayed, its first append has not been asked for
    "run.claim.after",  # the claim is durable, no body has started
    "store.commit.before",  # rows are written inside the transaction, COMMIT has not been issued
    "store.commit.after",  # COMMIT has returned, nobody has been told
)

_lock = threading.Lock()
_point: str | None = None
_countdown = 0


def _arm(setting: str) -> None:
    global _point, _countdown  # process-wide by its nature
    point, _, count = setting.partition(":")
    if point not in POINTS:
        raise ValueError(f"DURABLE_FAULT names {point!r}; the points are {', '.join(POINTS)}")

    _point, _countdown = point, int(count or 1)


def reach(point: str) -> None:
    """Kill the process here if a test asked for it."""
    if _point is None or point != _point:
        return

    global _countdown  # noqa: PLW0603
    with _lock:
        _countdown -= 1
        if _countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if "DURABLE_FAULT" in os.environ:
    _arm(os.environ["DURABLE_FAULT"])
