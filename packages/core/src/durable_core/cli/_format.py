"""Values as text: times, durations, JSON, and recorded text that is safe to print."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

from durable_core import _clock

__all__ = [
    "ago",
    "arguments",
    "clean",
    "clock",
    "compact",
    "count",
    "duration",
    "finite",
    "iso",
    "offset",
    "one_line",
    "readable",
]

# What a terminal may obey instead of showing: control characters other than tab and newline, and
# the marks that reverse the order of text. They come from models and tools, so anything may be
# there.
_OBEYED = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)]
_REORDERING = [0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_VISIBLE = {code: f"\\x{code:02x}" for code in _OBEYED} | {c: f"\\u{c:04x}" for c in _REORDERING}
_VISIBLE[0x09] = "    "
_LINE = 70


def clean(text: str) -> str:
    """Return recorded text with everything that a terminal would obey made visible."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def one_line(text: str) -> str:
    """Return recorded text on one line, as `clean`."""
    return clean(" ".join(text.split()))


def duration(seconds: float) -> str:
    """Return a length of time in at most two units: ``12ms``, ``1.24s``, ``2m 03s``, ``3d 04h``."""
    milliseconds = round(max(seconds, 0.0) * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"

    if milliseconds < 9_995:
        return f"{seconds:.2f}s"

    if milliseconds < 59_950:
        return f"{seconds:.1f}s"

    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"

    if whole < 86_400:
        return f"{whole // 3600}h {whole // 60 % 60:02}m"

    return f"{whole // 86_400}d {whole // 3600 % 24:02}h"


def offset(seconds: float, *, total: float) -> str:
    """Return a time since the start of a run; in one form per run, by the latest that is shown."""
    seconds = max(seconds, 0.0)
    if total < 100:
        return f"{seconds:.3f}s"

    whole = int(seconds)
    text = f"{whole // 60 % 60:02}:{whole % 60:02}"
    if total < 3600:
        return f"{text}.{int(seconds * 10) % 10}"

    text = f"{whole // 3600 % 24:02}:{text}"
    return text if total < 86_400 else f"{whole // 86_400}d {text}"


def ago(seconds: float) -> str:
    """Return how long ago something was, in one unit."""
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            return f"{count(int(seconds // size), unit)} ago"

    return "just now"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``2 attempts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def iso(seconds: float) -> str:
    """Return a recorded time for machines: UTC, ISO 8601, milliseconds."""
    text = _clock.from_timestamp(seconds).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def clock(seconds: float, *, now: float, zone: bool = False) -> str:
    """Return a recorded time for people, local; today's without the date, unless with its zone."""
    local, today = (_local(seconds), _local(now))
    if zone:
        return local.strftime("%Y-%m-%d %H:%M:%S %Z").rstrip()

    return local.strftime("%H:%M:%S" if local.date() == today.date() else "%Y-%m-%d %H:%M")


def _local(seconds: float) -> datetime:
    return _clock.from_timestamp(seconds).astimezone()


def finite(value: Any) -> Any:
    """Return JSON's own types with the floats that JSON lacks as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)

    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}

    return [finite(part) for part in value] if isinstance(value, list | tuple) else value


def compact(value: Any) -> str:
    """Return a recorded value as JSON on one line."""
    return clean(json.dumps(value, ensure_ascii=False))


def arguments(value: Any) -> str:
    """Return recorded arguments on one line, separated by commas."""
    if isinstance(value, list):
        return ", ".join(compact(part) for part in value)

    return "" if value is None else compact(value)


def readable(value: Any) -> str:
    """Return a recorded value for people: as JSON, but lines of text stay lines.

    What does not fit on a line is spread over several, indented by its depth.
    """
    if isinstance(value, str):
        return clean(value)

    return "\n".join(_spread(value))


def _spread(value: Any) -> list[str]:
    if isinstance(value, str) and "\n" in value:
        return clean(value).splitlines()

    text = compact(value)
    if len(text) <= _LINE or not isinstance(value, dict | list):
        return [text]

    lines: list[str] = []
    parts = value.items() if isinstance(value, dict) else (("-", part) for part in value)
    for name, part in parts:
        head = "-" if isinstance(value, list) else f"{one_line(str(name))}:"
        first, *rest = _spread(part)
        if rest and isinstance(value, dict):
            lines += [head, *(f"  {line}" for line in (first, *rest))]
        else:
            lines += [f"{head} {first}", *(f"  {line}" for line in rest)]

    return lines
