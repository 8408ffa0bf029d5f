"""Test workflows and activities: in memory, with time that skips what is only waited for.

Also, for authors of adapters, a second engine (`PositionalEngine`); and in
`durable_core.testing.fixtures` pytest fixtures.
"""

from __future__ import annotations

from ._activity import ActivityEnvironment
from ._environment import WorkflowEnvironment
from ._positional import PositionalEngine

__all__ = ["ActivityEnvironment", "PositionalEngine", "WorkflowEnvironment"]
