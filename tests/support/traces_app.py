"""The agent program of `agents_app`, whose traces are written to the file that ``TRACES`` names."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from agents import set_trace_processors

from support import agents_app
from support.traces import Listener

if __name__ == "__main__":
    set_trace_processors([Listener(Path(os.environ["TRACES"]))])
    asyncio.run(agents_app.main(sys.argv[1]))
