"""The command line, as a user calls it."""

from __future__ import annotations

import asyncio
import subprocess
import sys


async def durable(*arguments):
    """Run the command line in a process of its own; return exit code, stdout and stderr."""
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-m", "durable_core.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    )
    return done.returncode, done.stdout, done.stderr
