"""The ledger of effects: the witness outside the engine.

Activities write one line per effect, appended in one system call and forced to disk before the body
goes on, so that a line is there if and only if the effect happened, whatever killed the process.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from durable_core import activity


@dataclass(frozen=True)
class Effect:
    """One line: which activity had its effect, for which run, and in which process."""

    workflow_id: str
    activity: str
    key: str
    args: Any
    attempt: int
    pid: int
    time: float
    started: float


class Ledger:
    """An append-only file that any number of processes write."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def write(self, key: object = "", *, args: Any = None, at: float | None = None) -> None:
        """Record an effect of the activity whose body calls this, now or at an earlier time."""
        info = activity.info()
        effect = Effect(
            workflow_id=info.workflow_id,
            activity=info.activity_type,
            key=str(key),
            args=args,
            attempt=info.attempt,
            pid=os.getpid(),
            time=time.time() if at is None else at,
            started=info.started_time.timestamp(),
        )
        line = json.dumps(asdict(effect)).encode() + b"\n"
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, line)
            os.fsync(fd)
        finally:
            os.close(fd)

    def effects(self, workflow_id: str | None = None) -> list[Effect]:
        """Return what happened, in order."""
        if not self.path.exists():
            return []

        # What follows the last newline is a line that another process is just writing.
        lines = self.path.read_text().split("\n")[:-1]
        found = [Effect(**json.loads(line)) for line in lines]
        return [e for e in found if workflow_id is None or e.workflow_id == workflow_id]

    def counts(self, workflow_id: str | None = None) -> Counter[str]:
        """Return how often each effect happened, by ``activity/key``."""
        return Counter(label(e) for e in self.effects(workflow_id))

    def has(self, activity_type: str, key: object = "", *, workflow_id: str | None = None) -> bool:
        """Return whether an effect has happened."""
        return any(
            e.activity == activity_type and e.key == str(key) for e in self.effects(workflow_id)
        )


def label(effect: Effect) -> str:
    """Return the name of an effect, for counting."""
    return f"{effect.activity}/{effect.key}" if effect.key else effect.activity


def from_environment() -> Ledger:
    """Return the ledger that the test named for its processes."""
    return Ledger(os.environ["LEDGER"])
