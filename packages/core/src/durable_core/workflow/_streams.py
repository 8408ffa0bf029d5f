"""Streams as workflow code writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._calls import runtime

if TYPE_CHECKING:
    from durable_core.adapter import RunStream

__all__ = ["stream"]


def stream(name: str) -> RunStream:
    """Return what writes to a stream of the run; the stream is there once something is written.

    What workflow code writes is part of the commit of its step: a replay does not write it again.
    It also says by ``end`` that nothing more comes, since it alone knows that no activity will try
    again. The end of the run ends all of its streams.

    Args:
        name: 1 to 200 printable characters; activities of the run may write to it too.

    Raises:
        NotInWorkflowError: Called outside workflow code.
        NotSupported: The engine has no streams.
        ValueError: A stream cannot be called so.
    """
    return runtime().stream(name)
