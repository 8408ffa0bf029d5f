"""A run of payments that may happen at most once each, for kills.

Prints what became of each payment: ``paid``, or ``unknown``.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import durable_core
from durable_core import activity, workflow
from durable_core.common import RetryPolicy
from durable_core.exceptions import ActivityError, NotStarted, OutcomeUnknown

from support import ledger

PAYMENTS = ("first", "second", "third", "left", "blocking", "right", "last")


def spend(name: str) -> str:
    if name == "second" and activity.info().attempt == 1:
        raise NotStarted("the bank is not open yet")

    ledger.from_environment().write(name)
    return name


@activity.defn(
    delivery="at_most_once", retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.01))
)
async def pay(name: str) -> str:
    return spend(name)


@activity.defn
def pay_in_a_thread(name: str) -> str:
    return spend(name)


@activity.defn
async def note(text: str) -> str:
    return text


async def outcome(name: str) -> str:
    body = pay_in_a_thread if name == "blocking" else pay
    try:
        await workflow.execute_activity(body, name, delivery="at_most_once")
    except ActivityError as error:
        return "unknown" if isinstance(error.cause, OutcomeUnknown) else repr(error.cause)

    return "paid"


@workflow.defn
async def payments() -> dict[str, str]:
    found = {name: await outcome(name) for name in PAYMENTS[:3]}
    await workflow.execute_activity(note, "half way")
    names = PAYMENTS[3:6]
    together = await asyncio.gather(*(outcome(name) for name in names))
    found.update(zip(names, together, strict=True))
    return {**found, PAYMENTS[6]: await outcome(PAYMENTS[6])}


if __name__ == "__main__":
    result = asyncio.run(durable_core.execute_workflow(payments, id="payments"))
    print("result", json.dumps(result))
