"""Follow what runs and their activities write beside their histories: tokens, progress.

`WorkflowHandle.stream` returns a `StreamReader`; see there.
"""

from __future__ import annotations

from ._items import Collected, StreamItem
from ._reader import StreamReader

__all__ = ["Collected", "StreamItem", "StreamReader"]
