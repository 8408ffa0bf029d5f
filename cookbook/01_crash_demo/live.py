"""Run agent.py with a real model, its calls reported to the ledger: `python live.py PATH …`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import runpy
from pathlib import Path

import httpx2
from agents import set_default_openai_client
from durable_openai_agents.testing import read_request
from ledger import TARGET, append, wait_while_held
from openai import AsyncOpenAI, DefaultAsyncHttpx2Client

LEDGER = Path(TARGET)

_numbers = itertools.count()


async def on_request(request: httpx2.Request) -> None:
    await asyncio.to_thread(_report_request, request)


def _report_request(request: httpx2.Request) -> None:
    body = request.content.decode()
    seen = read_request("/v1/responses", json.loads(body), {})
    number = request.extensions["number"] = f"{os.getpid()}-{next(_numbers)}"
    about = {"request": number, "turn": seen.turn, "agent": seen.agent, "digest": seen.digest}
    wait_while_held(LEDGER, "hold", "model", body, seen.turn)
    append(LEDGER, "request", about)
    wait_while_held(LEDGER, "delay", "model", body, seen.turn)


async def on_response(response: httpx2.Response) -> None:
    body = json.loads(await response.aread())
    calls = [item for item in body.get("output", []) if item["type"] == "function_call"]
    about = {"request": response.request.extensions["number"], "calls": calls}
    kind = "answer" if response.is_success else "fault"
    await asyncio.to_thread(append, LEDGER, kind, about)


if __name__ == "__main__":
    hooks = {"request": [on_request], "response": [on_response]}
    http = DefaultAsyncHttpx2Client(event_hooks=hooks)
    set_default_openai_client(AsyncOpenAI(http_client=http))
    runpy.run_path(str(Path(__file__).with_name("agent.py")), run_name="__main__")
