"""SIGKILL of processes that write to streams: every reader gets the final text once and in order."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from durable_core import Client, _faults
from durable_core.streams import Collected
from support import stream_app
from support.forks import Forks
from support.stream_app import Say
from support.waiting import eventually

APP = Path(stream_app.__file__)
SECONDS = 8.0
LONG_TRIALS = 100
MOST = 60
TEXT = "So we beat on, boats against the current"


@pytest.fixture
def forks(tmp_path):
    with Forks(tmp_path, ["support.stream_app"]) as started:
        yield started


async def begin(client, turns, code=stream_app.tell):
    args = [turns] if turns else []
    return await client.start_workflow(code, args=args, id="w", task_queue=stream_app.QUEUE)


class Reader:
    """A reader of this process; one that reconnects connects anew after every few items."""

    def __init__(self, url, name="tokens", *, every=None, from_offset=0):
        self.items = []
        self.shown = Collected()
        self._url = url
        self._name = name
        self._every = every
        self._from = from_offset

    async def read(self):
        while True:
            async with await Client.connect(self._url) as client:
                offset = self._from + len(self.items)
                stream = client.get_workflow_handle("w").stream(self._name, from_offset=offset)
                count = 0
                async for item in stream.items():
                    self.items.append(item)
                    self.shown.add(item)
                    count += 1
                    if count == self._every:
                        break
                else:
                    return self


def checked(reader, texts):
    """Check that what is shown in the end is each text of a turn once, turn by turn."""
    assert [item.offset for item in reader.items] == list(range(len(reader.items)))
    chunks = list(reader.shown.chunks)
    for turn in texts:
        count = sum(map(len, turn))
        said, chunks = chunks[:count], chunks[count:]
        by_activity = {}
        for chunk in said:
            by_activity.setdefault(chunk.activity_id, []).append(chunk)

        assert sorted("".join(c.value for c in found) for found in by_activity.values()) == sorted(
            turn
        )
        # Of one attempt each.
        assert all(len({c.attempt for c in found}) == 1 for found in by_activity.values())

    assert chunks == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", _faults.POINTS)
def test_every_reader_gets_the_final_text_once_and_in_order_over_kills_at_every_point(
    point, forks, processes, store_url
):
    """One kill at the first time that the point is reached, then at the second, and so on."""

    async def main():
        async with await Client.connect(store_url) as client:
            await begin(client, [[Say(TEXT, [], 0.0005)], [Say("one", [2]), Say("two", [])]])
            readers = [Reader(store_url), Reader(store_url, every=3), Reader(store_url, "log")]
            reading = [asyncio.ensure_future(reader.read()) for reader in readers]
            tail = processes.start(TAIL, DURABLE_URL=store_url)
            killed = 0
            for n in range(1, MOST):
                fault = f"{point}:{n}"
                ended = await asyncio.to_thread(
                    forks.run, APP, "serve", fault=fault, DURABLE_URL=store_url
                )
                if not ended.killed:
                    break

                killed += 1

            last = await asyncio.to_thread(forks.run, APP, "serve", DURABLE_URL=store_url)
            result, inside = json.loads(last.checked().output.split("result ")[1].splitlines()[0])
            assert result == len(TEXT) + 6
            live, again, log = await asyncio.gather(*reading)
            texts = [[TEXT], ["one", "two"]]
            checked(live, texts)
            assert again.items == live.items
            assert list(again.shown.values) == list(live.shown.values) == inside
            assert list(log.shown.values) == [
                "turn 0",
                f"said {len(TEXT)}",
                "turn 1",
                f"said {result}",
            ]
            assert log.items[-1].kind == "end"
            far = (await asyncio.to_thread(tail.wait)).checked()
            lines = [json.loads(line) for line in far.output.splitlines()]
            assert lines == [item.to_json_dict() for item in live.items]
            resets = sum(item.kind == "reset" for item in live.items)
            print(f"{killed} kills at {point}, {resets} resets")

    asyncio.run(main())


TAIL = """
from durable_core.cli import main
main(["stream", "tail", "w", "tokens", "--json"])
"""


def program(choose):
    """Return turns of texts, some of whose attempts fail by themselves."""
    letters = "abcdefghij"

    def what():
        text = "".join(choose.choice(letters) for _ in range(choose.randint(0, 30)))
        fails = [choose.randint(0, len(text)) for _ in range(choose.choice([0, 0, 1, 3]))]
        return Say(text, fails, choose.choice([0.0, 0.0005, 0.003]))

    return [[what() for _ in range(choose.randint(1, 3))] for _ in range(choose.randint(1, 4))]


@pytest.mark.timeout(3600)
def test_random_programs_over_random_kills_keep_to_a_simple_model(forks, tmp_path, long):
    """Kills at random moments and points; readers that begin anywhere, live, and reconnect."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    ends = time.monotonic() + SECONDS
    trials = kills = resets = 0

    async def trial(url, choose):
        turns = program(choose)
        killed = 0
        async with await Client.connect(url) as client:
            await begin(client, turns)
            offset = choose.randint(0, 5)
            readers = [
                Reader(url),
                Reader(url, every=choose.randint(1, 9)),
                Reader(url, every=choose.choice([None, 4]), from_offset=offset),
                Reader(url, "log"),
            ]
            reading = [asyncio.ensure_future(reader.read()) for reader in readers]
            for _ in range(choose.randint(1, 4)):
                fault = choose.choice(
                    ["", f"{choose.choice(_faults.POINTS)}:{choose.randint(1, 20)}"]
                )
                process = forks.start(APP, "serve", fault=fault, DURABLE_URL=url)
                until = time.monotonic() + choose.uniform(0.02, 0.4)
                while process.running and time.monotonic() < until:
                    await asyncio.sleep(0.005)

                killed += process.kill().killed

            last = await asyncio.to_thread(forks.run, APP, "serve", DURABLE_URL=url)
            last.checked()
            texts = [[what.text for what in turn] for turn in turns]
            total = sum(len(text) for turn in texts for text in turn)
            done = await asyncio.gather(*reading, return_exceptions=True)
            length = len(readers[0].items)
            if not total and not length:
                # Nobody ever wrote to it.
                assert all("without a stream 'tokens'" in str(error) for error in done[:3])
            else:
                if offset > length:
                    assert "has ended with" in str(done.pop(2))
                else:
                    assert readers[2].items == readers[0].items[offset:]

                assert not [e for e in done if isinstance(e, BaseException)], done
                texts = [[text for text in turn if text] for turn in texts]
                checked(readers[0], texts)
                assert readers[1].items == readers[0].items

            assert len(readers[3].shown.values) == 2 * len(turns)
            assert readers[3].shown.values[-1] == f"said {total}"
            again = await Reader(url, "log").read()
            assert again.items == readers[3].items
            return killed, sum(item.kind == "reset" for item in readers[0].items)

    while trials < LONG_TRIALS if long else time.monotonic() < ends:
        trials += 1
        choose = random.Random(f"{seed}/{trials}")
        url = f"sqlite:///{tmp_path}/{trials}.db"
        try:
            of_trial = asyncio.run(trial(url, choose))
        except BaseException:
            print(f"trial {trials} of seed {seed}")
            raise

        kills, resets = kills + of_trial[0], resets + of_trial[1]

    print(f"{trials} trials, {kills} kills, {resets} resets, seed {seed}")
    assert kills
    assert resets


def test_what_an_at_most_once_activity_wrote_is_void_when_its_process_dies(processes, store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = await begin(client, [], stream_app.tell_once)
            reader = asyncio.ensure_future(Reader(store_url).read())
            first = await asyncio.to_thread(processes.run, APP, "serve", DURABLE_URL=store_url)
            assert first.killed
            await asyncio.to_thread(processes.run, APP, "serve", DURABLE_URL=store_url)
            assert await handle.result() == "unknown"
            shown = await reader
            assert [item.kind for item in shown.items] == ["chunk", "reset"]
            assert shown.shown.values == []

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
@pytest.mark.timeout(120)
def test_a_stopped_writer_that_wakes_up_writes_nothing_behind_its_successor(processes, tmp_path):
    """A zombie: it is stopped while it writes, longer than its lease, and goes on then.

    One that is stopped in the middle of a commit keeps everybody from writing until it is woken, so
    some rounds may have no successor.
    """
    text = "x" * 200

    async def round_of(url):
        surroundings = {"DURABLE_URL": url, "LEASE": "0.5"}
        async with await Client.connect(url) as client:
            handle = await begin(client, [[Say(text, [], 0.005)]])
            reader = Reader(url)
            reading = asyncio.ensure_future(reader.read())
            writer = processes.start(APP, "serve", **surroundings)
            await eventually(lambda: len(reader.items) > 5, "the first chunks")
            writer.send(signal.SIGSTOP)
            other = processes.start(APP, "serve", **surroundings)
            stopped = time.monotonic()
            while time.monotonic() < stopped + 6 and reader.items[-1].attempt == 1:
                await asyncio.sleep(0.01)

            writer.send(signal.SIGCONT)
            await handle.result()
            await reading
            for process in (writer, other):
                process.kill()

            checked(reader, [[text]])
            # Once a later attempt has written, no earlier one has.
            wrote = [item.attempt for item in reader.items if item.kind == "chunk"]
            assert wrote == sorted(wrote)
            return wrote[-1] > 1

    async def main():
        for number in range(8):
            if await round_of(f"sqlite:///{tmp_path}/{number}.db"):
                return

        pytest.fail("no round in which another worker took over")

    asyncio.run(main())
