"""Where the SDK's exporter sends traces: a server that keeps them, and places that never answer."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class TraceBackend:
    """A server that keeps what it is sent.

    Attributes:
        url: Its address.
        items: The traces and spans that it was sent, as JSON.
        pauses: Seconds before the first, second, … answer; the last one is for ever.
    """

    def __init__(self, *pauses: float) -> None:
        self.items: list[dict[str, Any]] = []
        self.pauses = pauses or (0.0,)
        self._requests = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces/ingest"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the items that are ``trace`` or ``trace.span``."""
        return [item for item in self.items if item["object"] == kind]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                pauses = backend.pauses
                pause = pauses[min(backend._requests, len(pauses) - 1)]
                backend._requests += 1
                time.sleep(pause)
                self.send_response(204)
                self.end_headers()
                backend.items += json.loads(body)["data"]

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextmanager
def closed() -> Iterator[str]:
    """Yield an address at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1/traces/ingest"


@contextmanager
def silent() -> Iterator[str]:
    """Yield an address that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/traces/ingest"
