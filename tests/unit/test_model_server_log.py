"""The log, the policies and the process of the offline model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
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
from durable_openai_agents.testing._log import LogReader, RequestLog
from durable_openai_agents.testing._policy import load_policy, reference_of, scripted
from openai import AsyncOpenAI
from support.model_server import (
    HELLO,
    ask,
    ask_once,
    client_of,
    kinds,
    wait_until,
)

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
    assert all(event["digest"] for event in events if event["kind"] == "request")
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
    reader = LogReader(path)
    assert [event["kind"] for event in reader.read()] == ["a"]
    log = RequestLog(path)
    log.append("b", {"text": "\udcff"})
    log.close()
    assert [(event["seq"], event["kind"]) for event in reader.read()] == [(1, "a"), (2, "b")]
    assert reader.read()[1]["text"] == "\udcff"


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
    assert [event["kind"] for event in LogReader(tmp_path / "log.jsonl").read()] == [
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
