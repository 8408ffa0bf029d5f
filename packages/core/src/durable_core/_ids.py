"""The only place that draws real randomness: ids and seeds of runs and workers."""

from __future__ import annotations

import os
import socket
import uuid

from . import _clock

__all__ = ["process_identity", "seed", "uuid7"]


def uuid7() -> str:
    """Return a new UUID of version 7 (RFC 9562): ids that sort by time of creation."""
    milliseconds = int(_clock.now() * 1000)
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def seed() -> str:
    """Return 16 random bytes in hex: the seed of everything random that a run sees."""
    return os.urandom(16).hex()


def process_identity() -> str:
    """Return ``pid@host``, the name of this process in histories, as in temporalio."""
    return f"{os.getpid()}@{socket.gethostname()}"
