"""A service with an agent per tenant, all of one name; a program to kill.

``call`` starts a run for each tenant, ``serve`` continues what was left behind, by a factory. With
``HOLD`` tools hang after their effect, until the process is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys

from agents import Agent, function_tool
from durable_openai_agents import DurableRunner, RunOptions, UnfinishedRun, register_agent

from support.agents_app import effect
from support.agents_bench import agent, call

TENANTS = ("acme", "globex")


def support(tenant: str) -> Agent[None]:
    """Return the agent of a tenant: its tools reach into the tenant's own data."""

    @function_tool
    async def find_customer(name: str) -> str:
        """Find a customer."""
        effect(f"find:{tenant}")
        return f"{name} of {tenant}"

    @function_tool
    async def refund(name: str) -> str:
        """Pay back."""
        effect(f"refund:{tenant}")
        if "HOLD" in os.environ:
            print("holding", flush=True)
            await asyncio.Event().wait()

        return f"{tenant} refunded {name}"

    script = (
        call("find_customer", name="Ann"),
        call("refund", name="Ann"),
        {"echo": True},
    )
    return agent("Support", *script, tools=[find_customer, refund])


async def call_both() -> None:
    results = await asyncio.gather(
        *(
            DurableRunner.run(
                support(tenant),
                "Ann wants her money back.",
                workflow_id=f"{tenant}-1",
                options=RunOptions(metadata={"tenant": tenant}),
            )
            for tenant in TENANTS
        )
    )
    for tenant, result in zip(TENANTS, results, strict=True):
        print(tenant, result.final_output)


def make(run: UnfinishedRun) -> Agent[None]:
    return support(run.metadata["tenant"])


async def serve() -> None:
    register_agent("Support", make)
    print("recovered", *sorted(await DurableRunner.recover(wait=True)))


if __name__ == "__main__":
    asyncio.run({"call": call_both, "serve": serve}[sys.argv[1]]())
