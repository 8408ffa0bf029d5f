from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from agents import Agent, OpenAIProvider, RunConfig, Runner, function_tool
from durable_openai_agents.testing import (
    Answer,
    Fault,
    FaultRule,
    FunctionCall,
    ModelRequest,
    ModelServer,
    ModelServerError,
    PolicyError,
    read_request,
)
from durable_openai_agents.testing._answer import call_id
from durable_openai_agents.testing._log import RequestLog, read_log
from durable_openai_agents.testing._policy import load_policy, reference_of, scripted
from openai import AsyncOpenAI
from openai.types.responses import Response
from pydantic import BaseModel

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


# -- faults ------------------------------------------------------------------------------------


@BOTH_APIS
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_an_http_error_happens_once_and_then_the_answer_comes(api, status, error):
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="status", status=status, message="not now"))
        with pytest.raises(error, match="not now"):
            ask_once(server, api)

        assert ask_once(server, api) == "hello"
        assert kinds(server) == ["fault_added", "request", "fault", "request", "answer"]
        assert [(each.outcome, each.status) for each in server.requests()] == [
            ("fault", status),
            ("answer", 200),
        ]


def test_retry_after_is_sent_and_the_client_obeys_it():
    rule = FaultRule(fault=Fault(kind="status", status=429, retry_after=0.25), times=2)
    with ModelServer(HELLO, faults=[rule]) as server:
        assert ask_once(server, max_retries=2) == "hello"
        requests = server.requests()
        times = [event["time"] for event in server.events() if event["kind"] == "request"]

    assert [request.retry for request in requests] == [0, 1, 2]
    assert len({request.digest for request in requests}) == 1
    assert all(0.2 < late - early < 5 for early, late in pairwise(times))


def test_a_delay_is_waited_for():
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="delay", seconds=0.2))
        assert ask_once(server) == "hello"
        [request] = server.requests()

    assert request.seconds is not None
    assert 0.2 <= request.seconds < 5


@BOTH_APIS
def test_a_hanging_call_ends_when_its_client_goes_away(api):
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="hang"))
        with pytest.raises(openai.APITimeoutError):
            ask_once(server, api, timeout=0.2)

        wait_until(lambda: kinds(server)[-1] == "gone")
        assert [request.outcome for request in server.requests()] == ["gone"]
        assert ask_once(server, api) == "hello"


@BOTH_APIS
def test_a_connection_is_cut_in_the_middle_of_the_answer(api):
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="cut"))
        with pytest.raises(openai.APIConnectionError) as raised:
            ask_once(server, api)

        assert "without sending complete message body" in str(raised.value.__cause__)
        assert ask_once(server, api) == "hello"


def test_a_held_call_never_counts_as_received_when_its_client_goes_away():
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="hold"))
        with pytest.raises(openai.APITimeoutError):
            ask_once(server, timeout=0.2)

        wait_until(lambda: kinds(server)[-1] == "gone")
        assert kinds(server) == ["fault_added", "held", "gone"]
        assert server.requests() == []


def test_a_held_call_is_answered_when_its_time_is_over():
    with ModelServer(HELLO) as server:
        server.add_fault(Fault(kind="hold", seconds=0.1))
        assert ask_once(server) == "hello"
        assert kinds(server) == ["fault_added", "held", "request", "answer"]


def test_a_rule_picks_requests_by_number_text_and_turn():
    broken = Fault(kind="status", status=401)
    rules = [
        FaultRule(fault=broken, contains="pick me", nth=2, times=2),
        FaultRule(fault=broken, turn=1, times=None),
    ]

    async def outcomes(server: ModelServer, inputs: list[object]) -> list[bool]:
        answered = []
        async with client_of(server) as client:
            for each in inputs:
                try:
                    await client.responses.create(model="m", input=each)
                    answered.append(True)
                except openai.AuthenticationError:
                    answered.append(False)

        return answered

    second_turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with ModelServer(HELLO, faults=rules) as server:
        texts = ["pick me", "other", "pick me", "pick me", "pick me"]
        assert asyncio.run(outcomes(server, texts)) == [True, True, False, False, True]
        assert asyncio.run(outcomes(server, [second_turn] * 3)) == [False] * 3
        server.clear_faults()
        assert asyncio.run(outcomes(server, [second_turn])) == [True]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({}, "needs a `kind`"),
        ({"kind": "explode"}, "unknown fault kind"),
        ({"kind": "delay"}, "needs `seconds`"),
        ({"kind": "hang", "nht": 1}, "nht"),
        ({"kind": "hang", "nth": "1"}, "nth"),
        ({"kind": "hang", "endpoint": "moon"}, "moon"),
    ],
)
def test_a_malformed_fault_is_refused_with_what_is_wrong(rule, reason):
    with pytest.raises(ValueError, match=reason):
        FaultRule.from_json(rule)


def test_a_rule_survives_the_way_to_the_server_and_back():
    rule = FaultRule(
        fault=Fault(kind="status", status=503, retry_after=1.5),
        endpoint="ledger",
        contains="x",
        nth=3,
        times=None,
    )
    assert FaultRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


# -- log and ledger ----------------------------------------------------------------------------


def test_the_log_tells_every_event_in_order_and_no_credentials(tmp_path):
    log = tmp_path / "deep" / "requests.jsonl"
    with ModelServer(HELLO, log=log) as server:
        ask_once(server)
        server.record("tool_started", tool="f", call_id="c1", seq=99)
        ask_once(server, "chat")

    text = log.read_text()
    assert "sk-secret" not in text
    events = [json.loads(line) for line in text.splitlines()]
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    assert [event["kind"] for event in events] == [
        "request",
        "answer",
        "tool_started",
        "request",
        "answer",
    ]
    assert events[2]["tool"] == "f"
    assert {event["digest"] for event in events if "digest" in event} != {""}
    assert sorted(event["time"] for event in events) == [event["time"] for event in events]


def test_a_ledger_line_cannot_pass_for_one_of_the_server():
    with ModelServer(HELLO) as server:
        with pytest.raises(ModelServerError, match="kind"):
            server.record("answer")

        with pytest.raises(ModelServerError, match="kind"):
            server.record("")

        assert server.events() == []


def test_a_ledger_line_is_written_before_its_fault_happens():
    rule = FaultRule(fault=Fault(kind="delay", seconds=0.2), endpoint="ledger", contains="slow")
    with ModelServer(HELLO, faults=[rule]) as server:
        server.record("quick")
        before = time.monotonic()
        server.record("slow")
        assert time.monotonic() - before >= 0.2
        server.add_fault(FaultRule(fault=Fault(kind="status", status=503), endpoint="ledger"))
        with pytest.raises(ModelServerError, match="503"):
            server.record("refused_but_written")

        assert kinds(server) == ["quick", "slow", "fault_added", "refused_but_written"]


def test_what_was_answered_is_on_disk_although_the_server_is_killed(tmp_path):
    log = tmp_path / "requests.jsonl"
    with ModelServer(HELLO, log=log) as server:
        ask_once(server)
        os.kill(server.pid, signal.SIGKILL)

    with ModelServer(HELLO, log=log) as server:
        ask_once(server)
        assert kinds(server) == ["request", "answer"] * 2
        assert [event["seq"] for event in server.events()] == [1, 2, 3, 4]


def test_a_torn_last_line_is_cut_off(tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text('{"seq": 1, "time": 1.0, "kind": "a"}\n{"seq": 2, "ti')
    assert [event["kind"] for event in read_log(path)] == ["a"]
    log = RequestLog(path)
    log.append("b", {"text": "\udcff"})
    log.close()
    assert [(event["seq"], event["kind"]) for event in read_log(path)] == [(1, "a"), (2, "b")]
    assert read_log(path)[1]["text"] == "\udcff"


# -- policies ----------------------------------------------------------------------------------


def test_a_failing_policy_is_not_asked_again_and_says_why():
    script = [{"instructions": "somebody else", "text": "hello"}]
    with ModelServer(script) as server:
        with pytest.raises(openai.BadRequestError, match="no answer for turn 0 of 'Be'"):
            ask_once(server, max_retries=2)

        assert kinds(server) == ["request", "error"]
        assert [request.status for request in server.requests()] == [400]


def test_a_policy_may_answer_with_a_fault(tmp_path):
    policy = tmp_path / "policy.py"
    policy.write_text(
        "from durable_openai_agents.testing import Fault\n"
        "def refuse(request):\n"
        "    return Fault(kind='status', status=401, message='who are you')\n"
    )
    reason = pytest.raises(openai.AuthenticationError, match="who are you")
    with ModelServer(f"{policy}:refuse") as server, reason:
        ask_once(server)


def test_a_policy_is_found_by_module_and_by_file(tmp_path, monkeypatch):
    (tmp_path / "some_policy_module.py").write_text("def answer(request): ...\nvalue = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    by_module = load_policy("some_policy_module:answer")
    by_file = load_policy(f"{tmp_path}/some_policy_module.py:answer")
    assert by_module.__name__ == by_file.__name__ == "answer"
    for missing in ("some_policy_module:value", "nothing", f"{tmp_path}/none.py:answer"):
        with pytest.raises(PolicyError):
            load_policy(missing)


def echo(request: ModelRequest) -> Answer:
    return Answer(request.user_text)


def test_a_function_is_referred_to_by_its_file():
    reference = reference_of(echo)
    assert Path(reference.rpartition(":")[0]) == Path(__file__).resolve()
    assert reference.endswith(":echo")
    with pytest.raises(PolicyError, match="top of a file"):
        reference_of(lambda request: Answer("x"))


def test_a_script_takes_the_first_entry_that_fits():
    policy = scripted(
        [
            {"instructions": "A", "turn": 1, "text": "second"},
            {"instructions": "A", "calls": [{"name": "f", "arguments": {"n": 1}}]},
            {"json": {"n": 1}},
        ]
    )
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]

    def answer(instructions: str, items: list[object]) -> Answer | Fault:
        body = {"model": "m", "instructions": instructions, "input": items}
        return policy(read_request("/v1/responses", body, {}))

    assert answer("I am A", turns) == Answer("second")
    assert answer("I am A", turns[:1]) == Answer(calls=(FunctionCall("f", {"n": 1}),))
    assert answer("I am B", turns) == Answer('{"n": 1}')
    with pytest.raises(PolicyError, match="entry"):
        scripted([{"turn": 1}])


# -- the process -------------------------------------------------------------------------------


def listens(url: str) -> bool:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port), timeout=1).close()
    except ConnectionRefusedError:
        return False

    return True


def test_a_server_that_cannot_start_says_why():
    with pytest.raises(ModelServerError, match="no file"), ModelServer("/nowhere/policy.py:answer"):
        pass


def test_the_environment_points_a_client_at_the_server(monkeypatch):
    with ModelServer(HELLO) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)

        async def main() -> str | None:
            async with AsyncOpenAI() as client:
                return await ask(client, "responses")

        assert asyncio.run(main()) == "hello"


def test_a_server_is_gone_after_its_block():
    with ModelServer(HELLO) as server:
        url = server.url
        assert listens(url)

    assert not listens(url)


def test_a_server_ends_with_the_process_that_started_it():
    code = (
        "import time\n"
        "from durable_openai_agents.testing import ModelServer\n"
        "with ModelServer([{'text': 'hello'}]) as server:\n"
        "    print(server.url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        url = process.stdout.readline().decode().strip()
        try:
            assert listens(url)
        finally:
            process.kill()

    wait_until(lambda: not listens(url))


def test_the_command_line_prints_the_url_and_takes_faults(tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps(HELLO))
    command = [
        *(sys.executable, "-m", "durable_openai_agents.testing.server"),
        *("--policy", str(script), "--log", str(tmp_path / "log.jsonl")),
        *("--fault", '{"kind": "status", "status": 503, "times": 1}'),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            url = process.stdout.readline().decode().strip()

            async def main() -> str | None:
                async with AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=1) as client:
                    return await ask(client, "responses")

            assert asyncio.run(main()) == "hello"
        finally:
            process.terminate()

    assert process.returncode == 0
    assert [event["kind"] for event in read_log(tmp_path / "log.jsonl")] == [
        "request",
        "fault",
        "request",
        "answer",
    ]


def test_many_calls_at_once_are_all_answered_and_logged():
    async def main(server: ModelServer) -> None:
        async with client_of(server) as client, asyncio.TaskGroup() as group:
            for index in range(50):
                group.create_task(ask(client, "responses", f"call {index}"))

    with ModelServer(HELLO) as server:
        asyncio.run(main(server))
        requests = server.requests()

    assert sorted(request.number for request in requests) == list(range(1, 51))
    assert len({request.digest for request in requests}) == 50
    assert {request.outcome for request in requests} == {"answer"}
