"""Fresh interpreters: started with a time limit and their output in a file, ended by their test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

TESTS = Path(__file__).resolve().parents[1]
LIMIT = 30.0
# Read before a fixture clears it: the bug that is planted here is in every process.
PLANTED = {n: os.environ[n] for n in ("DURABLE_PLANTED",) if n in os.environ}


@dataclass(frozen=True)
class Ended:
    """How a process ended. ``code`` is negative if a signal ended it."""

    code: int
    output: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL

    def checked(self) -> Self:
        """Return itself, or fail the test with the output of the process."""
        assert self.code == 0, f"the process ended with {self.code}:\n{self.output}"
        return self


def _heed_interrupts() -> None:
    """Undo what a shell does to the programs that it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Process:
    """One running process, in a session of its own."""

    def __init__(
        self, command: list[str], environment: dict[str, str], log: Path, folder: Path
    ) -> None:
        self.log = log
        self._started = time.monotonic()
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
                preexec_fn=_heed_interrupts,  # noqa: PLW1509  # no threads of ours hold locks here
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> Ended:
        """End it by SIGKILL, and everything that it started."""
        if self.running:
            os.killpg(self._popen.pid, signal.SIGKILL)

        return self.wait()

    def wait(self, limit: float = LIMIT) -> Ended:
        """Wait for its end; a process that takes longer fails the test with its output."""
        try:
            code = self._popen.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
            raise AssertionError(f"not ended after {limit:g} s:\n{self.output}") from None

        return Ended(code, self.output, time.monotonic() - self._started)


class Processes:
    """Starts processes whose output goes to a folder; all of them end with the context."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()

    def start(
        self, script: Path | str, *arguments: object, fault: str = "", **environment: object
    ) -> Process:
        """Start a fresh interpreter on a script, or on the code if it is a string.

        Args:
            script: A file, or code.
            arguments: Of the script.
            fault: ``point:n``, at which the process kills itself.
            environment: More variables.
        """
        target = ["-c", script] if isinstance(script, str) else [str(script)]
        command = [sys.executable, "-X", "faulthandler", *target, *map(str, arguments)]
        log = self._folder / f"process-{len(self._started)}.log"
        variables = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(TESTS),
            "PYTHONWARNINGS": "error",
            "PYTHONUNBUFFERED": "1",
            **PLANTED,
            **({"DURABLE_FAULT": fault} if fault else {}),
            **{name: str(value) for name, value in environment.items()},
        }
        process = Process(command, variables, log, self._folder)
        self._started.append(process)
        return process

    def run(
        self,
        script: Path | str,
        *arguments: object,
        fault: str = "",
        limit: float = LIMIT,
        **environment: object,
    ) -> Ended:
        """As `start`, and wait for the end."""
        return self.start(script, *arguments, fault=fault, **environment).wait(limit)
