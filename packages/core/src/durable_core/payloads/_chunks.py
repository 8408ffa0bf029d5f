"""What is written to a stream: its name, and a chunk as it is recorded."""

from __future__ import annotations

from typing import Any

from durable_core import _defaults
from durable_core.exceptions import EncodeError

from . import _json

__all__ = ["check_name", "encoded"]


def check_name(name: object) -> None:
    """Check that a stream may be called so.

    Raises:
        TypeError: It is no text.
        ValueError: It is empty, too long, or would break a line.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a stream must be a str, got {name!r}")

    if not 1 <= len(name) <= _defaults.STREAM_NAME or not name.isprintable():
        raise ValueError(
            f"{name!r} cannot be the name of a stream: use 1 to {_defaults.STREAM_NAME} printable "
            "characters"
        )


def encoded(name: str, value: Any) -> bytes:
    """Return the JSON of a chunk.

    Raises:
        EncodeError: It has none, or is too large.
    """
    what = f"a chunk of the stream {name!r}"
    data = _json.encode(value, what=what)
    if len(data) > _defaults.STREAM_CHUNK:
        raise EncodeError(
            f"{what} has {len(data):,} bytes, the limit is {_defaults.STREAM_CHUNK:,}: write it in "
            "parts, or store it elsewhere and write a reference to it"
        )

    return data
