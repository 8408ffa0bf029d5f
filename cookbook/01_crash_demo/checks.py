"""What must be true after the demo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from counts import Call, Counts, uncovered


@dataclass(frozen=True)
class Check:
    """One promise; `detail` says what was seen instead if it was broken."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one run of the agent came to, over all its lives."""

    report: str
    counts: Counts


def checked(killed: Outcome, undisturbed: Outcome | None, windows: tuple[str, ...]) -> list[Check]:
    """Return every check; `undisturbed` is None with a real model, which never repeats itself."""
    checks = [
        _kills(killed.counts, windows),
        _exactly_once(killed.counts),
        _at_most_twice(killed.counts),
    ]
    if undisturbed is not None:
        checks += [
            _same_report(killed.report, undisturbed.report),
            _same_calls(killed.counts, undisturbed.counts),
            _numbers(killed),
        ]

    return checks


def _kills(counts: Counts, windows: tuple[str, ...]) -> Check:
    expected = {"tool": ["tool"], "model": ["model"], "between": []}
    found = {
        kill.window: [counts.calls[key].kind for key in kill.in_flight] for kill in counts.kills
    }
    return Check(
        "the agent was killed during a tool call, between calls and during a model call",
        found == {window: expected[window] for window in windows},
        f"in flight at the kills: {found}",
    )


def _exactly_once(counts: Counts) -> Check:
    repeated = [call for call in counts.calls.values() if not call.killed_in and len(call.runs) > 1]
    return Check(
        "every call that was not in flight at a kill ran exactly once",
        not repeated,
        _listed(repeated),
    )


def _at_most_twice(counts: Counts) -> Check:
    excessive = [call for call in counts.calls.values() if call.killed_in and len(call.runs) > 2]
    unfinished = [call for call in counts.calls.values() if call.runs[-1].ended is None]
    return Check(
        "every call in flight at a kill ran at most twice, and came to its end",
        not excessive and not unfinished,
        _listed([*excessive, *unfinished]),
    )


def _same_report(killed: str, undisturbed: str) -> Check:
    return Check(
        "the report equals that of the undisturbed run",
        killed.strip() == undisturbed.strip() != "",
        f"undisturbed, it was: {undisturbed}",
    )


def _same_calls(killed: Counts, undisturbed: Counts) -> Check:
    one, other = set(killed.calls), set(undisturbed.calls)
    return Check(
        "the same model calls and tool calls were made as in the undisturbed run",
        one == other and all(len(call.runs) == 1 for call in undisturbed.calls.values()),
        f"{len(one - other)} only in the killed run, {len(other - one)} only in the other",
    )


def _numbers(killed: Outcome) -> Check:
    outputs = [call.output for call in killed.counts.of("tool")]
    missing = uncovered(killed.report, outputs)
    return Check(
        "every number in the report occurs in the output of a tool",
        not missing,
        f"not in any: {', '.join(missing)}",
    )


def _listed(calls: list[Call]) -> str:
    def lines() -> Iterator[str]:
        for call in calls:
            yield f"{call.kind} {call.label}: {len(call.runs)} times"

    return "; ".join(lines())
