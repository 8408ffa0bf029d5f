"""Start a model server in a process of its own, and look at its log."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self, TypeAlias, cast
from urllib.parse import urlsplit

from ._answer import FunctionCall, Policy
from ._fault import Fault, FaultRule
from ._json import JsonObject, as_object, as_objects, as_text
from ._log import LogReader
from ._policy import reference_of

Outcome: TypeAlias = Literal["answer", "fault", "error", "gone"]


class ModelServerError(Exception):
    """The server did not start, or refused what it was told; the text holds what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One model call that reached the server, with what came of it.

    Args:
        number: 1, 2, … in the order of arrival.
        agent: The first line of the instructions.
        turn: How many model outputs the conversation held.
        digest: Equal for calls with the same instructions and items.
        retry: Which retry of the client this was; 0 is the first try.
        outcome: None while there is none yet.
        status: The HTTP status that was sent, if any was.
        text: The text of the answer.
        calls: The function calls of the answer.
        call_ids: Their ids.
        seconds: From the request to its outcome.
    """

    number: int
    api: str
    model: str
    agent: str
    turn: int
    digest: str
    retry: int
    outcome: Outcome | None
    status: int | None
    text: str | None
    calls: tuple[FunctionCall, ...]
    call_ids: tuple[str, ...]
    seconds: float | None


class ModelServer:
    """A model server as a context manager: started on entry, ended on exit, with nothing left.

    It is a process of its own, so that killing the program under test leaves it and its log
    alone. It ends by itself when the process that started it dies.

    Args:
        policy: Who answers: a function at the top of a file (it is imported again over there), a
            script as a list of entries, or a name as the command line takes it.
        log: Where the request log is kept; by default in a folder that goes with the server.
        port: 0 takes a free one.
        latency: Seconds that every model call takes.
        faults: Rules that are in force from the start.
        start_timeout: Seconds within which the server must be ready.
    """

    def __init__(
        self,
        policy: Policy | Sequence[JsonObject] | str | Path,
        *,
        log: Path | str | None = None,
        port: int = 0,
        latency: float = 0.0,
        faults: Sequence[FaultRule] = (),
        start_timeout: float = 30.0,
    ) -> None:
        self._policy = policy
        self._log = None if log is None else Path(log)
        self._port = port
        self._latency = latency
        self._faults = faults
        self._start_timeout = start_timeout
        self._resources = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: LogReader | None = None
        self._url = ""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            folder = Path(
                resources.enter_context(tempfile.TemporaryDirectory(prefix="model-server-"))
            )
            self._log = folder / "requests.jsonl" if self._log is None else self._log
            output = resources.enter_context((folder / "output.txt").open("w+b"))
            announce = folder / "url.txt"
            self._process = self._started(folder, announce, output)
            resources.callback(self._stop)
            self._url = self._announced(announce, output)
            self._resources = resources.pop_all()

        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    @property
    def url(self) -> str:
        """Return the root of the server, such as `http://127.0.0.1:40123`."""
        return self._url

    @property
    def base_url(self) -> str:
        """Return what an OpenAI client takes as `base_url`."""
        return f"{self._url}/v1"

    @property
    def log(self) -> Path:
        """Return where the request log is."""
        if self._log is None:
            raise ModelServerError("the server has not been started: use it in a `with` block")

        return self._log

    @property
    def pid(self) -> int:
        """Return the id of the server's process."""
        if self._process is None:
            raise ModelServerError("the server has not been started: use it in a `with` block")

        return self._process.pid

    def environment(self) -> dict[str, str]:
        """Return what a process needs in its environment so that the SDK asks this server."""
        bypass = [os.environ[name] for name in ("NO_PROXY", "no_proxy") if os.environ.get(name)]
        direct = ",".join(["127.0.0.1", *bypass[:1]])
        return {
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": "dummy",
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
            "NO_PROXY": direct,
            "no_proxy": direct,
        }

    def events(self) -> list[JsonObject]:
        """Return every line of the log so far, those of the ledger included."""
        if self._reader is None:
            self._reader = LogReader(self.log)

        return self._reader.read()

    def requests(self, *, after: int = 0) -> list[LoggedRequest]:
        """Return the model calls so far, in the order of their arrival.

        Args:
            after: How many of the first to leave out.
        """
        events = self.events()
        outcomes = {
            event["request"]: event
            for event in events
            if event["kind"] in {"answer", "fault", "error", "gone"} and "request" in event
        }
        asked = [event for event in events if event["kind"] == "request"]
        return [_logged(event, outcomes.get(event["request"], {})) for event in asked[after:]]

    def add_fault(self, fault: Fault | FaultRule) -> None:
        """Let a fault happen: to the next model call, or as the rule says."""
        rule = FaultRule(fault=fault) if isinstance(fault, Fault) else fault
        self._tell("POST", "/_faults", rule.to_json())

    def clear_faults(self) -> None:
        """Forget every rule."""
        self._tell("DELETE", "/_faults")

    def record(self, kind: str, **fields: object) -> None:
        """Append a line to the log, between the server's own; it is on disk on return."""
        self._tell("POST", "/_ledger", {**fields, "kind": kind})

    def _started(self, folder: Path, announce: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            str(Path(__file__).with_name("_launch.py")),
            *("--policy", _reference(self._policy, folder)),
            *("--log", str(self.log.resolve())),
            *("--port", str(self._port)),
            *("--latency", str(self._latency)),
            *("--announce", str(announce)),
            *("--parent", str(os.getpid())),
        ]
        for rule in self._faults:
            command += ["--fault", json.dumps(rule.to_json())]

        # A group of its own: Ctrl-C in a terminal is for the program that will end this one.
        return subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )

    def _announced(self, announce: Path, output: IO[bytes]) -> str:
        deadline = time.monotonic() + self._start_timeout
        while not announce.exists():
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                problem = "ended at once" if ended else f"not ready in {self._start_timeout:g} s"
                raise ModelServerError(f"the model server {problem}; it said: {said or 'nothing'}")

            time.sleep(0.005)

        return announce.read_text(encoding="utf-8")

    def _stop(self) -> None:
        if self._process is None:
            return

        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, method: str, path: str, document: JsonObject | None = None) -> None:
        # No general HTTP client: proxies of the environment must not come between.
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            body = None if document is None else json.dumps(dict(document)).encode()
            connection.request(method, path, body)
            response = connection.getresponse()
            said = response.read().decode(errors="replace")
        finally:
            connection.close()

        if response.status != 204:
            raise ModelServerError(f"{method} {path} got {response.status}: {said}")


def _reference(policy: Policy | Sequence[JsonObject] | str | Path, folder: Path) -> str:
    if isinstance(policy, str):
        return policy

    if isinstance(policy, Path):
        return str(policy.resolve())

    if callable(policy):
        return reference_of(policy)

    script = folder / "script.json"
    script.write_text(json.dumps([dict(entry) for entry in policy]), encoding="utf-8")
    return str(script)


def _logged(request: Mapping[str, object], outcome: Mapping[str, object]) -> LoggedRequest:
    calls = as_objects(outcome.get("calls"))
    fault = as_object(outcome.get("fault"))
    status = {"error": 400}.get(as_text(outcome.get("kind")), outcome.get("status"))
    return LoggedRequest(
        number=cast("int", request["request"]),
        api=as_text(request["api"]),
        model=as_text(request["model"]),
        agent=as_text(request["agent"]),
        turn=cast("int", request["turn"]),
        digest=as_text(request["digest"]),
        retry=cast("int", request["retry"]),
        outcome=cast("Outcome | None", outcome.get("kind")),
        status=cast("int | None", fault.get("status", status)),
        text=as_text(outcome["text"]) if outcome.get("text") is not None else None,
        calls=tuple(
            FunctionCall(as_text(call["name"]), as_object(call["arguments"])) for call in calls
        ),
        call_ids=tuple(as_text(call["call_id"]) for call in calls),
        seconds=cast("float | None", outcome.get("seconds")),
    )
