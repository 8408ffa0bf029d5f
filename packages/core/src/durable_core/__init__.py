"""Durable execution, embedded in your process.

Workflows are deterministic asyncio code; what they do to the world goes through recorded
activities. After a crash a run is replayed from its record and continues where it stopped.

Import the modules: `workflow`, `activity`, `client`, `worker`, `common`, `exceptions`.
"""

from __future__ import annotations

from . import activity, adapter, client, common, embedded, exceptions, worker, workflow
from .client import Client
from .common import RetryPolicy
from .embedded import execute_workflow
from .worker import Worker

__all__ = [
    "Client",
    "RetryPolicy",
    "Worker",
    "activity",
    "adapter",
    "client",
    "common",
    "embedded",
    "exceptions",
    "execute_workflow",
    "worker",
    "workflow",
]
