"""Notebooks: a Jupyter kernel of its own, on loopback, that ends with its test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_client import BlockingKernelClient, KernelManager

from support.processes import LIMIT, TESTS


@dataclass
class Cell:
    """What running a cell gave.

    Attributes:
        output, said: What it wrote to stdout and to stderr.
        error: Class and message of the exception that ended it, if one did.
    """

    output: str = ""
    said: str = ""
    error: str = ""


@dataclass
class Notebook:
    """A kernel and the client that runs cells in it."""

    _manager: KernelManager
    _client: BlockingKernelClient
    _running: dict[str, Cell] = field(default_factory=dict[str, Cell])

    def start(self, code: str) -> str:
        """Send a cell, and return its number, for `wait`."""
        number = str(self._client.execute(code, allow_stdin=False))
        self._running[number] = Cell()
        return number

    def wait(self, number: str) -> Cell:
        """Return what a cell gave, once it has ended."""
        cell = self._running.pop(number)
        deadline = time.monotonic() + LIMIT
        while True:
            message = self._client.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") != number:
                continue

            content = message["content"]
            match message["msg_type"]:
                case "stream" if content["name"] == "stdout":
                    cell.output += content["text"]
                case "stream":
                    cell.said += content["text"]
                case "error":
                    cell.error = f"{content['ename']}: {content['evalue']}"
                case "status" if content["execution_state"] == "idle":
                    return cell
                case _:
                    pass

    def run(self, code: str) -> Cell:
        """Run a cell to its end."""
        return self.wait(self.start(code))

    def interrupt(self) -> None:
        """Do what the stop button does."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """Kill the kernel and start another one in its place."""
        self._running.clear()
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=LIMIT)


@contextmanager
def notebook(folder: Path, environment: dict[str, str]) -> Iterator[Notebook]:
    """Start a kernel in a folder; it ends with the context."""
    manager = KernelManager(ip="127.0.0.1", connection_file=str(folder / "kernel.json"))
    manager.kernel_spec.argv[0] = sys.executable
    variables = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(TESTS),
        "IPYTHONDIR": str(folder / "ipython"),
        **environment,
    }
    with (folder / "kernel.log").open("wb") as log:
        manager.start_kernel(env=variables, cwd=str(folder), stdout=log, stderr=log)
        try:
            client = manager.client()
            client.start_channels()
            try:
                client.wait_for_ready(timeout=LIMIT)
                yield Notebook(manager, client)
            finally:
                client.stop_channels()
        finally:
            manager.shutdown_kernel(now=True)
            manager.context.destroy()
