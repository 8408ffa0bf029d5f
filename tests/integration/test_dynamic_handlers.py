"""Handlers of signals, queries and updates of any name."""

from __future__ import annotations

import asyncio

import pytest
from durable_core import workflow
from durable_core.common import RawValue
from durable_core.exceptions import ApplicationError, WorkflowUpdateFailedError
from support.talking import begin, working


@workflow.defn
class Switchboard:
    """Takes what nothing else takes."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        workflow.set_update_handler("set", self.set_later, validator=self.check_later)
        await workflow.wait_condition(lambda: "end" in self.heard)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.heard

    @workflow.signal(dynamic=True)
    def any_signal(self, name: str, args: list[RawValue]) -> None:
        values = [workflow.payload_converter().from_payload(a.payload) for a in args]
        self.heard.append(name if not values else f"{name}{values}")

    @workflow.update(dynamic=True)
    async def any_update(self, name: str, args: list[RawValue]) -> str:
        info = workflow.current_update_info()
        await asyncio.sleep(0.001)
        assert workflow.current_update_info() == info
        number = workflow.payload_converter().from_payload(args[0].payload, int)
        return f"{name} {number} {info.id}"

    @any_update.validator
    def check_any(self, name: str, args: list[RawValue]) -> None:
        if name == "never":
            raise ApplicationError(f"{name} with {len(args)}")

    @workflow.query(dynamic=True)
    def any_query(self, name: str, args: list[RawValue]) -> str:
        return f"{name}?{len(args)}"

    def set_later(self, text: str) -> str:
        self.heard.append(text)
        return text.upper()

    def check_later(self, text: str) -> None:
        if text == "no":
            raise ApplicationError("no")


def test_dynamic_handlers_take_what_no_other_takes(store_url):
    async def main():
        async with working(store_url, workflows=[Switchboard]) as client:
            handle = await begin(client, Switchboard.run)
            assert await handle.execute_update("do", 7, id="u") == "do 7 u"
            with pytest.raises(WorkflowUpdateFailedError, match="never with 1"):
                await handle.execute_update("never", 7)

            assert await handle.execute_update("set", "a") == "A"
            with pytest.raises(WorkflowUpdateFailedError, match="no"):
                await handle.execute_update("set", "no")

            assert await handle.query("whatever", args=[1, 2]) == "whatever?2"
            await handle.signal("one", args=[1, "x"])
            await handle.signal("end")
            assert await handle.result() == ["a", "one[1, 'x']", "end"]
            assert await handle.query("whatever") == "whatever?0"

    asyncio.run(main())
