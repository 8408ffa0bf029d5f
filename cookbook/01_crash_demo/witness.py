"""Who watches the agent from outside: the offline model server, or with `--live` a file.

Either way there is one list of events on disk, written by nobody who can be killed before the write
is done, and a way to make the agent wait at the moment when it is to be killed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from counts import Event
from durable_openai_agents.testing import FaultRule, ModelServer
from ledger import append

HERE = Path(__file__).resolve().parent


class Witness(Protocol):
    """Sees every model call and tool call of one agent, over all its lives."""

    command: tuple[str, ...]
    log: Path

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def environment(self) -> dict[str, str]:
        """Return what the agent's process needs in its environment."""
        ...

    def note(self, kind: str, **fields: object) -> None:
        """Add an event of the demo's own."""
        ...

    def hold(self, rule: FaultRule) -> None:
        """Let the agent wait where the rule says, until it is released or dead."""
        ...

    def release(self) -> None:
        """Let nobody wait any more."""
        ...


class Offline:
    """The model server is the witness: tools tell its ledger, model calls reach it anyway."""

    command: tuple[str, ...] = (sys.executable, str(HERE / "agent.py"))

    def __init__(self, log: Path, *, latency: float) -> None:
        self.log = log
        self._server = ModelServer(f"{HERE / 'policy.py'}:audit", log=log, latency=latency)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)

    def environment(self) -> dict[str, str]:
        return self._server.environment() | {"CRASH_DEMO_LEDGER": f"{self._server.url}/_ledger"}

    def note(self, kind: str, **fields: object) -> None:
        self._server.record(kind, **fields)

    def hold(self, rule: FaultRule) -> None:
        self._server.add_fault(rule)

    def release(self) -> None:
        self._server.clear_faults()


class Live:
    """A file is the witness: tools write to it, and live.py around the agent's model client."""

    command: tuple[str, ...] = (sys.executable, str(HERE / "live.py"))

    def __init__(self, log: Path, *, model: str | None) -> None:
        self.log = log
        self._model = model
        self._hold = log.with_suffix(".hold")

    def __enter__(self) -> Self:
        self.log.touch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def environment(self) -> dict[str, str]:
        model = {} if self._model is None else {"OPENAI_DEFAULT_MODEL": self._model}
        return model | {"CRASH_DEMO_LEDGER": str(self.log)}

    def note(self, kind: str, **fields: object) -> None:
        append(self.log, kind, fields)

    def hold(self, rule: FaultRule) -> None:
        draft = self._hold.with_suffix(".draft")
        draft.write_text(json.dumps(rule.to_json()))
        draft.replace(self._hold)

    def release(self) -> None:
        self._hold.unlink(missing_ok=True)


class Tail:
    """Follows a log while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Event]:
        """Return the events that were completed since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")

        self._offset += len(whole) + len(end)
        return [json.loads(line) for line in whole.splitlines()]


def child_environment(witness: Witness, store: Path) -> dict[str, str]:
    """Return the whole environment of the agent's process."""
    return (
        dict(os.environ)
        | witness.environment()
        | {"DURABLE_URL": f"sqlite:///{store / 'durable.db'}", "PYTHONUNBUFFERED": "1"}
    )
