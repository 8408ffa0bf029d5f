"""Limits, hooks, models and settings reach the model server as with the SDK's own runner."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from agents import (
    AgentHooks,
    MaxTurnsExceeded,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIProvider,
    OpenAIResponsesModel,
    RunConfig,
    RunErrorHandlerResult,
    RunHooks,
    Runner,
    function_tool,
)
from durable_openai_agents import DurableRunner
from openai import AsyncOpenAI
from openai.types.shared import Reasoning
from support.agents_bench import (
    ECHO,
    Watched,
    agent,
    call,
    calls,
    say,
)
from support.agents_programs import compare_runs, refund_tool

pytest_plugins = ["support.agents_fixtures"]

BOTH_APIS = pytest.mark.parametrize("api", ["responses", "chat"])


# -- limits, handlers, hooks -------------------------------------------------------------------


def test_too_many_turns_raise_the_sdks_exception(bench):
    busy = agent("Busy", call("refund", cents=1), tools=[refund_tool(bench)])
    for error in bench.compare_failures(busy, max_turns=3):
        assert isinstance(error, MaxTurnsExceeded)
        assert len(error.run_data.raw_responses) == 3


def test_an_error_handler_gives_the_final_output(bench):
    busy = agent("Busy", call("refund", cents=1), tools=[refund_tool(bench)])

    async def give_up(data: Any) -> RunErrorHandlerResult:
        return RunErrorHandlerResult(
            final_output=f"gave up after {len(data.run_data.raw_responses)}"
        )

    done = bench.compare(busy, max_turns=2, error_handlers={"max_turns": give_up})
    assert done.recorded.final_output == "gave up after 2"


class Recorder(RunHooks[Any]):
    """Hooks of a run that note what they are told, in order."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    async def on_llm_start(self, context, agent, system_prompt, input_items) -> None:
        self.events.append(f"llm start {agent.name} {len(input_items)}")

    async def on_llm_end(self, context, agent, response) -> None:
        self.events.append(f"llm end {agent.name} {response.response_id}")

    async def on_agent_start(self, context, agent) -> None:
        self.events.append(f"agent start {agent.name} {context.usage.requests}")

    async def on_agent_end(self, context, agent, output) -> None:
        self.events.append(f"agent end {agent.name} {output}")

    async def on_handoff(self, context, from_agent, to_agent) -> None:
        self.events.append(f"handoff {from_agent.name} {to_agent.name}")

    async def on_tool_start(self, context, agent, tool) -> None:
        self.events.append(f"tool start {agent.name} {tool.name} {context.tool_call_id}")

    async def on_tool_end(self, context, agent, tool, result) -> None:
        self.events.append(f"tool end {agent.name} {tool.name} {result}")


class AgentRecorder(AgentHooks[Any]):
    """Hooks of an agent that do the same."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    async def on_start(self, context, agent) -> None:
        self.events.append(f"{agent.name} starts")

    async def on_end(self, context, agent, output) -> None:
        self.events.append(f"{agent.name} ends")

    async def on_tool_start(self, context, agent, tool) -> None:
        self.events.append(f"{agent.name} uses {tool.name}")

    async def on_tool_end(self, context, agent, tool, result) -> None:
        self.events.append(f"{agent.name} used {tool.name}")


@pytest.mark.counts_executions
def test_hooks_are_called_as_by_the_sdk_also_on_replay(bench):
    events: list[str] = []
    waiting: list[asyncio.Event] = []

    @function_tool
    async def first(name: str) -> str:
        await waiting[0].wait()
        return "first"

    @function_tool
    async def second(name: str) -> str:
        waiting[0].set()
        return "second"

    inner = agent("Inner", say("deep"))
    expert = agent(
        "Expert", call("ask", input="x"), say("done"), offset=2, tools=[inner.as_tool("ask", "Ask")]
    )
    triage = agent(
        "Triage",
        calls(call("first", name="a"), call("second", name="b")),
        call("transfer_to_expert"),
        tools=[first, second],
        handoffs=[expert],
        hooks=AgentRecorder(events),
    )
    seen = []
    for runner, id in (
        (Runner, {}),
        (DurableRunner, {"workflow_id": "run"}),
        (DurableRunner, {"workflow_id": "run"}),
    ):
        events.clear()
        waiting[:] = [asyncio.Event()]
        bench.run_once(triage, runner=runner, hooks=Recorder(events), **id)
        seen.append(list(events))

    assert len(seen[0]) > 20
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


# -- models and settings -----------------------------------------------------------------------


@pytest.mark.counts_executions
def test_the_users_provider_is_asked_and_not_closed(bench):
    async def main() -> Watched:
        async with bench.provider() as provider:
            watched = Watched(provider)
            config = RunConfig(model_provider=watched, tracing_disabled=True)
            greeter = agent(
                "Greeter",
                call("refund", cents=1),
                say("hello"),
                model="m-1",
                tools=[refund_tool(bench)],
            )
            await DurableRunner.run(greeter, "hi", run_config=config)
            return watched

    watched = asyncio.run(main())
    assert watched.asked == ["m-1", "m-1"]
    assert watched.closed == 0
    assert {r.model for r in bench.requests()} == {"m-1"}


@pytest.mark.parametrize("model_class", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
def test_a_model_object_on_the_agent_is_used_with_its_own_client(bench, model_class):
    async def run(runner: Any, **arguments: Any) -> Any:
        async with bench.provider() as provider:
            model = model_class("m-2", openai_client=provider._client)
            greeter.model = model
            refusing = RunConfig(model_provider=Refusing(), tracing_disabled=True)
            return await runner.run(greeter, "hi", run_config=refusing, **arguments)

    greeter = agent("Greeter", say("hello"))
    compare_runs(bench, run)
    assert greeter.model.model == "m-2"


class Refusing(Watched):
    def __init__(self) -> None:
        super().__init__(None)

    def get_model(self, model_name):
        raise AssertionError("this provider is not to be asked")


@pytest.mark.parametrize("kind", ["string", "object"])
def test_the_model_of_the_run_config_comes_first(bench, kind):
    async def run(runner: Any, **arguments: Any) -> Any:
        async with bench.provider() as provider:
            model = (
                "m-3"
                if kind == "string"
                else OpenAIResponsesModel("m-3", openai_client=provider._client)
            )
            config = RunConfig(model_provider=provider, model=model, tracing_disabled=True)
            return await runner.run(
                agent("Greeter", say("hello"), model="m-1"), "hi", run_config=config, **arguments
            )

    compare_runs(bench, run)
    bench.forget()
    asyncio.run(run(DurableRunner))
    assert [r.model for r in bench.requests()] == ["m-3"]


def test_a_run_config_may_be_a_mapping(bench):
    async def run(runner: Any, **arguments: Any) -> Any:
        async with bench.provider() as provider:
            config = {"model_provider": provider, "tracing_disabled": True, "model": "m-4"}
            return await runner.run(
                agent("Greeter", say("hello")), "hi", run_config=config, **arguments
            )

    compare_runs(bench, run)


@pytest.mark.parametrize(
    "config", [None, {"tracing_disabled": True}, {"model": "m-5", "tracing_disabled": True}]
)
def test_without_a_provider_the_default_client_is_asked(bench, monkeypatch, config):
    async def run(runner: Any, **arguments: Any) -> Any:
        async with bench.provider() as provider:
            monkeypatch.setattr(
                "agents.models._openai_shared._default_openai_client", provider._client
            )
            greeter = agent("Greeter", say("hello"), model="m-1")
            return await runner.run(greeter, "hi", run_config=config, **arguments)

    compare_runs(bench, run)


@pytest.mark.parametrize("override", [None, "gpt-4o", "gpt-5.2"])
@pytest.mark.parametrize("own", [None, "gpt-5", "gpt-4o"])
def test_settings_that_follow_from_the_name_of_the_model_are_the_sdks(bench, own, override):
    done = bench.compare(agent("Greeter", say("hello"), model=own), config={"model": override})
    assert done.live.final_output == "hello"


@BOTH_APIS
def test_the_request_is_that_of_the_sdk_with_all_settings(bench, api):
    bench.api = api

    @function_tool(strict_mode=False)
    async def lookup(name: str, limit: int = 3) -> str:
        """Look something up.

        Args:
            name: What to look up.
            limit: How many.
        """
        return name * limit

    settings = ModelSettings(
        temperature=0.25,
        top_p=0.5,
        tool_choice="auto",
        parallel_tool_calls=True,
        max_tokens=100,
        store=False,
        metadata={"team": "a"},
        reasoning=Reasoning(effort="low"),
        verbosity="low",
        extra_body={"custom": {"nested": [1, 2]}},
        extra_headers={"x-custom": "yes"},
        extra_args={"user": "somebody"},
        preserve_raw_usage=True,
    )
    worker = agent(
        "Worker",
        call("lookup", name="a"),
        ECHO,
        tools=[lookup],
        model_settings=settings,
        model="gpt-5",
    )
    bench.compare(worker, config={"model_settings": ModelSettings(temperature=0.75)})
    bench.forget()
    bench.run_once(worker)
    assert {h["x-custom"] for h in bench.headers()} == {"yes"}


@pytest.mark.parametrize("grouped", [{}, {"group_id": "chat-7"}])
def test_the_default_prompt_cache_key_is_sent_as_by_the_sdk(bench, grouped):
    class Redirected(httpx2.AsyncHTTPTransport):
        """Brings requests for the official address to the model server."""

        async def handle_async_request(self, request):
            target = httpx2.URL(bench.server.url)
            request.url = request.url.copy_with(scheme="http", host=target.host, port=target.port)
            return await super().handle_async_request(request)

    async def run(runner: Any, **arguments: Any) -> Any:
        http = httpx2.AsyncClient(transport=Redirected())
        async with AsyncOpenAI(
            base_url="https://api.openai.com/v1", api_key="sk-test", http_client=http
        ) as client:
            config = RunConfig(
                model_provider=OpenAIProvider(openai_client=client),
                tracing_disabled=True,
                **grouped,
            )
            worker = agent("Worker", call("refund", cents=1), ECHO, tools=[refund_tool(bench)])
            return await runner.run(worker, "hi", run_config=config, **arguments)

    compare_runs(bench, run)
    bench.forget()
    asyncio.run(run(DurableRunner))
    [first, second] = bench.bodies()
    assert first["prompt_cache_key"] == second["prompt_cache_key"]


def test_previous_response_and_conversation_reach_the_server(bench):
    async def main(runner: Any, **arguments: Any) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        class Noting(OpenAIProvider):
            def get_model(self, model_name):
                model = super().get_model(model_name)
                original = model.get_response

                async def get_response(*args, **kwargs):
                    sent.append({k: kwargs[k] for k in ("previous_response_id", "conversation_id")})
                    kwargs["previous_response_id"] = kwargs["conversation_id"] = None
                    return await original(*args, **kwargs)

                model.get_response = get_response
                return model

        async with bench.provider() as provider:
            config = RunConfig(
                model_provider=Noting(openai_client=provider._client), tracing_disabled=True
            )
            worker = agent("Worker", call("refund", cents=1), say("ok"), tools=[refund_tool(bench)])
            await runner.run(worker, "hi", run_config=config, **arguments)
            return sent

    for arguments in (
        {"previous_response_id": "resp_1"},
        {"auto_previous_response_id": True},
        {"conversation_id": "conv_1"},
    ):
        plain = asyncio.run(main(Runner, **arguments))
        assert asyncio.run(main(DurableRunner, **arguments)) == plain
        assert any(v for call in plain for v in call.values())
