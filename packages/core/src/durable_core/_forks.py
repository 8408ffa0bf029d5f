"""What a forked child must not use: everything that belongs to the process that made it.

The hooks are here, where they are made with the package: one that is made while another thread
forks is called after that fork and was not called before it.
"""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from contextlib import AbstractContextManager
from typing import Protocol

from durable_core.exceptions import NotSupported

__all__ = ["Shut", "add", "check_process", "none"]


class Shut(Protocol):
    """What is shut while its process forks."""

    def before_fork(self) -> None:
        """Shut it, and let nobody open it."""
        ...

    def after_fork(self) -> None:
        """Let the parent go on with it."""
        ...


# Of a thread: a signal handler may fork where it is held. Two threads may fork at once, and what
# one has shut the other must not open.
_forking = threading.RLock()
_known: weakref.WeakSet[Shut] = weakref.WeakSet()
_shut: list[Shut] = []


def add(shut: Shut) -> None:
    """Shut something in every fork from now on, as long as it lives."""
    _known.add(shut)


def none() -> AbstractContextManager[object]:
    """Keep other threads from forking for a while.

    A child would wait for ever for a module that another thread was importing.
    """
    return _forking


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


def _before() -> None:
    _forking.acquire()
    for each in list(_known):
        each.before_fork()
        _shut.append(each)


def _after_in_parent() -> None:
    while _shut:
        _shut.pop().after_fork()

    _forking.release()


def _after_in_child() -> None:
    global _forking  # noqa: PLW0603  # its thread may be another one, and it is locked
    _forking = threading.RLock()
    _shut.clear()
    _known.clear()


# It has such hooks, too, and stores import it.
importlib.import_module("concurrent.futures.thread")
os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
