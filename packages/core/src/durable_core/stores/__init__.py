"""Where histories live: one protocol, and the stores that follow it."""

from __future__ import annotations

from ._protocol import Append, InboxRow, Loaded, Outcome, PendingRow, RunRow, Store

__all__ = ["Append", "InboxRow", "Loaded", "Outcome", "PendingRow", "RunRow", "Store"]
