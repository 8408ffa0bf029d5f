"""Durable agents with the OpenAI Agents SDK: swap ``Runner`` for `DurableRunner`.

::

    from durable_openai_agents import DurableRunner as Runner

    result = await Runner.run(agent, "…", workflow_id="order-42")

Every model call and every function tool is recorded. Kill the process and run the script again: it
continues. Run it after it has finished: it returns the recorded result without a call.
"""

from __future__ import annotations

from durable_core.adapter import CallOptions as CallOptions
from durable_core.adapter import RunOptions as RunOptions

from . import testing
from ._callables import inline
from ._recover import Continuation as Continuation
from ._recover import UnfinishedRun as UnfinishedRun
from ._recover import register_agent as register_agent
from ._result import DurableRunResult as DurableRunResult
from ._runner import DurableRunner

__all__ = [
    "CallOptions",
    "Continuation",
    "DurableRunResult",
    "DurableRunner",
    "RunOptions",
    "UnfinishedRun",
    "inline",
    "register_agent",
    "testing",
]
