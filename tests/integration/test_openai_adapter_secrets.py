"""Credentials never reach the record: not the database, nor the log, nor what readers fetch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import traceback
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from agents import (
    HostedMCPTool,
    ModelSettings,
    OpenAIProvider,
    RunConfig,
    RunContextWrapper,
    UserError,
    function_tool,
)
from agents.tracing.processors import BackendSpanExporter, BatchTraceProcessor
from durable_core.cli import main as cli
from durable_openai_agents import DurableRunner
from openai import AsyncOpenAI
from support.agents_bench import ECHO, agent, call, say
from support.trace_backend import TraceBackend
from support.traces import listening

pytest_plugins = ["support.agents_fixtures"]

CANARY = "canary-5f1d"
PUBLIC = "a question that is recorded"


class Vault:
    """A context that holds a credential."""

    def __init__(self) -> None:
        self.token = f"{CANARY}-context"
        self.webhook: str | None = None


@function_tool
async def look(context: RunContextWrapper[Vault], name: str) -> str:
    assert context.context.token
    return f"seen {name}"


def bytes_of_store(path: Path) -> bytes:
    """Return everything on disk, read by another process: a close would drop SQLite's locks."""
    files = sorted(
        str(p) for p in path.parent.rglob("*") if p.is_file() and p.name.startswith(path.name)
    )
    return subprocess.run(["cat", *files], check=True, capture_output=True).stdout


class Seen:
    """Everything that a run left behind."""

    def __init__(self, bench, caplog, capsys, store_path) -> None:
        self._bench = bench
        self._caplog = caplog
        self._capsys = capsys
        self._path = store_path

    def check(self, id: str = "run") -> None:
        raw = bytes_of_store(self._path)
        history = json.dumps(self._bench.history(id).to_json_dict(), default=repr)
        self._capsys.readouterr()
        with contextlib.suppress(SystemExit):
            cli(["show", id])

        shown = self._capsys.readouterr()
        with contextlib.suppress(SystemExit):
            cli(["show", "--json", id])

        exported = self._capsys.readouterr()
        assert PUBLIC in exported.out
        assert PUBLIC.encode() in raw, "the search would not find a canary either"
        assert PUBLIC in history
        assert "openai_agents.model" in shown.out or "Worker" in shown.out
        for where, text in {
            "the database": raw.decode(errors="replace"),
            "the history": history,
            "the log": "\n".join(map(self._line, self._caplog.records)),
            "the command line": shown.out + shown.err,
            "the exported history": exported.out + exported.err,
        }.items():
            at = text.find(CANARY)
            assert at < 0, f"in {where}: …{text[max(0, at - 200) : at + 60]}…"

    @staticmethod
    def _line(record: logging.LogRecord) -> str:
        return logging.Formatter().format(record) + repr(record.args)


@pytest.fixture
def seen(bench, caplog, capsys, store_path):
    # Of everybody. Only the HTTP library tells of whole addresses, as it does without us.
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, logger="httpx2")
    return Seen(bench, caplog, capsys, store_path)


async def run_with_secrets(
    bench, *, key: str = f"sk-{CANARY}-key", during: Any = None, **client: Any
) -> Any:
    """Run an agent all of whose credentials are canaries."""
    hosted = HostedMCPTool(
        tool_config={
            "type": "mcp",
            "server_label": "crm",
            "server_url": "https://crm.example.com/mcp",
            "authorization": f"{CANARY}-authorization",
            "headers": {"x-token": f"Token {CANARY}-mcp-header"},
            "require_approval": "never",
        }
    )
    settings = ModelSettings(
        extra_headers={"x-api-token": f"{CANARY}-extra-header"},
        extra_args={"user": f"{CANARY}-extra-argument"},
        extra_body={"custom_token": f"{CANARY}-extra-body"},
        metadata={"note": f"{CANARY}-metadata"},
    )
    tools = [look, hosted]
    if during is not None:
        tools.append(during)

    worker = agent(
        "Worker",
        *([call("during")] if during is not None else []),
        call("look", name="it"),
        ECHO,
        tools=tools,
        model_settings=settings,
    )
    async with AsyncOpenAI(
        base_url=bench.server.base_url,
        api_key=key,
        default_headers={"x-default": f"{CANARY}-default-header"},
        organization=f"{CANARY}-organization",
        project=f"{CANARY}-project",
        **client,
    ) as openai_client:
        config = RunConfig(
            model_provider=OpenAIProvider(openai_client=openai_client),
            tracing={"api_key": f"{CANARY}-tracing"},
            trace_metadata={"token": f"{CANARY}-trace-metadata"},
        )
        return await DurableRunner.run(
            worker, PUBLIC, context=Vault(), run_config=config, workflow_id="run"
        )


def test_no_credential_of_a_run_is_recorded(bench, seen):
    result = asyncio.run(run_with_secrets(bench))
    assert json.loads(result.final_output) == ["seen it"]
    # They did reach the server.
    assert CANARY in json.dumps(bench.bodies())
    assert CANARY in json.dumps(bench.headers())
    seen.check()


@pytest.mark.needs_a_store
def test_no_credential_is_on_disk_while_a_run_is_under_way(bench, store_path):
    @function_tool
    async def during() -> str:
        raw.append(await asyncio.to_thread(bytes_of_store, store_path))
        return "looked"

    raw: list[bytes] = []
    asyncio.run(run_with_secrets(bench, during=during))
    assert PUBLIC.encode() in raw[0]
    assert CANARY.encode() not in raw[0]


@pytest.mark.parametrize("status", [401, 429, 500])
def test_no_credential_is_recorded_when_the_server_refuses(bench, seen, status):
    bench.fault("status", status=status, retry_after=0, times=None)
    with pytest.raises(openai.APIStatusError):
        asyncio.run(run_with_secrets(bench))

    seen.check()


@pytest.mark.parametrize("tells", [True, False])
def test_no_header_of_a_request_that_a_tool_makes_is_recorded(bench, seen, tells):
    @function_tool(**({} if tells else {"failure_error_function": None}))
    async def during() -> str:
        headers = {"authorization": f"Bearer {CANARY}-tool"}
        request = httpx2.Request("GET", "https://api.example.com/orders/42", headers=headers)
        cookie = {"set-cookie": f"{CANARY}-cookie"}
        return httpx2.Response(401, headers=cookie, request=request).raise_for_status().text

    with contextlib.nullcontext() if tells else pytest.raises(UserError, match="orders/42"):
        asyncio.run(run_with_secrets(bench, during=during))

    seen.check()


def test_what_a_tool_keeps_in_the_context_is_not_recorded_and_only_its_name_is_told(
    bench, seen, caplog
):
    @function_tool
    async def during(context: RunContextWrapper[Vault]) -> str:
        context.context.webhook = f"https://hooks.example.com/{CANARY}-webhook"
        return "kept"

    asyncio.run(run_with_secrets(bench, during=during))
    assert "webhook" in caplog.text
    seen.check()


@pytest.mark.parametrize("status", [None, 401])
def test_no_key_of_the_trace_backend_is_recorded(bench, seen, status):
    if status is not None:
        bench.fault("status", status=status, message=f"sk-{CANARY}-key", times=None)

    with TraceBackend() as backend:
        exporter = BackendSpanExporter(endpoint=backend.url)
        exporter.set_api_key(f"{CANARY}-exporter")  # as set_tracing_export_api_key does
        processor = BatchTraceProcessor(exporter, schedule_delay=0.01)
        with listening(processor), contextlib.suppress(openai.AuthenticationError):
            asyncio.run(run_with_secrets(bench))

        processor.shutdown()
        exporter.close()

    assert backend.of_kind("trace.span")
    seen.check()


QUOTED = [
    f"sk-{CANARY}-key",
    f"{CANARY}-default-header",
    f"{CANARY}-extra-header",
    f"{CANARY}-extra-body",
    f"{CANARY}-authorization",
    f"Token {CANARY}-mcp-header",
]


@pytest.mark.parametrize("status", [401, 429])
def test_no_credential_is_recorded_when_the_server_quotes_it(bench, seen, capsys, status):
    says = f"wrong: {', '.join(QUOTED)}; {CANARY}-mcp-header was not accepted"
    bench.fault("status", status=status, message=says, retry_after=0, times=None)
    with pytest.raises(openai.APIStatusError) as raised:
        asyncio.run(run_with_secrets(bench))

    assert "wrong: [hidden], [hidden], " in str(raised.value)
    assert raised.value.body["message"].count("[hidden]") == len(QUOTED) + 1
    assert "was not accepted" in str(raised.value), "what is no credential stays"
    # What a program prints that dies of it.
    printed = "".join(traceback.format_exception(raised.value))
    assert "durable show run" in printed
    assert CANARY not in printed
    seen.check()


@pytest.mark.parametrize("kind", ["cut", "hang"])
def test_no_credential_is_recorded_when_the_connection_is_lost(bench, seen, kind):
    bench.fault(kind)
    asyncio.run(run_with_secrets(bench, timeout=0.5))
    seen.check()


def test_a_key_that_is_no_header_is_not_recorded(bench, seen, monkeypatch):
    # A line end in the variable is a common accident; the HTTP library quotes what it refuses.
    monkeypatch.setattr("durable_core._clock.Clock.sleep_until", at_once)
    with pytest.raises(openai.APIConnectionError) as raised:
        asyncio.run(run_with_secrets(bench, key=f"sk-{CANARY}-key\n"))

    assert "check the API key" in str(raised.value.__cause__)
    assert bench.requests() == []
    seen.check()


async def at_once(clock: object, due: float) -> None:
    """Wait for no retry."""


def test_a_credential_in_the_query_is_not_recorded(bench, seen):
    # The server knows no such address, and says so.
    settings = ModelSettings(extra_query={"sig": f"{CANARY}-extra-query"})
    asking = agent("Asking", say("hello"), model_settings=settings)
    error = bench.failure(asking, PUBLIC, workflow_id="run")
    assert isinstance(error, openai.NotFoundError)
    seen.check()


def test_a_credential_in_the_url_is_not_recorded(bench, seen):
    bench.fault("status", status=400, times=None)

    async def run() -> None:
        base = bench.server.base_url.replace("http://", f"http://user:{CANARY}@")
        async with AsyncOpenAI(base_url=base, api_key="sk-test") as client:
            config = RunConfig(
                model_provider=OpenAIProvider(openai_client=client), tracing_disabled=True
            )
            greeter = agent("Greeter", say("hello"))
            await DurableRunner.run(greeter, PUBLIC, run_config=config, workflow_id="run")

    with pytest.raises(openai.BadRequestError):
        asyncio.run(run())

    seen.check()
