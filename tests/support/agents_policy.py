"""What the model server says in the tests of the OpenAI adapter; runs in the server's process.

An agent's instructions hold its script, so that one server serves every test: the first line is the
agent's name, the rest is JSON made by `support.agents_bench.mind`. Every request body is appended
to the file that ``MODEL_BODIES`` names, as the server saw it.
"""

from __future__ import annotations

import json
import os

from durable_openai_agents.testing import Answer, FunctionCall, ModelRequest


def instructed(request: ModelRequest) -> Answer:
    """Answer as the instructions of the agent say."""
    _keep(request)
    script = json.loads(request.instructions.partition("\n")[2])
    turns = script["turns"]
    turn = max(0, request.turn - script["offset"])
    if request.turn == 0 and any(
        item.get("type") == "function_call_output" for item in request.items
    ):
        # The client leaves the conversation to the server and sends only what is new.
        turn = 1

    entry = turns[min(turn, len(turns) - 1)]
    if entry.get("echo"):
        return Answer(json.dumps([result.output for result in request.tool_results]))

    if entry.get("repeat"):
        return Answer(request.user_text)

    calls = [FunctionCall(name, arguments) for name, arguments in entry.get("calls", ())]
    return Answer(entry.get("text"), calls=calls)


def _keep(request: ModelRequest) -> None:
    path = os.environ.get("MODEL_BODIES")
    if not path:
        return

    line = {"api": request.api, "body": request.body, "headers": request.headers}
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, json.dumps(line, default=dict).encode() + b"\n")
    finally:
        os.close(fd)
