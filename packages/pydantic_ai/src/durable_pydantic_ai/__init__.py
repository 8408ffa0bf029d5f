"""Durable runs for Pydantic AI: the `Durability` capability and `DurableAgent` will be here."""

from __future__ import annotations

__all__: list[str] = []
