"""A tool that holds its run, so that the run can be cut off in the middle of it."""

from __future__ import annotations

import asyncio
import contextvars

from agents import function_tool

# What the surroundings of a tool put into its context.
place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


class Held:
    """A tool whose first call never returns, so that its run can be cut off there.

    Attributes:
        tool: The tool.
        places: What `place` was in its calls.
    """

    def __init__(self, name: str = "hold") -> None:
        self.places: list[str] = []
        self.reached = asyncio.Event()

        @function_tool(name_override=name)
        async def hold() -> str:
            self.places.append(place.get())
            if not self.reached.is_set():
                self.reached.set()
                await asyncio.Event().wait()

            return "held"

        self.tool = hold


def cut_off(start, *held: Held) -> None:
    """Start something and end its event loop while the tools run: its run is released."""

    async def main() -> None:
        running = asyncio.create_task(start())
        reached = asyncio.gather(*(one.reached.wait() for one in held))
        await asyncio.wait([running, reached], return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), running

    asyncio.run(main())
