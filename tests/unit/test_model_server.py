"""The offline model answers the real client, and the SDK above it, by its policy."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections import Counter
from functools import partial

import openai
import pytest
from agents import Agent, function_tool
from durable_openai_agents.testing import (
    ModelServer,
    read_request,
)
from durable_openai_agents.testing._answer import call_id
from openai.types.responses import Response
from pydantic import BaseModel
from support.model_server import (
    BOTH_APIS,
    HELLO,
    ask_once,
    client_of,
    kinds,
    run_agent,
)

# -- answers -----------------------------------------------------------------------------------


@BOTH_APIS
def test_the_real_client_gets_the_text_of_the_script(api):
    with ModelServer(HELLO) as server:
        assert ask_once(server, api) == "hello"
        [request] = server.requests()

    assert (request.api, request.model, request.agent, request.turn) == (api, "test-1", "Be", 0)
    assert (request.outcome, request.status, request.text) == ("answer", 200, "hello")
    assert request.seconds is not None


def test_a_response_has_every_field_that_the_client_declares():
    async def main() -> Response:
        with ModelServer(HELLO) as server:
            async with client_of(server) as client:
                return await client.responses.create(model="test-1", input="hi")

    response = asyncio.run(main())
    # Unlike the client itself, this complains about what is missing or of another type.
    checked = Response.model_validate_json(response.model_dump_json(warnings="none"))
    assert checked.output_text == "hello"
    assert checked.usage is not None
    assert checked.usage.total_tokens == checked.usage.input_tokens + checked.usage.output_tokens


class City(BaseModel):
    name: str
    degrees: int


@BOTH_APIS
def test_the_sdk_runs_parallel_tools_a_handoff_and_structured_output(api):
    bodies = []

    @function_tool
    async def measure(city: str) -> str:
        bodies.append(city)
        return f"{city}: {len(city)}"

    @function_tool
    def convert(degrees: int) -> str:
        bodies.append(degrees)
        return str(degrees * 2)

    writer = Agent(name="Writer", instructions="You write.", tools=[convert], output_type=City)
    reader = Agent(name="Reader", instructions="You read.", tools=[measure], handoffs=[writer])
    script = [
        {
            "instructions": "You read",
            "turn": 0,
            "calls": [
                {"name": "measure", "arguments": {"city": "Rome"}},
                {"name": "measure", "arguments": {"city": "Berlin"}},
            ],
        },
        {"instructions": "You read", "turn": 1, "calls": [{"name": "transfer_to_writer"}]},
        {
            "instructions": "You write",
            "turn": 2,
            "text": "Just a moment.",
            "calls": [{"name": "convert", "arguments": {"degrees": 6}}],
        },
        {"instructions": "You write", "turn": 3, "json": {"name": "Berlin", "degrees": 12}},
    ]
    with ModelServer(script) as server:
        result = run_agent(server, api, reader, "Which is longer?")
        requests = server.requests()

    assert result.final_output == City(name="Berlin", degrees=12)
    assert result.last_agent is writer
    assert Counter(bodies) == Counter(["Rome", "Berlin", 6])
    assert [request.turn for request in requests] == [0, 1, 2, 3]
    assert [request.agent for request in requests] == ["You read."] * 2 + ["You write."] * 2
    ids = [each for request in requests for each in request.call_ids]
    assert len(set(ids)) == len(ids) == 4


def test_a_policy_sees_tools_schema_results_and_no_credentials(tmp_path):
    policy = tmp_path / "policy.py"
    policy.write_text(
        "import json\n"
        "from helper import answer\n"
        "def look(request):\n"
        "    results = [[r.name, dict(r.arguments), r.output] for r in request.tool_results]\n"
        "    view = [request.api, request.user_text, sorted(request.tools), results,\n"
        "            list(request.output_schema['properties']),\n"
        "            'authorization' in request.headers, 'sk-secret' in repr(request)]\n"
        "    return answer(request, json.dumps(view))\n"
    )
    # A file finds what lies beside it, as a script does.
    (tmp_path / "helper.py").write_text(
        "from durable_openai_agents.testing import Answer, FunctionCall\n"
        "import json\n"
        "def answer(request, view):\n"
        "    if request.turn == 0:\n"
        "        return Answer(calls=[FunctionCall('measure', {'city': 'Rome'})])\n"
        "    return Answer(json.dumps({'name': view, 'degrees': 1}))\n"
    )

    @function_tool
    async def measure(city: str) -> str:
        return "warm"

    agent = Agent(name="Reader", instructions="Read.", tools=[measure], output_type=City)
    for api in ("responses", "chat"):
        with ModelServer(f"{policy}:look") as server:
            result = run_agent(server, api, agent, "How warm?")

        assert json.loads(result.final_output.name) == [
            api,
            "How warm?",
            ["measure"],
            [["measure", {"city": "Rome"}, "warm"]],
            ["name", "degrees"],
            False,
            False,
        ]


def test_a_chat_conversation_looks_like_one_of_the_responses_api():
    chat = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "Go"}]},
            {
                "role": "assistant",
                "content": "Wait",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        ],
    }
    request = read_request("/v1/chat/completions", chat, {"Authorization": "Bearer x", "A": "b"})
    assert request.instructions == "Be kind."
    assert [item.get("type", item.get("role")) for item in request.items] == [
        "user",
        "message",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
    ]
    assert request.user_text == "Go"
    assert request.turn == 1
    assert [(result.name, result.output) for result in request.tool_results] == [
        ("f", "one"),
        ("g", "two"),
    ]
    assert request.tools == {"f": {"type": "object"}}
    assert request.headers == {"a": "b"}


def test_the_same_request_gets_the_same_answer_also_from_another_server():
    script = [{"calls": [{"name": "f", "arguments": {"n": 1}}, {"name": "f"}]}]

    async def main() -> list[str]:
        bodies = []
        for _ in range(2):
            with ModelServer(script) as server:
                async with client_of(server) as client:
                    for _ in range(2):
                        raw = await client.responses.with_raw_response.create(model="m", input="x")
                        bodies.append(raw.text if isinstance(raw.text, str) else raw.text())

        return bodies

    bodies = asyncio.run(main())
    assert len(set(bodies)) == 1
    output = json.loads(bodies[0])["output"]
    assert len({item["call_id"] for item in output}) == 2


def test_call_ids_differ_between_agents_that_see_the_same_conversation():
    body = {"model": "m", "input": "x"}
    one = read_request("/v1/responses", body | {"instructions": "one"}, {})
    two = read_request("/v1/responses", body | {"instructions": "two"}, {})
    ids = {call_id(request, index) for request in (one, two) for index in (0, 1)}
    assert len(ids) == 4


@BOTH_APIS
def test_streaming_and_server_side_state_are_refused_with_a_reason(api):
    async def main(server: ModelServer) -> None:
        async with client_of(server, max_retries=2) as client:
            messages = [{"role": "user", "content": "x"}]
            create = {
                "responses": partial(client.responses.create, input=messages),
                "chat": partial(client.chat.completions.create, messages=messages),
            }
            with pytest.raises(openai.BadRequestError, match="does not stream"):
                await create[api](model="m", stream=True)

            with pytest.raises(openai.BadRequestError, match="previous_response_id"):
                await client.responses.create(model="m", input="x", previous_response_id="resp_1")

    with ModelServer(HELLO) as server:
        asyncio.run(main(server))
        assert kinds(server) == ["refused", "refused"]
        assert server.requests() == []


def test_a_policy_may_lie_beside_the_agent_that_it_answers(tmp_path, monkeypatch):
    (tmp_path / "agent_and_policy.py").write_text(
        "from durable_openai_agents import DurableRunner\n"
        "from durable_openai_agents.testing import Answer\n"
        "def policy(request):\n"
        "    return Answer(DurableRunner.__name__)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("agent_and_policy")
    with ModelServer(module.policy) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)
        with client:
            answer = client.responses.create(model="gpt-5", input="who?")

    assert answer.output_text == "DurableRunner"
