"""Bugs that a test can plant, to show that other tests would find them.

``DURABLE_PLANTED=ack.early`` makes the engine wrong in the way of that name. Unset, each place
costs one comparison.
"""

from __future__ import annotations

import os

__all__ = ["BUGS", "planted"]

BUGS = (
    "ack.early",  # whoever sent a signal is told before the commit
    "append.refused",  # an append that fence or number forbid is written all the same
    "batch.last",  # the last run of a group commit moves on without its activation
    "began.unsaid",  # an at-most-once body begins without a record that it does
    "chunk.behind",  # what an activity wrote to streams is not durable with its result
    "close.unread",  # a run ends over events that it has not read
    "effects.early",  # bodies start and results are told before the commit
    "event.twice",  # what arrived is applied twice
    "hash.address",  # tasks and futures hash by their address
    "inbox.dropped",  # who takes a run over drops its inbox before an activation has it
    "key.reused",  # a second call of an activity has the idempotency key of the first
    "reset.forgotten",  # who takes a run over does not void what a lost attempt wrote
    "timer.forgotten",  # who takes a run over does not set its timers
    "value.live",  # live code is given another value than a replay
)

_planted = os.environ.get("DURABLE_PLANTED")
if _planted is not None and _planted not in BUGS:
    raise ValueError(f"DURABLE_PLANTED names {_planted!r}; there are {', '.join(BUGS)}")


def planted(bug: str) -> bool:
    """Return whether a test asked for the bug of this name."""
    return _planted is not None and bug == _planted
