"""What the demo shows: a line per event, then the report and the table of what ran how often."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, cast

from counts import Call, Counts, Event
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text


class Screen:
    """Prints lines as things happen; on a terminal also a moving line for what is going on."""

    def __init__(self) -> None:
        terminal = Console(highlight=False)
        self._console = (
            terminal if terminal.is_terminal else Console(width=110, highlight=False, no_color=True)
        )
        self._status = self._console.status("starting")
        self._started = time.monotonic()
        self._open: dict[object, str] = {}

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._status.stop()

    def say(self, text: str, style: str = "", *, mark: str = " ") -> None:
        """Print one line with the time since the start."""
        since = f"{time.monotonic() - self._started:6.1f} s  "
        line = Text.assemble((since, "dim"), (f"{mark} ", style), (text, style))
        self._console.print(line, overflow="ellipsis", no_wrap=True)

    def doing(self, text: str) -> None:
        """Change the moving line of a terminal."""
        self._status.update(Text(text, style="dim"))

    def life(self, number: int, pid: int, counts: Counts) -> None:
        """Say that the agent was started, for the first time or again."""
        self._open.clear()
        done = sum(run.ended is not None for call in counts.calls.values() for run in call.runs)
        again = f", {done} calls were done before" if number > 1 else ""
        self.say(f"life {number}: agent.py started, pid {pid}{again}", "bold cyan", mark="▶")
        self.doing("the agent is starting")

    def event(self, event: Event) -> None:
        """Show one event of the witness."""
        kind = event["kind"]
        if kind == "request":
            self._open[event["request"]] = f"model call, turn {event['turn']}"
        elif kind == "tool_started":
            self._open[event["call_id"]] = f"{event['tool']} {_short(event['arguments'])}"
        elif kind == "answer":
            asked = cast("Sequence[Event]", event["calls"])
            names = ", ".join(str(call["name"]) for call in asked) or "the report"
            self.say(f"{self._open.pop(event['request'], 'model call')} → {names}")
        elif kind == "tool_finished":
            first, _, rest = str(event["output"]).partition("\n")
            more = " …" if rest else ""
            doing = self._open.pop(event["call_id"], event["tool"])
            self.say(f"    {doing} → {' '.join(first.split())}{more}", "dim")

        self.doing("; ".join(self._open.values()) or "the agent is working")

    def killed(self, label: str) -> None:
        """Say that the agent was killed."""
        self.say(f"kill -9 {label}", "bold red", mark="✗")
        for doing in self._open.values():
            self.say(f"    lost with it: {doing}", "red")

    def report(self, text: str) -> None:
        """Print the agent's report, as it is when nobody looks."""
        self._status.stop()
        self._console.rule("the report of the killed run", style="dim")
        if self._console.is_terminal:
            self._console.print(Markdown(text))
        else:
            print(text)

    def table(self, counts: Counts) -> None:
        """Print every call, how often it ran and where its process was killed."""
        table = Table(
            title="Every call, counted from outside the agent's process", title_style="bold"
        )
        for name, justify in (("call", "left"), ("times run", "right"), ("in life", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]

        table.add_column("seconds", justify="right")
        table.add_column("", overflow="fold")
        before = 0
        for call in counts.calls.values():
            for kill in counts.kills:
                between = not kill.in_flight and before <= kill.life < call.runs[0].life
                if between and before:
                    table.add_row(*[""] * 4, Text(f"✗ killed {kill.label}", style="bold red"))

            before = call.runs[0].life
            table.add_row(*_row(call, counts))

        self._console.print(table)

    def summary(self, counts: Counts, undisturbed: Counts | None) -> None:
        """Print what was made, and what starting over after each kill would have cost."""
        table = Table(box=None, show_header=False, padding=(0, 2))
        for kind in ("model", "tool"):
            made, saved = counts.made(kind), counts.saved(kind)
            beside = f", undisturbed {undisturbed.made(kind)}" if undisturbed is not None else ""
            table.add_row(
                f"{kind} calls", f"{made} made{beside}, starting over each time {made + saved}"
            )

        table.add_row("saved", f"{counts.saved_seconds():.1f} s of calls that were not made again")
        self._console.print(table)

    def check(self, name: str, detail: str, *, passed: bool) -> None:
        """Print one check of the demo on itself."""
        line = Text.assemble(("✓ " if passed else "✗ ", "green" if passed else "bold red"), name)
        self._console.print(line)
        if not passed:
            self._console.print(Text(f"  {detail}", style="red"))


def _row(call: Call, counts: Counts) -> list[str | Text]:
    lives = ", ".join(dict.fromkeys(str(run.life) for run in call.runs))
    labels = [kill.label for kill in counts.kills if call.key in kill.in_flight]
    killed = f"✗ killed {', '.join(labels)}" if labels else ""
    style = "red" if killed else ""
    name = f"{call.label} → {call.output}" if call.kind == "model" else f"    {call.label}"
    return [
        Text(name, style=style),
        Text(str(len(call.runs)), style=style),
        Text(lives, style=style),
        f"{call.seconds:.2f}",
        Text(killed, style="bold red"),
    ]


def _short(arguments: object) -> str:
    text = str(arguments)
    return "" if text == "{}" else text
