"""What a forked child must not use: everything that belongs to the process that made it."""

from __future__ import annotations

import os

from durable_core.exceptions import NotSupported

__all__ = ["check_process"]


def check_process(pid: int, what: str) -> None:
    """Check that an object is used in the process that made it.

    Args:
        pid: Of the process that made it.
        what: The object, for messages.

    Raises:
        NotSupported: This is another process, forked from that one since.
    """
    if os.getpid() != pid:
        raise NotSupported(
            f"{what} belongs to process {pid} and cannot be used after a fork: connect again in "
            f"this process, {os.getpid()}"
        )
