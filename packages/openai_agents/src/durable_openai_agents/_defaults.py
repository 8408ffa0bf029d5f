"""The defaults of agents, in one table; docs/defaults.md says them in words. In seconds."""

from __future__ import annotations

from typing import Final

# Model calls; the timeout of one is that of the user's client
MODEL_ATTEMPTS: Final = 6
MODEL_WINDOW: Final = 600.0
MODEL_FIRST_DELAY: Final = 0.5
MODEL_LONGEST_DELAY: Final = 30.0

# Tools, as in the SDK
TOOL_ATTEMPTS: Final = 1

# How long the end of a program waits for a trace backend that does not answer
TRACE_PATIENCE: Final = 1.0
