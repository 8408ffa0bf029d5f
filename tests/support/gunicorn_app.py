"""A WSGI service whose every request is a durable run, as gunicorn serves it.

With ``$RUN_BEFORE_THE_FORK`` the module executes a run when it is imported, and keeps its event
loop, with the store that is open on it, in a thread: under ``--preload`` that is before the fork.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path

from durable_core import activity, execute_workflow, workflow

from support import ledger


@activity.defn
def charge(order: str) -> str:
    ledger.from_environment().write(order)
    return f"receipt for {order}"


@activity.defn
async def released(order: str) -> str:
    """Wait until the test lets orders of the other process go on."""
    gate = Path(os.environ["GATE"])
    while order.startswith("held") and not gate.exists():  # noqa: ASYNC240  # once in a while
        await asyncio.sleep(0.01)

    return order


@workflow.defn
class Order:
    @workflow.run
    async def run(self, order: str) -> str:
        receipt = await workflow.execute_activity(charge, order)
        await workflow.execute_activity(released, order)
        return receipt


def app(environ, start_response):
    order = environ["PATH_INFO"].strip("/")
    result = asyncio.run(execute_workflow(Order.run, order, id=order))
    body = json.dumps({"result": result, "pid": os.getpid()}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


async def own(orders: list[str]) -> None:
    """Execute orders here, all at once."""
    runs = [execute_workflow(Order.run, order, id=order) for order in orders]
    await asyncio.gather(*runs)


def _run_and_keep() -> None:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    order = f"parent-{os.getpid()}"
    run = execute_workflow(Order.run, order, id=order)
    result = asyncio.run_coroutine_threadsafe(run, loop).result(20)
    assert result == f"receipt for {order}"
    time.sleep(0.2)  # its worker is idle by then


if os.environ.get("RUN_BEFORE_THE_FORK"):
    _run_and_keep()
