"""Statements by name, from a ``.sql`` file beside the module that uses them."""

from __future__ import annotations

import re
from importlib import resources

__all__ = ["read", "statements"]

_HEAD = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def read(package: str, file: str) -> str:
    """Return the text of a file of a package."""
    return resources.files(package).joinpath(file).read_text(encoding="utf-8")


def statements(package: str, file: str, **parts: str) -> dict[str, str]:
    """Return the statements of a file by name, with ``{part}`` replaced."""
    pieces = _HEAD.split(read(package, file))[1:]
    found: dict[str, str] = {}
    for name, body in zip(pieces[::2], pieces[1::2], strict=True):
        text = body.strip()
        for part, value in parts.items():
            text = text.replace("{" + part + "}", value)

        found[name] = text

    return found
