"""Python values ↔ JSON bytes, digests of arguments, failures, and shared items."""

from __future__ import annotations
