"""Traces of durable runs: exporters for Langfuse, Braintrust and OTLP will be here."""

from __future__ import annotations

__all__: list[str] = []
