"""A byte of a record that is not as it was written: its run waits, says why, and loses nothing."""

from __future__ import annotations

import asyncio

import apsw
import pytest
from durable_core import Client, Worker, activity, history, workflow
from durable_core.exceptions import StoreCorruptError
from support.rows import rows
from support.waiting import eventually

QUEUE = "damaged"
TEXT = "large " * 1000

gate: list[asyncio.Event] = []
calls: list[str] = []


@activity.defn
async def act(text: str) -> str:
    calls.append(text[:5])
    return text


@activity.defn
async def last() -> str:
    await gate[0].wait()
    return "end"


@workflow.defn
class Flow:
    def __init__(self) -> None:
        self.got: list[int] = []

    @workflow.run
    async def run(self, text: str) -> list[object]:
        found = [(await act(text))[:5], (await act(TEXT))[:5], await last()]
        return [*found, self.got]

    @workflow.signal
    def put(self, number: int) -> None:
        self.got.append(number)


def worker(client):
    return Worker(client, task_queue=QUEUE, workflows=[Flow], activities=[act, last])


def flip(path, table, column, which):
    """Change one byte in the middle of a value; return what puts it back."""
    [(key, data)] = rows(
        path, f"SELECT {column}, data FROM {table} WHERE length(data) > 0 {which} LIMIT 1"
    )
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    rows(path, f"UPDATE {table} SET data = ? WHERE {column} = ? {which}", bytes(changed), key)
    return lambda: rows(path, f"UPDATE {table} SET data = ? WHERE {column} = ? {which}", data, key)


# A run's own start and inbox; its last activation; the item of its large result.
PLACES = {
    "start": ("run", "AND run = (SELECT id FROM run WHERE workflow_id = 'w')"),
    "activation": (
        "number",
        "AND run = (SELECT id FROM run WHERE workflow_id = 'w') AND number = 1",
    ),
    "inbox": ("id", "AND run = (SELECT id FROM run WHERE workflow_id = 'w')"),
    "item": ("address", "AND lineage = (SELECT lineage FROM run WHERE workflow_id = 'w')"),
}


@pytest.mark.parametrize("table", PLACES)
def test_a_flipped_byte_is_noticed_and_no_matter_of_other_runs(
    table, store_url, store_path, caplog
):
    column, which = PLACES[table]
    calls.clear()

    async def main():
        gate[:] = [asyncio.Event()]
        async with await Client.connect(store_url) as client:
            async with worker(client):
                handle = await client.start_workflow(Flow.run, "mine", id="w", task_queue=QUEUE)
                other = await client.start_workflow(Flow.run, "other", id="o", task_queue=QUEUE)
                await eventually(lambda: len(calls) == 4, "the first steps")
                await asyncio.sleep(0.05)

            # In the inbox, as no worker is there.
            await handle.signal(Flow.put, 7)
            put_back = flip(store_path, table, column, which)
            gate[0].set()
            with pytest.raises(StoreCorruptError, match="damaged"):
                await handle.fetch_history()

            async with worker(client):
                assert await other.result() == ["other", "large", "end", []]
                await eventually(lambda: "'w' cannot go on" in caplog.text, "what is said of it")
                await asyncio.sleep(0.3)
                said = [r for r in caplog.records if "'w' cannot go on" in r.getMessage()]
                assert len(said) == 1, "it rests between two tries"
                assert "Restore it from a backup" in said[0].getMessage()

            put_back()
            async with worker(client):
                assert await handle.result() == ["mine", "large", "end", [7]]

    asyncio.run(main())
    assert sorted(calls) == ["large", "large", "mine", "other"], "nothing is done again"


@pytest.mark.parametrize("what", ["event", "item"])
def test_damage_that_meets_a_run_in_memory_is_no_matter_of_other_runs(
    what, store_url, store_path, caplog
):
    calls.clear()

    def put(row, number, text):
        """Put a signal into the inbox of a run, one byte of which is not as it was written."""
        packer = history.Packer(row.lineage)
        sent = history.SignalReceived(
            name="put", args=history.Payload(data=b'[7,"%s"]' % text), request=f"{number}"
        )
        data = bytearray(packer.pack(sent))
        if what == "event":
            data[len(data) // 2] ^= 1

        with apsw.Connection(str(store_path)) as connection:
            connection.set_busy_timeout(10_000)
            for address, item in packer.items.items():
                connection.execute(
                    "INSERT INTO item (lineage, address, data) VALUES (?, ?, ?)",
                    (row.lineage, address, item.replace(b"x", b"y", 1)),
                )

            connection.execute(
                "INSERT INTO inbox (run, request, arrived, data) VALUES (?, ?, 0, ?)",
                (row.run_id, f"{number}", bytes(data)),
            )

    async def main():
        gate[:] = [asyncio.Event()]
        near, far = await Client.connect(store_url), await Client.connect(store_url)
        async with near, far, worker(near):
            await near.start_workflow(Flow.run, "mine", id="w", task_queue=QUEUE)
            other = await near.start_workflow(Flow.run, "other", id="o", task_queue=QUEUE)
            await eventually(lambda: len(calls) == 4, "the first steps")
            row = await far.store.find("default", "w")
            put(row, 1, b"x" if what == "event" else b"x" * 5000)
            await eventually(lambda: "'w' cannot go on" in caplog.text, "what is said of it")
            await far.get_workflow_handle("o").signal(Flow.put, 8)
            third = await far.start_workflow(Flow.run, "third", id="t", task_queue=QUEUE)
            gate[0].set()
            assert await other.result() == ["other", "large", "end", [8]]
            assert await third.result() == ["third", "large", "end", []]

    asyncio.run(main())
    assert "cannot read" not in caplog.text
