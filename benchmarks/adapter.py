"""One agent conversation, by the SDK's own runner and by ours, with a model in the process.

A turn is one model call and one tool call. What ours costs more is what recording both costs, the
same at every length of the conversation if nothing in it grows with what is recorded already. No
client library is between them: it spends milliseconds per call on each message that was there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
from agents import (
    Agent,
    Model,
    ModelResponse,
    RunConfig,
    Runner,
    Usage,
    function_tool,
)
from durable_openai_agents import DurableRunner
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
)

LAST = 20
TABLES = {
    "run": "length(id) + length(workflow_id)",
    "start": "length(data)",
    "activation": "length(data)",
    "item": "length(data) + length(address)",
}
CLOCKS: dict[str, Callable[[], float]] = {"ms": time.perf_counter, "CPU ms": time.process_time}


class Reader(Model):
    """A model that asks for the tool a number of times."""

    def __init__(self, size: int) -> None:
        self._size = size

    async def get_response(
        self, system_instructions: str | None, input: str | list[Any], *_: Any, **__: Any
    ) -> ModelResponse:
        """Answer by the length of the conversation, so that a call costs the same everywhere."""
        del system_instructions
        # The question, then a text, a call and an output of the tool per turn.
        turn = 0 if isinstance(input, str) else (len(input) - 1) // 3
        if turn >= self._size:
            return _response(turn, [_message(turn, "done")])

        text = f"Step {turn}: " + "look at the next file, then say what it does. " * 5
        call = ResponseFunctionToolCall(
            id=_id("fc", turn),
            type="function_call",
            status="completed",
            call_id=_id("call", turn),
            name="look",
            arguments=json.dumps({"file": f"src/module_{turn}.py"}),
        )
        return _response(turn, [_message(turn, text), call])

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        """Refuse to stream; nobody asks for it."""
        raise NotImplementedError


def _response(turn: int, output: list[ResponseOutputItem]) -> ModelResponse:
    usage = Usage(
        requests=1, input_tokens=300 * turn, output_tokens=80, total_tokens=300 * turn + 80
    )
    return ModelResponse(output=output, usage=usage, response_id=_id("resp", turn))


def _message(turn: int, text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])
    return ResponseOutputMessage(
        id=_id("msg", turn), type="message", role="assistant", status="completed", content=[part]
    )


def _id(prefix: str, turn: int) -> str:
    return f"{prefix}_{sha256(f'{prefix}/{turn}'.encode()).hexdigest()[:24]}"


@dataclass
class Lane:
    """One of two conversations that take turns.

    Attributes:
        go: Set while it is the turn of this one.
        spans: What each turn took, by clock.
    """

    go: asyncio.Event = field(default_factory=asyncio.Event)
    spans: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CLOCKS})
    _begun: dict[str, float] = field(default_factory=dict[str, float])

    async def turn(self, other: Lane) -> None:
        """End a turn and begin the next one once the other has had its own."""
        for name, begun in self._begun.items():
            self.spans[name].append((CLOCKS[name]() - begun) * 1000)

        other.go.set()
        await self.go.wait()
        self.go.clear()
        self._begun = {name: clock() for name, clock in CLOCKS.items()}


async def _talk(runner: Any, lane: Lane, other: Lane, size: int, **options: Any) -> Any:
    @function_tool
    async def look(file: str) -> str:
        """Return the content of a file."""
        await lane.turn(other)
        return f"{file}: " + "def f(x): return x + 1\n" * 20

    agent = Agent(name="reader", instructions="Read.", model=Reader(size), tools=[look])
    config = RunConfig(tracing_disabled=True)
    await lane.go.wait()
    lane.go.clear()
    try:
        return await runner.run(
            agent, "Read them all.", run_config=config, max_turns=size + 5, **options
        )
    finally:
        other.go.set()


async def _measure(size: int, folder: Path) -> dict[str, float]:
    plain, durable = Lane(), Lane()
    plain.go.set()
    _, result = await asyncio.gather(
        _talk(Runner, plain, durable, size),
        _talk(DurableRunner, durable, plain, size, workflow_id="talk"),
    )
    figures: dict[str, float] = {}
    for clock in CLOCKS:
        sides = {"plain": plain.spans[clock], "durable": durable.spans[clock]}
        # Turn by turn: the machine is not as fast at one time as at another.
        sides["extra"] = [b - a for a, b in zip(sides["plain"], sides["durable"], strict=True)]
        for side, spans in sides.items():
            figures[f"{side} {clock}, first"] = statistics.median(spans[1 : LAST + 1])
            figures[f"{side} {clock}, last"] = statistics.median(spans[-LAST:])

    conversation = len(json.dumps(result.to_input_list()).encode())
    recorded = _recorded(folder / "talk.db")
    figures["conversation bytes"] = conversation
    figures["recorded bytes"] = recorded
    figures["recorded / conversation"] = recorded / conversation
    return figures


def _recorded(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as connection:
        return sum(
            int(str(connection.execute(f"SELECT total({what}) FROM {table}").get).split(".")[0])
            for table, what in TABLES.items()
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=int)
    given = parser.parse_args()
    os.environ["DURABLE_URL"] = f"sqlite:///{given.folder}/talk.db"
    print(json.dumps(asyncio.run(_measure(given.size, given.folder))))


if __name__ == "__main__":
    main()
