"""Where people's output goes: a terminal of some width, or plain text for a file or a pipe.

The only module that knows rich; commands import it when they print.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from ._format import plain

__all__ = ["Line", "Screen", "print_json", "width_of"]

Line = Text
width_of = cell_len

_PLAIN_LINE = 300


@dataclass(frozen=True, slots=True)
class Screen:
    """Standard output as it is: its width, and whether it may show colours and marks.

    Attributes:
        console: Prints.
        terminal: Whether a person looks at it; if not, nothing is coloured or fitted to a width.
        width: Columns of the terminal.
        unicode: Whether marks such as ``✓`` can be shown.
    """

    console: Console
    terminal: bool
    width: int
    unicode: bool

    @classmethod
    def of_stdout(cls) -> Screen:
        """Return standard output."""
        _tolerate(sys.stdout)
        console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        return cls(
            console=console,
            terminal=console.is_terminal,
            width=max(console.width, 40),
            unicode=_is_unicode(sys.stdout),
        )

    def print(self, line: Text | str = "") -> None:
        """Print a line as it is."""
        text = Text(line) if isinstance(line, str) else line
        text.rstrip()
        self.console.print(text, soft_wrap=True)

    def cut(self, text: str, width: int) -> str:
        """Return text that takes at most so many columns, with a mark where it was cut."""
        if cell_len(text) <= width:
            return text

        mark = "…" if self.unicode else "..."
        return set_cell_size(text, max(width - len(mark), 0)).rstrip() + mark

    def pad(self, text: str, width: int, *, right: bool = False) -> str:
        """Return text that takes exactly so many columns, cut or filled."""
        text = self.cut(text, width)
        space = " " * (width - cell_len(text))
        return space + text if right else text + space

    def paragraph(self, text: str, *, indent: int, style: str = "", lines: int | None) -> list[Text]:
        """Return text indented, and broken to the terminal's width.

        Args:
            text: May hold line breaks.
            indent: Columns before each line.
            style: Of the text.
            lines: At most so many; None for all. Off a terminal, lines are cut instead of broken.
        """
        found: list[Text] = []
        for part in text.splitlines() or [""]:
            if self.terminal:
                available = max(self.width - indent, 20)
                found += Text(part, style=style).wrap(self.console, available, overflow="fold")
            else:
                found.append(Text(part if lines is None else self.cut(part, _PLAIN_LINE), style=style))

        if lines is not None and len(found) > lines:
            left = len(found) - lines
            found = found[:lines]
            mark = "…" if self.unicode else "..."
            found.append(Text(f"{mark} {left} more lines, see --full", style="dim"))

        return [Text(" " * indent) + line for line in found]


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    _tolerate(sys.stdout)
    ascii_only = not _is_unicode(sys.stdout)
    text = json.dumps(plain(value), indent=2, ensure_ascii=ascii_only, allow_nan=False)
    sys.stdout.write(f"{text}\n")


def _tolerate(stream: TextIO) -> None:
    """Let a stream escape what its encoding lacks: recorded text must not break the output."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _is_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().startswith("utf")
