"""What really ran, how often, and what a record saved: counted from the witness's lines alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

Event = Mapping[str, object]

_ENDS = {"answer", "fault", "error", "tool_finished"}


@dataclass
class Run:
    """One time that the body of a call ran; `ended` is None if its process died first."""

    life: int
    started: float
    ended: float | None = None


@dataclass
class Call:
    """One model call or tool call of the agents, with every time that it ran."""

    key: str
    kind: str
    label: str
    runs: list[Run] = field(default_factory=list[Run])
    killed_in: list[int] = field(default_factory=list[int])
    output: str = ""

    @property
    def seconds(self) -> float:
        """Return how long the run that came to its end took."""
        return sum(run.ended - run.started for run in self.runs if run.ended is not None)


@dataclass(frozen=True)
class Kill:
    """A SIGKILL: which life of the agent it ended, and what was going on."""

    life: int
    window: str
    label: str
    time: float
    in_flight: tuple[str, ...]


@dataclass
class Counts:
    """Everything counted, in the order in which it first happened."""

    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    kills: list[Kill] = field(default_factory=list[Kill])
    lives: int = 0
    life_times: list[float] = field(default_factory=list[float])

    def of(self, kind: str) -> list[Call]:
        return [call for call in self.calls.values() if call.kind == kind]

    def made(self, kind: str) -> int:
        """Return how many times bodies of this kind ran."""
        return sum(len(call.runs) for call in self.of(kind))

    def saved(self, kind: str) -> int:
        """Return how many times a call was taken from the record instead of being made again."""
        return sum(call.kind == kind for kill in self.kills for call in self._kept(kill))

    def saved_seconds(self) -> float:
        """Return how long making those calls again would have taken, parallel ones at once."""
        return sum(_union(_intervals(self._kept(kill))) for kill in self.kills)

    def _kept(self, kill: Kill) -> list[Call]:
        """Return the calls that had ended before a kill and did not run again after it."""
        return [
            call
            for call in self.calls.values()
            if any(run.life <= kill.life and run.ended is not None for run in call.runs)
            and all(run.life <= kill.life for run in call.runs)
        ]


def counted(events: Iterable[Event]) -> Counts:
    """Return what a witness saw, from its lines in their order."""
    counts = Counts()
    keys: dict[object, str] = {}
    for event in events:
        kind = event["kind"]
        time = cast("float", event["time"])
        if kind == "life_started":
            counts.lives += 1
            counts.life_times.append(time)
        elif kind in {"request", "tool_started"}:
            call = _call(event)
            # Within one life, an answer names its request by number.
            keys[counts.lives, event.get("request", event.get("call_id"))] = call.key
            counts.calls.setdefault(call.key, call).runs.append(Run(counts.lives, time))
        elif kind in _ENDS:
            key = keys.get((counts.lives, event.get("request", event.get("call_id"))))
            if key is not None:
                _end(counts.calls[key], event, time)

        elif kind == "killed":
            counts.kills.append(_kill(counts, event, time))

    return counts


def _call(event: Event) -> Call:
    if event["kind"] == "tool_started":
        return Call(str(event["call_id"]), "tool", str(event["tool"]))

    agent = "Report writer" if "report writer" in str(event["agent"]) else "Auditor"
    return Call(str(event["digest"]), "model", f"turn {event['turn']}, {agent}")


def _end(call: Call, event: Event, time: float) -> None:
    call.runs[-1].ended = time
    if event["kind"] == "tool_finished":
        call.output = str(event["output"])
    elif event["kind"] == "answer":
        asked = cast("Sequence[Mapping[str, object]]", event.get("calls") or ())
        call.output = ", ".join(str(each["name"]) for each in asked) or "the report"


def _kill(counts: Counts, event: Event, time: float) -> Kill:
    open_calls = [
        call
        for call in counts.calls.values()
        if call.runs[-1].life == counts.lives and call.runs[-1].ended is None
    ]
    for call in open_calls:
        call.killed_in.append(counts.lives)

    return Kill(
        life=counts.lives,
        window=str(event["window"]),
        label=str(event["label"]),
        time=time,
        in_flight=tuple(call.key for call in open_calls),
    )


def _intervals(calls: Iterable[Call]) -> list[tuple[float, float]]:
    runs = [run for call in calls for run in call.runs]
    return sorted((run.started, run.ended) for run in runs if run.ended is not None)


def _union(intervals: Sequence[tuple[float, float]]) -> float:
    """Return the time that is covered by at least one interval; they come sorted."""
    covered, reached = 0.0, 0.0
    for start, end in intervals:
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)

    return covered


def numbers(text: str) -> set[str]:
    """Return the runs of digits in a text."""
    return set(re.findall(r"\d+", text))


def uncovered(report: str, outputs: Iterable[str]) -> list[str]:
    """Return the numbers of a report that no tool ever put out."""
    known = {number for output in outputs for number in numbers(output)}
    return sorted(numbers(report) - known)
