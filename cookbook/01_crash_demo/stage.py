"""One run of the agent, started as often as it takes."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from checkout import Checkout
from checks import Outcome
from counts import Event, counted
from witness import Tail, Witness, child_environment


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


@contextmanager
def staged(checkout: Checkout, witness: Witness, store: Path) -> Generator[Stage]:
    """Start the witness; in the end, end the agent and the witness."""
    with witness:
        stage = Stage(checkout, witness, store)
        try:
            yield stage
        finally:
            stage.stop()


class Stage:
    """One run of the agent, over all its lives: its commit, its store, its witness."""

    def __init__(self, checkout: Checkout, witness: Witness, store: Path) -> None:
        self._witness = witness
        self._store = store
        self._arguments = (checkout.root, "--commit", checkout.commit)
        # A new id each time: with --store, the record of an earlier demo may be there.
        self._workflow_id = f"audit-{checkout.commit[:10]}-{secrets.token_hex(3)}"
        self._tail = Tail(witness.log)
        self._life = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.events: list[Event] = []

    @property
    def life(self) -> int:
        """Return how often the agent was started."""
        return self._life

    def start(self) -> int:
        """Start the agent, for the first time or again, and return its process id."""
        self._life += 1
        self._witness.note("life_started", life=self._life)
        with self._output("out").open("wb") as out, self._output("err").open("wb") as err:
            # A group of its own: Ctrl-C is for the demo, which then ends the agent.
            self._process = subprocess.Popen(
                [*self._witness.command, *self._arguments, "--workflow-id", self._workflow_id],
                env=child_environment(self._witness, self._store),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,
            )

        return self._process.pid

    def stop(self) -> None:
        """Kill the agent with SIGKILL, if it lives, and wait until it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def kill(self, window: str, label: str) -> None:
        """Kill the agent, and have that noted once it is dead."""
        self.stop()
        self._witness.note("killed", life=self._life, window=window, label=label)
        self._witness.release()

    def new_events(self) -> list[Event]:
        """Return what the witness saw since the last call."""
        found = self._tail.read()
        self.events += found
        return found

    def ended(self) -> bool:
        """Return whether the agent has come to its end.

        Raises:
            DemoError: It failed.
        """
        assert self._process is not None
        status = self._process.poll()
        if status:
            said = self._output("err").read_text(errors="replace").strip()
            raise DemoError(f"agent.py ended with status {status}:\n{said[-3000:]}")

        return status == 0

    def outcome(self) -> Outcome:
        """Return what the run came to."""
        self.new_events()
        return Outcome(self._output("out").read_text(encoding="utf-8"), counted(self.events))

    def _output(self, kind: str) -> Path:
        return self._witness.log.with_name(f"life-{self._life}.{kind}")
