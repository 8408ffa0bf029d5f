"""The HTTP side of the model server: what is read, logged and answered, in which order.

    POST /v1/responses, /v1/chat/completions    a model call
    POST /_ledger     {"kind": "tool_started", ...}   a line for the log, 204 when it is on disk
    POST /_faults     one rule or a list of them (`FaultRule.from_json`); DELETE forgets them all
    GET  /_health     200

A model call: read → picked fault → log `request` → wait → log the outcome → send it. Requests run
in threads of their own, so one that hangs holds up nobody else.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from ._answer import Answer, Policy, call_id, derived_id
from ._api import DIALECTS, read_request
from ._fault import Endpoint, Fault, FaultPlan, FaultRule
from ._json import as_object, as_objects, parse_object
from ._log import SERVER_KINDS, RequestLog
from ._request import BadRequestError, ModelRequest

_ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "invalid_api_key",
    404: "invalid_request_error",
    429: "rate_limit_exceeded",
}


class ModelHTTPServer(ThreadingHTTPServer):
    """Listens on loopback from construction on; serves while `serve_forever` runs."""

    daemon_threads = True
    # Agents open many connections at once; the default backlog of 5 makes some of them wait 1 s.
    request_queue_size = 128

    def __init__(
        self, policy: Policy, log: RequestLog, *, port: int = 0, latency: float = 0.0
    ) -> None:
        self.policy = policy
        self.log = log
        self.latency = latency
        self.faults = FaultPlan()
        self._numbers = threading.Lock()
        self._last_number = 0
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """Return the root of the server, without `/v1`."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_number(self) -> int:
        """Return the number of a model call that was just received, counted from 1."""
        with self._numbers:
            self._last_number += 1
            return self._last_number

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep the terminal quiet about clients that died: `gone` in the log tells it."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(cast("socket.socket", request), client_address)


class _Gone(Exception):
    """The client closed its connection while it was waiting."""


class _Handler(BaseHTTPRequestHandler):
    """Serves one connection, in its own thread."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/_health":
            self._send(200, {"ok": True})
        else:
            self._send_error(404, f"nothing at {self.path}")

    def do_DELETE(self) -> None:
        if self.path == "/_faults":
            self._server.faults.clear()
            self._server.log.append("faults_cleared", {})
            self._send(204)
        else:
            self._send_error(404, f"nothing at {self.path}")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/_ledger":
            self._ledger(raw)
        elif self.path == "/_faults":
            self._add_faults(raw)
        elif self.path in DIALECTS:
            self._model_call(raw)
        else:
            self._send_error(404, f"nothing at {self.path}")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the request log says more."""

    @property
    def _server(self) -> ModelHTTPServer:
        return cast("ModelHTTPServer", self.server)

    # -- admin ---------------------------------------------------------------------------------

    def _add_faults(self, raw: bytes) -> None:
        try:
            document: object = json.loads(raw)
            several = as_objects(document) or (as_object(document),)
            rules = [FaultRule.from_json(one) for one in several]
        except ValueError as error:
            self._send_error(400, str(error))
            return

        for rule in rules:
            self._server.faults.add(rule)
            self._server.log.append("fault_added", {"rule": rule.to_json()})

        self._send(204)

    def _ledger(self, raw: bytes) -> None:
        try:
            line = parse_object(raw)
        except ValueError as error:
            self._send_error(400, str(error))
            return

        kind = line.get("kind")
        if not isinstance(kind, str) or not kind or kind in SERVER_KINDS:
            self._send_error(400, f"a ledger line needs a `kind` of its own, not {kind!r}")
            return

        fault = self._server.faults.pick("ledger", raw.decode(errors="replace"))
        held = fault is not None and fault.kind == "hold"
        try:
            if fault is not None and held:
                self._server.log.append("held", {"endpoint": "ledger", "line": line})
                self._wait(fault.seconds)

            self._server.log.append(kind, line)
            if fault is not None and not held:
                self._wait(None if fault.kind == "hang" else fault.seconds or 0.0)
        except _Gone:
            self._server.log.append("gone", {"endpoint": "ledger", "line": line})
            self.close_connection = True
            return

        if fault is not None and fault.kind in {"status", "cut"}:
            self._send_fault(fault, b"")
        else:
            self._send(204)

    # -- model calls ---------------------------------------------------------------------------

    def _model_call(self, raw: bytes) -> None:
        started = time.monotonic()
        headers = dict(self.headers.items())
        try:
            request = read_request(self.path, parse_object(raw), headers)
        except (BadRequestError, ValueError) as error:
            self._server.log.append("refused", {"path": self.path, "message": str(error)})
            self._send_error(400, str(error))
            return

        about: dict[str, object] = {}
        try:
            fault = self._held(request, raw)
            about["request"] = self._server.next_number()
            self._server.log.append("request", about | _described(request, headers, fault))
            self._wait(self._server.latency)
            self._answer(request, fault, about, started)
        except _Gone:
            about["seconds"] = round(time.monotonic() - started, 6)
            self._server.log.append("gone", {"endpoint": "model", **about})
            self.close_connection = True

    def _held(self, request: ModelRequest, raw: bytes) -> Fault | None:
        """Return the fault of this request; a `hold` is over when this returns."""
        endpoint: Endpoint = "model"
        fault = self._server.faults.pick(endpoint, raw.decode(errors="replace"), request.turn)
        if fault is None or fault.kind != "hold":
            return fault

        held = {"endpoint": endpoint, "agent": request.agent, "turn": request.turn}
        self._server.log.append("held", held | {"digest": request.digest})
        self._wait(fault.seconds)
        return None

    def _answer(
        self,
        request: ModelRequest,
        fault: Fault | None,
        about: dict[str, object],
        started: float,
    ) -> None:
        """Carry out the fault, if any, or what the policy says; log it, then send it."""
        answer: Answer | None = None
        if fault is None or fault.kind in {"delay", "cut"}:
            try:
                decided = _decided(self._server.policy, request)
            except Exception as error:  # noqa: BLE001 - whatever a policy raises is its failure
                message = f"{type(error).__name__}: {error}"
                line = about | {"message": message, "traceback": traceback.format_exc()}
                self._server.log.append("error", line)
                # 400, because clients repeat a 5xx and the policy would fail again.
                self._send_error(400, f"the policy failed: {message}")
                return

            if isinstance(decided, Answer):
                answer = decided
            else:
                fault = decided

        if fault is not None:
            self._wait(None if fault.kind in {"hang", "hold"} else fault.seconds or 0.0)

        about["seconds"] = round(time.monotonic() - started, 6)
        body = b""
        if answer is not None:
            body = _encoded(DIALECTS[self.path].write(request, answer))

        if fault is not None and fault.kind in {"status", "cut"}:
            self._server.log.append("fault", about | {"fault": fault.summary()})
            self._send_fault(fault, body)
        elif answer is not None:
            self._server.log.append("answer", about | {"status": 200} | _outcome(request, answer))
            self._send_bytes(200, body, {"x-request-id": derived_id("req", request)})

    def _wait(self, seconds: float | None) -> None:
        """Wait, for ever if `seconds` is None.

        Raises:
            _Gone: The client closed its connection before the time was over.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            while deadline is None or time.monotonic() < deadline:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not selector.select(left):
                    continue

                try:
                    if not self.connection.recv(1, socket.MSG_PEEK):
                        raise _Gone
                except ConnectionError as error:
                    raise _Gone from error

                # The next request, sent ahead: a client that does so is not leaving.
                selector.unregister(self.connection)

    # -- sending -------------------------------------------------------------------------------

    def _send_fault(self, fault: Fault, whole: bytes) -> None:
        if fault.kind == "status":
            headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
            self._send_error(fault.status, fault.message, headers)
            return

        body = whole or b'{"cut": true}'
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        self.wfile.write(head.encode() + b"\r\n\r\n" + body[: len(body) // 2])
        self.close_connection = True

    def _send_error(
        self, status: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        kind = _ERROR_TYPES.get(status, "server_error")
        error = {"message": message, "type": kind, "param": None, "code": kind}
        self._send(status, {"error": error}, headers)

    def _send(
        self,
        status: int,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._send_bytes(status, b"" if body is None else _encoded(body), headers or {})

    def _send_bytes(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name, text)

        self.end_headers()
        self.wfile.write(body)


def _decided(policy: Policy, request: ModelRequest) -> Answer | Fault:
    """Ask the policy, which is user code and may return anything."""
    decided = cast("object", policy(request))
    if isinstance(decided, Answer):
        return decided

    if isinstance(decided, Fault) and decided.kind != "delay":
        return decided

    raise TypeError(f"a policy returns an Answer, or a Fault that is no delay; got {decided!r}")


def _encoded(body: Mapping[str, object]) -> bytes:
    # ASCII, so that odd text (lone surrogates) passes through unharmed.
    return json.dumps(body).encode()


def _described(
    request: ModelRequest, headers: Mapping[str, str], fault: Fault | None
) -> dict[str, object]:
    """Return what the log says of a model call; the conversation itself only as a digest."""
    retry = next((v for k, v in headers.items() if k.lower() == "x-stainless-retry-count"), "0")
    line: dict[str, object] = {
        "api": request.api,
        "model": request.model,
        "agent": request.agent,
        "turn": request.turn,
        "items": len(request.items),
        "digest": request.digest,
        "retry": int(retry) if retry.isdigit() else 0,
    }
    return line if fault is None else line | {"fault": fault.summary()}


def _outcome(request: ModelRequest, answer: Answer) -> dict[str, object]:
    calls = [
        {"name": call.name, "call_id": call_id(request, index), "arguments": dict(call.arguments)}
        for index, call in enumerate(answer.calls)
    ]
    return {"text": answer.text, "calls": calls}
