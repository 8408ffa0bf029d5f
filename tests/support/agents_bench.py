"""One agent program, run by the SDK's runner, by ours, and from the record, against one server."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agents import Agent, OpenAIProvider, RunConfig, Runner, RunResult
from agents.models.interface import ModelProvider
from durable_core.client import Client
from durable_openai_agents import DurableRunner, RunOptions
from durable_openai_agents.testing import Fault, FaultRule, LoggedRequest, ModelServer
from openai import AsyncOpenAI

from support import agents_policy, positional
from support.agents_projection import project, same

Turn = dict[str, Any]


# The script of an agent


def say(text: str) -> Turn:
    """The model answers with text."""
    return {"text": text}


def say_json(value: Any) -> Turn:
    """The model answers with structured output."""
    return {"text": json.dumps(value)}


def call(name: str, /, **arguments: Any) -> Turn:
    """The model calls one tool."""
    return {"calls": [[name, arguments]]}


def calls(*several: Turn) -> Turn:
    """The model calls several tools at once."""
    return {"calls": [one for turn in several for one in turn["calls"]]}


ECHO: Turn = {"echo": True}
"""The model answers with a JSON list of what the tools gave it."""

REPEAT: Turn = {"repeat": True}
"""The model answers with the last user message."""


def mind(name: str, *turns: Turn, offset: int = 0) -> str:
    """Return instructions with a script: one entry per turn, the last one for ever.

    Args:
        name: First line, by which the server's log tells agents apart.
        turns: What the model does.
        offset: How many turns others had before, in the conversation that a handoff brings.
    """
    return f"{name}\n{json.dumps({'turns': turns, 'offset': offset})}"


def agent(name: str, *turns: Turn, offset: int = 0, **fields: Any) -> Agent[Any]:
    """Return an agent with a script."""
    return Agent(name=name, instructions=mind(name, *turns, offset=offset), **fields)


# The server, and the runs


@contextmanager
def bench_server(folder: Path) -> Iterator[tuple[ModelServer, Path]]:
    """Start a server that answers as the instructions say, and keeps the bodies that it sees."""
    bodies = folder / "bodies.jsonl"
    os.environ["MODEL_BODIES"] = str(bodies)
    try:
        server = ModelServer(agents_policy.instructed)
        with server:
            yield server, bodies
    finally:
        del os.environ["MODEL_BODIES"]


@dataclass(frozen=True)
class Compared:
    """The same run three times.

    Attributes:
        plain, live, recorded: By the SDK's runner, by ours, and by ours from the record.
        requests: The server's log of the live run.
        ran: What the bodies noted during the live run.
    """

    plain: RunResult
    live: RunResult
    recorded: RunResult
    requests: list[LoggedRequest]
    ran: list[Any]


@dataclass
class Bench:
    """A shared server as one test sees it: only its own requests.

    Attributes:
        server: The server.
        ran: What the bodies of the test's tools note.
    """

    server: ModelServer
    bodies_file: Path
    store_url: str
    api: str = "responses"
    ran: list[Any] = field(default_factory=list[Any])
    _first_request: int = 0
    _first_body: int = 0

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Look only at what comes from now on."""
        self._first_request = len(self.server.requests())
        self._first_body = len(self._body_lines())
        self.ran.clear()

    def requests(self) -> list[LoggedRequest]:
        """Return the model calls that reached the server."""
        return self.server.requests(after=self._first_request)

    def times(self) -> list[float]:
        """Return when they did."""
        found = [e["time"] for e in self.server.events() if e["kind"] == "request"]
        return [float(str(t)) for t in found][self._first_request :]

    def bodies(self) -> list[dict[str, Any]]:
        """Return the bodies that it saw, sorted, with random ids replaced."""
        found = [json.loads(line)["body"] for line in self._body_lines()[self._first_body :]]
        return sorted(
            (_without_random(body) for body in found), key=lambda b: json.dumps(b, sort_keys=True)
        )

    def headers(self) -> list[dict[str, str]]:
        """Return the headers that it saw, without credentials."""
        return [json.loads(line)["headers"] for line in self._body_lines()[self._first_body :]]

    def fault(
        self,
        kind: str,
        *,
        times: int | None = 1,
        nth: int = 1,
        turn: int | None = None,
        **fields: Any,
    ) -> None:
        """Let something go wrong with the next requests."""
        rule = FaultRule(fault=Fault(kind=kind, **fields), times=times, nth=nth, turn=turn)  # type: ignore[arg-type]
        self.server.add_fault(rule)

    @asynccontextmanager
    async def provider(
        self, *, api: str | None = None, **options: Any
    ) -> AsyncIterator[OpenAIProvider]:
        """Yield a provider whose client is as users make it, with its own retries on."""
        options = {"api_key": "sk-test", "timeout": 20.0, **options}
        async with AsyncOpenAI(base_url=self.server.base_url, **options) as client:
            yield OpenAIProvider(
                openai_client=client, use_responses=(api or self.api) == "responses"
            )

    @asynccontextmanager
    async def config(
        self, *, client: dict[str, Any] | None = None, **fields: Any
    ) -> AsyncIterator[RunConfig]:
        """Yield a run config with such a provider, and without traces if nothing is said of them."""
        async with self.provider(**(client or {})) as provider:
            yield RunConfig(model_provider=provider, **{"tracing_disabled": True, **fields})

    async def run(
        self,
        agent: Agent[Any],
        input: Any = "hi",
        *,
        runner: Any = DurableRunner,
        config: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> RunResult:
        """Run an agent with a client of its own."""
        async with self.config(**(config or {})) as run_config:
            return await runner.run(agent, input, run_config=run_config, **arguments)

    def run_once(self, agent: Agent[Any], input: Any = "hi", **arguments: Any) -> RunResult:
        """As `run`, in an event loop of its own."""
        return asyncio.run(self.run(agent, input, **arguments))

    def plainly(self, agent: Agent[Any], input: Any = "hi", **arguments: Any) -> RunResult:
        """As `run_once`, by the SDK's own runner."""
        return self.run_once(agent, input, runner=Runner, **arguments)

    def failure(self, agent: Agent[Any], input: Any = "hi", **arguments: Any) -> Exception:
        """Return what a run raises."""
        try:
            result = self.run_once(agent, input, **arguments)
        except Exception as error:
            return error

        raise AssertionError(f"the run did not fail: {result.final_output!r}")

    def compare(
        self,
        agent: Agent[Any],
        input: Any = "hi",
        *,
        agents: tuple[Agent[Any], ...] = (),
        id: str = "run",
        **arguments: Any,
    ) -> Compared:
        """Run an agent by the SDK's runner, by ours, and from the record; all must look the same.

        Args:
            agent: Where it starts.
            input: What it starts with.
            agents: The other agents of the program.
            id: Of the run.
            arguments: Of the runner. A callable is called for each run, for what has a state.
        """
        fresh: Callable[[], dict[str, Any]] = lambda: {  # noqa: E731
            name: value() if callable(value) and name in {"context", "hooks"} else value
            for name, value in arguments.items()
        }
        self.forget()
        plain = self.plainly(agent, input, **fresh())
        bodies, digests, ran = self.bodies(), _digests(self.requests()), sorted(map(repr, self.ran))

        self.forget()
        live = self.run_once(agent, input, workflow_id=id, **fresh())
        same(self.bodies(), bodies, "what the model server saw")
        same(_digests(self.requests()), digests, "the requests")
        same(sorted(map(repr, self.ran)), ran, "the bodies that ran")
        same(project(live, agent, *agents), project(plain, agent, *agents), "the live result")
        requests, ran_live = self.requests(), list(self.ran)

        self.forget()
        recorded = self.run_once(agent, input, workflow_id=id, **fresh())
        same(self.requests(), [], "the requests of a recorded run")
        same(self.ran, [], "the bodies that a recorded run ran")
        same(
            project(recorded, agent, *agents), project(plain, agent, *agents), "the recorded result"
        )
        return Compared(plain, live, recorded, requests, ran_live)

    def compare_failures(
        self, agent: Agent[Any], input: Any = "hi", *, id: str = "run", **arguments: Any
    ) -> tuple[Exception, Exception, Exception]:
        """As `compare`, for a run that raises; returns what the three raised."""
        self.forget()
        plain = self.failure(agent, input, runner=Runner, **arguments)
        bodies = self.bodies()
        self.forget()
        live = self.failure(agent, input, workflow_id=id, **arguments)
        same(self.bodies(), bodies, "what the model server saw")
        self.forget()
        options = replace(arguments.pop("options", RunOptions()), on_failed="raise")
        recorded = self.failure(agent, input, workflow_id=id, options=options, **arguments)
        same(self.requests(), [], "the requests of a recorded run")
        same(self.ran, [], "the bodies that a recorded run ran")
        for how, other in (("live", live), ("recorded", recorded)):
            same([type(other), str(other)], [type(plain), str(plain)], f"the {how} exception")
            same(type(other.__cause__), type(plain.__cause__), f"the cause of the {how} exception")

        return plain, live, recorded

    # The record

    def history(self, id: str = "run") -> Any:
        """Return what is recorded of a run."""
        positional.needs_a_store()
        return self._of(id, lambda handle: handle.fetch_history())

    def status(self, id: str = "run") -> str:
        """Return what became of a run."""
        return str(self._of(id, lambda handle: handle.describe()).status.name)

    def _of(self, id: str, what: Callable[[Any], Any]) -> Any:
        async def fetch() -> Any:
            async with await Client.connect(self.store_url) as client:
                return await what(client.get_workflow_handle(id))

        return asyncio.run(fetch())

    def activities(self, id: str = "run", name: str | None = None) -> list[Any]:
        """Return the activities of a run as its timeline shows them."""
        found = [entry for entry in self.history(id).timeline() if entry.kind == "activity"]
        return [entry for entry in found if name is None or entry.name == name]

    def _body_lines(self) -> list[str]:
        return self.bodies_file.read_text().splitlines() if self.bodies_file.exists() else []


class Watched(ModelProvider):
    """A user's own provider, which counts what is asked of it."""

    def __init__(self, inner: ModelProvider) -> None:
        self.inner = inner
        self.asked: list[str | None] = []
        self.closed = 0

    def get_model(self, model_name: str | None) -> Any:
        self.asked.append(model_name)
        return self.inner.get_model(model_name)

    async def aclose(self) -> None:
        self.closed += 1
        await self.inner.aclose()


_RANDOM = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}")


def _without_random(body: dict[str, Any]) -> dict[str, Any]:
    key = body.get("prompt_cache_key")
    return body if key is None else {**body, "prompt_cache_key": _RANDOM.sub("<uuid>", key)}


def _digests(requests: list[LoggedRequest]) -> list[tuple[str, str]]:
    return sorted((request.agent, request.digest) for request in requests)
