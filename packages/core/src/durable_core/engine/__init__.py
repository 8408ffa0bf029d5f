"""The deterministic engine: pure, without I/O and without a clock of its own.

Walk it in this order: `_loop` (the event loop that workflow code runs on; beside it `_ordered`,
what asyncio does by address, and `_closing`, the end of a dropped run), `_run` (one run: events in,
commands out), `_commands` (what its code asks for), `_handle` (futures of activities and children),
`_handlers` (signals and queries), `_children` (runs that it starts), `_requests` (questions to
people), `_match` (replay and its error report), `_guard` (clocks, randomness and I/O) and
`_unguarded` (what the guard cannot reach).
"""

from __future__ import annotations

from ._commands import Host, Pending, idempotency_key
from ._guard import held
from ._match import python_version
from ._requests import RequestFuture
from ._run import Run
from ._streams import StreamPart

__all__ = [
    "Host",
    "Pending",
    "RequestFuture",
    "Run",
    "StreamPart",
    "held",
    "idempotency_key",
    "python_version",
]
