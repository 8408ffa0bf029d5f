"""The request log: one JSON line per event, on disk before anybody is told.

The log lies outside of whatever is under test, so it can say what really happened, and how often:
a line is written and synced before the answer that it speaks of is sent. A process that is killed
right after it got an answer has therefore always left the lines about it.

Every line has `seq` (1, 2, …), `time` (wall clock, seconds) and `kind`. Lines of the server:

- `request`: a model call was received; `request` numbers it, `fault` says what will go wrong;
- `answer`: it is answered with `text` and `calls`; `fault`: it gets an error or a cut connection;
  `error`: the policy failed; `gone`: the client went away before there was an answer;
- `refused`: a request that is malformed or not supported; it has no number;
- `held`: a request that a `hold` fault keeps on its way, with no number yet;
- `fault_added`, `faults_cleared`: what the admin endpoint was told.

Every other kind was posted to the ledger by the programs under test.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from ._json import JsonObject, parse_object

SERVER_KINDS = frozenset(
    {
        "request",
        "answer",
        "fault",
        "error",
        "gone",
        "refused",
        "held",
        "fault_added",
        "faults_cleared",
    }
)


class RequestLog:
    """Appends to a log file from any thread; lives as long as the server.

    An existing file is continued; a torn last line, which nobody was told about, is cut off.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.read_bytes() if path.exists() else b""
        kept = whole[: whole.rfind(b"\n") + 1]
        self._lock = threading.Lock()
        self._seq = kept.count(b"\n")
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._file, len(kept))

    def append(self, kind: str, fields: JsonObject) -> int:
        """Append one line, sync it, and return its `seq`."""
        with self._lock:
            self._seq += 1
            line = {"seq": self._seq, "time": time.time(), "kind": kind}
            line |= {name: value for name, value in fields.items() if name not in line}
            data = json.dumps(line, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
            # The file is opened by ourselves alone, so a short write is the only way to tear.
            while data:
                data = data[os.write(self._file, data) :]

            os.fsync(self._file)
            return self._seq

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class LogReader:
    """Reads a log that is still written to, each line once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lines: list[JsonObject] = []

    def read(self) -> list[JsonObject]:
        """Return the complete lines so far."""
        if self._path.exists():
            with self._path.open("rb") as log:
                log.seek(self._offset)
                whole, newline, _ = log.read().rpartition(b"\n")

            self._offset += len(whole) + len(newline)
            if newline:
                self._lines += [parse_object(line) for line in whole.split(b"\n")]

        return list(self._lines)
