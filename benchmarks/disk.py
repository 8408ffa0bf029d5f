"""What the disk allows: durable commits of one row, one by one, in the store's settings."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import apsw


def main(folder: Path, size: int) -> None:
    """Print milliseconds per commit of one row of 400 bytes."""
    connection = apsw.Connection(str(folder / "commits.db"))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("CREATE TABLE t (x)")
    begun = time.perf_counter()
    for _ in range(size):
        connection.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES (zeroblob(400)); COMMIT")

    print(json.dumps({"ms": (time.perf_counter() - begun) * 1000 / size}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
