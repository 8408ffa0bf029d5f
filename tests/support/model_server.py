"""A model server with a policy of the tests', and clients that ask it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from agents import Agent, OpenAIProvider, RunConfig, Runner
from durable_openai_agents.testing import (
    ModelServer,
)
from openai import AsyncOpenAI

BOTH_APIS = pytest.mark.parametrize("api", ["responses", "chat"])
HELLO = [{"text": "hello"}]


@asynccontextmanager
async def client_of(server: ModelServer, *, max_retries: int = 0, timeout: float = 20.0):
    async with AsyncOpenAI(
        base_url=server.base_url, api_key="sk-secret", max_retries=max_retries, timeout=timeout
    ) as client:
        yield client


async def ask(client: AsyncOpenAI, api: str, text: str = "hi") -> str | None:
    if api == "responses":
        response = await client.responses.create(model="test-1", instructions="Be", input=text)
        return response.output_text

    messages = [{"role": "system", "content": "Be"}, {"role": "user", "content": text}]
    completion = await client.chat.completions.create(model="test-1", messages=messages)
    return completion.choices[0].message.content


def ask_once(server: ModelServer, api: str = "responses", **options) -> str | None:
    async def main() -> str | None:
        async with client_of(server, **options) as client:
            return await ask(client, api)

    return asyncio.run(main())


def run_agent(server: ModelServer, api: str, agent: Agent, text: str):
    async def main():
        async with client_of(server) as client:
            provider = OpenAIProvider(openai_client=client, use_responses=api == "responses")
            config = RunConfig(model_provider=provider, tracing_disabled=True)
            return await Runner.run(agent, text, run_config=config)

    return asyncio.run(main())


def kinds(server: ModelServer) -> list[object]:
    return [event["kind"] for event in server.events()]


def wait_until(condition, *, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
