"""Where people's output goes: a terminal of some width, or plain text for a file or a pipe.

The only module that knows rich; commands import it when they print.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from . import _stdout

__all__ = ["Line", "Screen", "status_style", "width_of"]

Line = Text
width_of = cell_len

_NARROWEST = 40
_PLAIN_LINE = 300
_STYLES = {
    "completed": "green",
    "fired": "green",
    "failed": "bold red",
    "timed_out": "red",
    "lost": "red",
    "stalled": "bold magenta",
    "canceled": "yellow",
    "terminated": "yellow",
    "set": "dim",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "retrying": "yellow",
    "interrupted": "yellow",
    "paused": "yellow",
    "answered": "green",
    "withdrawn": "yellow",
    "timed": "yellow",
    "running": "cyan",
    "waiting": "cyan",
}


def status_style(status: str) -> str:
    """Return the style of a status, which its first word tells."""
    return _STYLES.get(status.replace(",", " ").partition(" ")[0], "")


class Screen(msgspec.Struct, frozen=True):
    """Standard output as it is.

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
        _stdout.prepare()
        console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        return cls(
            console=console,
            terminal=console.is_terminal,
            width=max(console.width, _NARROWEST),
            unicode=_stdout.is_unicode(),
        )

    @property
    def more(self) -> str:
        """The mark where something was cut."""
        return "…" if self.unicode else "..."

    def print(self, line: Text | str = "") -> None:
        """Print a line as it is."""
        text = Text(line) if isinstance(line, str) else line.copy()
        text.rstrip()
        self.console.print(text, soft_wrap=True)

    def cut(self, text: str, width: int) -> str:
        """Return text that takes at most so many columns, with a mark where it was cut."""
        if cell_len(text) <= width:
            return text

        return set_cell_size(text, max(width - len(self.more), 0)).rstrip() + self.more

    def pad(self, text: str, width: int, *, right: bool = False) -> str:
        """Return text that takes exactly so many columns, cut or filled."""
        text = self.cut(text, width)
        space = " " * (width - cell_len(text))
        return space + text if right else text + space

    def paragraph(
        self, text: Text | str, *, indent: int, hanging: int = 0, lines: int | None
    ) -> Sequence[Text]:
        """Return text that is indented and broken to the terminal's width.

        Args:
            text: May hold line breaks.
            indent: Columns before each line.
            hanging: Columns more before every line but the first.
            lines: At most so many; None for all. Off a terminal, lines are cut instead of broken.
        """
        found: list[Text] = []
        for part in (Text(text) if isinstance(text, str) else text).split("\n", allow_blank=True):
            if self.terminal:
                available = max(self.width - indent - hanging, _NARROWEST // 2)
                found += part.wrap(self.console, available, overflow="fold", tab_size=4)
            elif lines is not None and part.cell_len > _PLAIN_LINE:
                part.truncate(_PLAIN_LINE - len(self.more))
                found.append(part + self.more)
            else:
                found.append(part)

        # One line more is shown rather than announced.
        if lines is not None and len(found) > lines + 1:
            left = len(found) - lines
            found = [*found[:lines], Text(f"{self.more} {left} more lines: --full", style="dim")]

        return [Text(" " * (indent + (hanging if i else 0))) + line for i, line in enumerate(found)]
