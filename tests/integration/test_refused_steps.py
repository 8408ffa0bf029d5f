"""Steps that are refused because something came meanwhile: what bodies brought is not lost."""

from __future__ import annotations

import asyncio

import apsw
import pytest
from durable_core import _faults, activity, workflow
from durable_core.history import Packer, Payload, SignalReceived
from support.talking import begin, note, ran, working


@activity.defn
async def says(text: str) -> None:
    tokens = activity.stream("tokens")
    for letter in text:
        tokens.write(letter)

    await note(text)


@workflow.defn
class Hears:
    """Ends after its activity, and tells what it heard by then."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await says("done")
        return self.heard

    @workflow.signal
    def hear(self, text: str) -> None:
        self.heard.append(text)


@pytest.mark.parametrize("times", [1, 3])
def test_an_activity_whose_result_came_with_a_refused_end_does_not_run_again(
    store_url, monkeypatch, times
):
    """Another process sends signals while the step that ends the run is being written."""
    path, left = store_url.removeprefix("sqlite:///"), [times]

    def send(point):
        if point != "run.activated.after" or "done" not in ran or not left[0]:
            return

        left[0] -= 1
        request = f"signal {left[0]}"
        data = Packer.pack_whole(
            SignalReceived(
                name="hear", args=Payload(data=f'["{left[0]}"]'.encode()), request=request
            )
        )
        far = apsw.Connection(path)
        far.set_busy_timeout(10_000)
        far.execute(
            "INSERT INTO inbox (run, request, arrived, data) SELECT id, ?, 1.0, ? FROM run",
            (request, data),
        )
        far.close()

    async def main():
        async with working(store_url, workflows=[Hears], activities=[says]) as client:
            monkeypatch.setattr(_faults, "reach", send)
            handle = await begin(client, Hears.run)
            assert await handle.result() == [str(n) for n in reversed(range(times))]
            (done,) = [e for e in (await handle.fetch_history()).timeline() if e.kind == "activity"]
            assert [a.outcome for a in done.attempts] == ["completed"]
            # Nor is what it wrote to a stream shorter than its result.
            assert "".join(await handle.stream("tokens", result_type=str).collect()) == "done"

    asyncio.run(main())
    assert ran == ["done"]
    assert not left[0]
