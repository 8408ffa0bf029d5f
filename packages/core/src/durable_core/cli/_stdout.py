"""Standard output itself: what its encoding lacks is escaped, and JSON stays JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from ._format import finite

__all__ = ["is_unicode", "prepare", "print_json"]


def prepare() -> None:
    """Let standard output escape what its encoding lacks: recorded text must not end a command."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def is_unicode() -> bool:
    """Return whether standard output can show every character."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")


def print_json(value: Any) -> None:
    """Print one JSON document."""
    prepare()
    text = json.dumps(finite(value), indent=2, ensure_ascii=not is_unicode(), allow_nan=False)
    sys.stdout.write(f"{text}\n")
