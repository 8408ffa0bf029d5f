"""An agent program that ends with traces to send: ``plain`` by the SDK's runner, ``durable`` by ours.

Traces go where ``TRACES_TO`` says. When its own code ended is noted in the file ``ENDED``.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from agents import RunConfig, Runner, flush_traces
from agents.models.openai_provider import OpenAIProvider
from agents.tracing import default_exporter
from durable_openai_agents import DurableRunner
from openai import AsyncOpenAI

from support.agents_bench import agent, say

WORKFLOW_ID = "exit-1"

greeter = agent("Greeter", say("hello"))


async def main(how: str, *, twice: bool) -> None:
    async with AsyncOpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key="sk-model") as client:
        config = RunConfig(model_provider=OpenAIProvider(openai_client=client))

        async def run(**arguments: Any) -> None:
            runner = Runner if how == "plain" else DurableRunner
            result = await runner.run(greeter, "hi", run_config=config, **arguments)
            assert result.final_output == "hello"

        if twice:
            await run()
            await asyncio.to_thread(flush_traces)

        await run(**({} if how == "plain" else {"workflow_id": WORKFLOW_ID}))


if __name__ == "__main__":
    default_exporter().endpoint = os.environ["TRACES_TO"]
    asyncio.run(main(sys.argv[1], twice="twice" in sys.argv))
    Path(os.environ["ENDED"]).write_text(str(time.time()))
