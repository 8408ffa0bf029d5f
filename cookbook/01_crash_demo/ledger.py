"""Tells a witness outside of this process when the body of a tool starts and when it ends.

An agent needs nothing of this. The demo does: only somebody outside can say how often a tool really
ran in a process that was killed. The witness is the model server's ledger, or with `--live`, when
there is no such server, a file. Nothing is told unless $CRASH_DEMO_LEDGER names one of them.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from urllib.request import ProxyHandler, Request, build_opener

from agents.tool_context import ToolContext
from checkout import Checkout

P = ParamSpec("P")
R = TypeVar("R")

TARGET = os.environ.get("CRASH_DEMO_LEDGER", "")

_writing = threading.Lock()


def witnessed(
    body: Callable[Concatenate[ToolContext[Checkout], P], R],
) -> Callable[Concatenate[ToolContext[Checkout], P], R]:
    """Report each start and end of a tool's body, with its output."""
    if not TARGET:
        return body

    @functools.wraps(body)
    def in_thread(ctx: ToolContext[Checkout], *args: P.args, **kwargs: P.kwargs) -> Any:
        tell("tool_started", **_call(ctx))
        output = body(ctx, *args, **kwargs)
        tell("tool_finished", **_call(ctx), output=output)
        return output

    @functools.wraps(body)
    async def on_loop(ctx: ToolContext[Checkout], *args: P.args, **kwargs: P.kwargs) -> Any:
        await asyncio.to_thread(tell, "tool_started", **_call(ctx))
        output: Any = body(ctx, *args, **kwargs)
        output = await output
        await asyncio.to_thread(tell, "tool_finished", **_call(ctx), output=output)
        return output

    wrapper: Any = on_loop if inspect.iscoroutinefunction(body) else in_thread
    return cast("Callable[Concatenate[ToolContext[Checkout], P], R]", wrapper)


def _call(ctx: ToolContext[Checkout]) -> dict[str, str]:
    return {
        "tool": ctx.tool_name,
        "call_id": ctx.tool_call_id,
        "arguments": ctx.tool_arguments,
    }


def tell(kind: str, **fields: object) -> None:
    """Report one event; it is on the witness's disk when this returns."""
    line = json.dumps({"kind": kind, **fields})
    if TARGET.startswith("http"):
        # Without the proxies of the environment: the witness is on this machine.
        opener = build_opener(ProxyHandler({}))
        with opener.open(Request(TARGET, line.encode()), timeout=300):
            return

    wait_while_held(Path(TARGET), "hold", "ledger", line)
    append(Path(TARGET), kind, fields)
    wait_while_held(Path(TARGET), "delay", "ledger", line)


def append(path: Path, kind: str, fields: Mapping[str, object]) -> None:
    """Append one event to a ledger that is a file, and sync it."""
    line = json.dumps({"time": time.time(), "kind": kind, **fields}).encode() + b"\n"
    with _writing:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)


def wait_while_held(
    ledger: Path, kind: str, endpoint: str, body: str, turn: int | None = None
) -> None:
    """Wait where the demo wants to kill this process, for as long as its `.hold` file says so.

    The model server does this by itself: `hold` before it writes its line, `delay` after that.
    """
    try:
        rule = json.loads(ledger.with_suffix(".hold").read_text())
    except FileNotFoundError:
        return

    fits = rule["kind"] == kind and rule["endpoint"] == endpoint
    if not fits or (rule["contains"] or "") not in body or rule["turn"] not in {None, turn}:
        return

    if kind == "hold":
        append(ledger, "held", {"endpoint": endpoint, "turn": turn})

    while ledger.with_suffix(".hold").exists():
        time.sleep(0.02)
