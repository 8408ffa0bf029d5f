"""Kill an agent three times in the middle of its work, and see it continue.

    python cookbook/01_crash_demo/demo.py [PATH]

agent.py audits the git checkout at PATH (by default this repository). The demo starts it, kills it
with SIGKILL during a tool call, between two calls and during a model call, and starts it again each
time. Beside it the same agent audits the same commit undisturbed. In the end both reports must be
equal, and a witness outside of both processes must have seen every call run exactly once, those in
flight at a kill at most twice. If not, the exit status is 1.

The model is a scripted one on this machine, so no key is needed; `--live` asks a real one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from checkout import Checkout, GitError
from checks import Check, Outcome, checked
from counts import Event, counted
from durable_openai_agents.testing import Fault, FaultRule, ModelServerError
from screen import Screen
from stage import DemoError, Stage, staged
from witness import Live, Offline, Witness

REPOSITORY = Path(__file__).resolve().parents[2]

QUIET = 0.5
"""Seconds without any event before a kill: by then, whatever had ended is recorded."""

FOR_EVER = 3600.0


@dataclass(frozen=True)
class Window:
    """A moment at which the agent is killed. The rule makes it wait there, the event shows it."""

    name: str
    label: str
    rule: FaultRule
    opened_by: Callable[[Event], bool]


WINDOWS = (
    Window(
        name="tool",
        label="during a tool call",
        rule=FaultRule(
            fault=Fault(kind="delay", seconds=FOR_EVER),
            endpoint="ledger",
            contains='"kind": "tool_started", "tool": "files_by_suffix"',
        ),
        opened_by=lambda event: (
            event["kind"] == "tool_started" and event["tool"] == "files_by_suffix"
        ),
    ),
    Window(
        name="between",
        label="between two calls",
        rule=FaultRule(fault=Fault(kind="hold"), turn=4),
        opened_by=lambda event: event["kind"] == "held",
    ),
    Window(
        name="model",
        label="during a model call",
        rule=FaultRule(
            fault=Fault(kind="delay", seconds=FOR_EVER), contains="You are the report writer"
        ),
        opened_by=lambda event: (
            event["kind"] == "request" and "report writer" in str(event["agent"])
        ),
    ),
)


def play(stage: Stage, witness: Witness, screen: Screen, deadline: float) -> Outcome:
    """Run the agent to its end, killing it in every window on the way."""
    for window in WINDOWS:
        witness.hold(window.rule)
        screen.life(stage.life + 1, stage.start(), counted(stage.events))
        if not _until_open(stage, window, screen, deadline):
            witness.release()
            screen.say(f"the agent was done before it could be killed {window.label}", "yellow")
            return stage.outcome()

        stage.kill(window.name, window.label)
        screen.killed(window.label)

    screen.life(stage.life + 1, stage.start(), counted(stage.events))
    _until_open(stage, None, screen, deadline)
    screen.say("the agent is done", "bold green", mark="✓")
    return stage.outcome()


def _until_open(stage: Stage, window: Window | None, screen: Screen, deadline: float) -> bool:
    """Follow the agent until it waits in the window (True) or comes to its end (False)."""
    is_open, latest = False, time.monotonic()
    while True:
        ended = stage.ended()
        for event in stage.new_events():
            screen.event(event)
            latest = time.monotonic()
            is_open = is_open or (window is not None and window.opened_by(event))

        if is_open and time.monotonic() - latest > QUIET:
            return True

        if ended:
            return False

        _check_time(deadline)


def _until_done(stage: Stage, screen: Screen, deadline: float) -> Outcome:
    screen.doing("waiting for the undisturbed run")
    while not stage.ended():
        _check_time(deadline)

    return stage.outcome()


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise DemoError("not done within --timeout seconds")

    time.sleep(0.01)


def demonstrate(
    checkout: Checkout, options: argparse.Namespace, folder: Path, screen: Screen
) -> bool:
    """Run everything, show it, and return whether every check passed."""
    deadline = time.monotonic() + options.timeout
    screen.say(f"auditing {checkout.root} at commit {checkout.commit[:10]}")
    store = folder / "killed" if options.store is None else options.store.resolve()
    windows = tuple(window.name for window in WINDOWS)
    if options.live:
        live = Live(_fresh(folder / "killed"), model=options.model)
        with staged(checkout, live, _made(store)) as stage:
            killed, undisturbed = play(stage, live, screen, deadline), None

        # A real model decides by itself how many turns it takes, so a window may never open.
        windows = tuple(kill.window for kill in killed.counts.kills)
    else:
        aside = folder / "undisturbed"
        quiet = Offline(_fresh(aside), latency=options.latency)
        witness = Offline(_fresh(folder / "killed"), latency=options.latency)
        with (
            staged(checkout, quiet, aside) as reference,
            staged(checkout, witness, _made(store)) as stage,
        ):
            reference.start()
            killed = play(stage, witness, screen, deadline)
            undisturbed = _until_done(reference, screen, deadline)

    checks = checked(killed, undisturbed, windows)
    _show(screen, killed, undisturbed, checks)
    if options.json is not None:
        options.json.write_text(json.dumps(_document(killed, undisturbed, checks), indent=1))

    return all(check.passed for check in checks)


def _fresh(folder: Path) -> Path:
    """Return where a witness writes in a folder that is made for it."""
    return _made(folder) / "witness.jsonl"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _show(
    screen: Screen, killed: Outcome, undisturbed: Outcome | None, checks: list[Check]
) -> None:
    screen.report(killed.report)
    screen.table(killed.counts)
    screen.summary(killed.counts, None if undisturbed is None else undisturbed.counts)
    for check in checks:
        screen.check(check.name, check.detail, passed=check.passed)


def _document(killed: Outcome, undisturbed: Outcome | None, checks: list[Check]) -> object:
    counts = killed.counts
    return {
        "passed": all(check.passed for check in checks),
        "checks": [asdict(check) for check in checks],
        "report": killed.report,
        "undisturbed_report": None if undisturbed is None else undisturbed.report,
        "tool_outputs": [call.output for call in counts.of("tool")],
        "lives": counts.lives,
        "kills": [asdict(kill) for kill in counts.kills],
        "calls": [
            {"kind": call.kind, "label": call.label, "key": call.key, "runs": len(call.runs)}
            | {"lives": [run.life for run in call.runs], "killed_in": call.killed_in}
            for call in counts.calls.values()
        ],
        "made": {kind: counts.made(kind) for kind in ("model", "tool")},
        "saved": {kind: counts.saved(kind) for kind in ("model", "tool")},
        "saved_seconds": counts.saved_seconds(),
    }


def main() -> int:
    """Run the demo as the command line says; return its exit status."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        checkout = Checkout.at(options.path)
    except GitError as error:
        print(
            f"crash demo: {options.path} is no git checkout with a commit: {error}\n"
            "Give the path of one: demo.py PATH",
            file=sys.stderr,
        )
        return 2

    folder = Path(tempfile.mkdtemp(prefix="crash-demo-"))
    passed = False
    try:
        with Screen() as screen:
            passed = demonstrate(checkout, options, folder, screen)
    except (DemoError, ModelServerError) as error:
        print(f"crash demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("crash demo: interrupted; the agent and its witness were ended", file=sys.stderr)
        return 130
    finally:
        if passed:
            shutil.rmtree(folder)
        else:
            print(f"crash demo: what was seen is in {folder}", file=sys.stderr)

    return 0 if passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="?", default=str(REPOSITORY), help="a git checkout")
    parser.add_argument("--live", action="store_true", help="ask a real model ($OPENAI_API_KEY)")
    parser.add_argument("--model", help="which, with --live")
    parser.add_argument("--store", type=Path, help="folder for the agent's store, which is kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts to FILE")
    parser.add_argument(
        "--latency", type=float, default=0.4, help="seconds that the scripted model thinks"
    )
    parser.add_argument("--timeout", type=float, default=300, help="seconds for everything")
    return parser


def _interrupt(_signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
