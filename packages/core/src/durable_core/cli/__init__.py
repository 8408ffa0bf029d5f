"""The command line: what was run, and what became of it."""

from __future__ import annotations

from ._main import main

__all__ = ["main"]
