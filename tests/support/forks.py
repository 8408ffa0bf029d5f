"""Processes that are forked from one that has imported everything, for large numbers of trials.

The host is a fresh interpreter that imports modules and then only forks: it has one thread, and
nothing of the engine was started in it. Each child runs a script as its `__main__`, as a fresh
interpreter would; the hash seed is the host's.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from support.processes import LIMIT, PLANTED, TESTS, Ended

_PRELOADED = ("support.kill_app", "support.agents_app", "support.once_app")


class Fork:
    """One child; used as `support.processes.Process` is."""

    def __init__(self, forks: Forks, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log
        self._forks = forks
        self._started = time.monotonic()
        self._code: int | None = None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def running(self) -> bool:
        if self._code is None:
            self._code = self._forks.ask("poll", pid=self.pid)

        return self._code is None

    def kill(self) -> Ended:
        """End it by SIGKILL."""
        if self.running:
            self._code = self._forks.ask("kill", pid=self.pid)

        return self.wait()

    def wait(self, limit: float = LIMIT) -> Ended:
        """Wait for its end; one that takes longer fails the test with its output."""
        deadline = time.monotonic() + limit
        while self.running:
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"not ended after {limit:g} s:\n{self.output}")

            time.sleep(0.002)

        assert self._code is not None
        return Ended(self._code, self.output, time.monotonic() - self._started)


class Forks:
    """A host, and the children that it forks; all of them end with the context.

    Args:
        folder: For what they print.
        preloaded: What the host imports.
    """

    def __init__(self, folder: Path, preloaded: Sequence[str] = _PRELOADED) -> None:
        self._folder = folder
        self._preloaded = preloaded
        self._count = 0

    def __enter__(self) -> Self:
        with (self._folder / "host.log").open("wb") as said:
            self._host = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "support.forks", *self._preloaded],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(TESTS), **PLANTED},
                cwd=self._folder,
                start_new_session=True,
            )

        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._host.pid, signal.SIGKILL)
        self._host.communicate()

    def start(
        self, script: Path | str, *arguments: object, fault: str = "", **environment: object
    ) -> Fork:
        """Fork a child that runs a script; see `support.processes.Processes.start`."""
        self._count += 1
        log = self._folder / f"fork-{self._count}.log"
        pid = self.ask(
            "start",
            script=str(script),
            arguments=[str(a) for a in arguments],
            environment={
                "PATH": os.environ.get("PATH", ""),
                **({"DURABLE_FAULT": fault} if fault else {}),
                **{name: str(value) for name, value in environment.items()},
            },
            log=str(log),
        )
        return Fork(self, pid, log)

    def run(self, script: Path | str, *arguments: object, **environment: Any) -> Ended:
        """As `start`, and wait for the end."""
        return self.start(script, *arguments, **environment).wait()

    def ask(self, what: str, **more: Any) -> Any:
        """Let the host do something, and return its answer."""
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        self._host.stdin.write(json.dumps({"what": what, **more}).encode() + b"\n")
        self._host.stdin.flush()
        answer = self._host.stdout.readline()
        assert answer, f"the host has ended:\n{(self._folder / 'host.log').read_text()}"
        return json.loads(answer)


def _serve() -> None:
    for name in sys.argv[1:]:
        __import__(name)

    for line in sys.stdin.buffer:
        asked = json.loads(line)
        match asked.pop("what"):
            case "start":
                assert threading.active_count() == 1, "a fork of several threads may hang"
                # Here, so that it is there when the test looks.
                out = os.open(asked.pop("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                answer = os.fork() or _child(out, **asked)
                os.close(out)
            case "kill":
                os.kill(asked["pid"], signal.SIGKILL)
                answer = _code(asked["pid"], 0)
            case _:
                answer = _code(asked["pid"], os.WNOHANG)

        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _code(pid: int, options: int) -> int | None:
    """Return how a child ended, negative if a signal ended it; None if it has not."""
    # A child that was not waited for keeps its number, so none of ours is ever somebody else's.
    ended, status = os.waitpid(pid, options)
    return os.waitstatus_to_exitcode(status) if ended else None


def _child(out: int, script: str, arguments: Sequence[str], environment: dict[str, str]) -> int:
    """Become the process that was asked for; does not return."""
    code = 1
    try:
        for fd, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, out)):
            os.dup2(source, fd)

        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [script, *arguments]
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        _arm()
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _arm() -> None:
    """Heed the variable of fault points, which was read when the host imported them."""
    from durable_core import _faults

    if "DURABLE_FAULT" in os.environ:
        _faults._arm(os.environ["DURABLE_FAULT"])


if __name__ == "__main__":
    _serve()
