"""The conversation of an agent is recorded once, and readers find all of it."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from agents import function_tool
from durable_core.cli._texts import read_items
from durable_core.client import Client
from support.agents_bench import REPEAT, agent, call, say

pytest_plugins = ["support.agents_fixtures"]
pytestmark = pytest.mark.needs_a_store

SIZE = 12


@function_tool
async def look(file: str) -> str:
    """Return the content of a file."""
    return f"{file}: " + "def f(x): return x + 1\n" * 20


def reader():
    script = [call("look", file=f"module_{i}.py") for i in range(SIZE)]
    return agent("Reader", *script, say("done " * 100), tools=[look])


def shown(bench, run):
    """Return what readers find of the last model call of a run, and the items of the store."""

    async def fetch():
        async with await Client.connect(bench.store_url) as client:
            history = await client.get_workflow_handle(run).fetch_history()
            lineage = history.start.lineage
            items = await read_items(client, history)
            return history, items, await client.store.read_items(lineage, list(items))

    history, items, stored = asyncio.run(fetch())
    texts = [e.text["input"] for e in history.timeline() if e.text is not None]
    node, conversation = texts[-1]["$items"], []
    while node:
        conversation[:0] = [items[address] for address in items[node]["items"]]
        node = items[node]["base"]

    return texts, conversation, stored


def test_a_conversation_is_stored_once_and_readers_find_all_of_it(bench):
    bench.api = "responses"
    result = bench.run_once(reader(), "read", workflow_id="run", max_turns=SIZE + 2)
    texts, conversation, stored = shown(bench, "run")
    assert conversation == result.to_input_list()[:-1]
    assert len(texts) == SIZE + 1
    # Whatever is as long as the output of the tool is there as its result alone.
    assert [data for data in stored.values() if b"return x + 1" in data] == []


@pytest.mark.parametrize("turn", [0, 5, SIZE])
def test_readers_find_all_of_a_conversation_that_went_on_after_a_failure(bench, turn):
    """What a replay passes is stored once more, if at all; places name the right results."""
    bench.api = "responses"
    bench.fault("status", status=401, turn=turn)
    with pytest.raises(openai.AuthenticationError):
        bench.run_once(reader(), "read", workflow_id="run", max_turns=SIZE + 2)

    result = bench.run_once(reader(), "read", workflow_id="run", max_turns=SIZE + 2)
    _, conversation, _ = shown(bench, "run")
    assert conversation == result.to_input_list()[:-1]


def test_the_next_input_of_a_chat_finds_its_beginning_stored(bench):
    """A run knows its own results only: the conversation that it begins with is stored."""
    bench.api = "responses"
    talker = agent("Talker", say("well " * 100), REPEAT)
    first = bench.run_once(talker, "one", workflow_id="chat/1")
    again = [*first.to_input_list(), {"role": "user", "content": "two"}]
    bench.run_once(talker, again, workflow_id="chat/2")

    async def fetch():
        async with await Client.connect(bench.store_url) as client:
            history = await client.get_workflow_handle("chat/2").fetch_history()
            return await read_items(client, history)

    found = [json.dumps(item, sort_keys=True) for item in asyncio.run(fetch()).values()]
    assert {json.dumps(item, sort_keys=True) for item in again} <= set(found)
