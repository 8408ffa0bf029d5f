"""Errors of model clients: which are worth another attempt, and how they are recorded.

The kinds and the headers are those of the openai client, whose own retries are off: each attempt is
then recorded, counted and visible.
"""

from __future__ import annotations

import email.utils
import time
from typing import Any

import agents.exceptions
import openai
from agents.exceptions import AgentsException
from durable_core.adapter import ExceptionCodec, RetryDecision, register_exception
from durable_core.exceptions import FailureError

__all__ = ["decide", "hide_headers", "register"]

_RETRYABLE = frozenset({408, 409, 429})
_LONGEST_RETRY_AFTER = 600.0
_KEPT_HEADERS = ("content-type", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry")


def decide(error: BaseException) -> RetryDecision:
    """Judge a failed model call: lost connections, 408, 409, 429 and 5xx are tried again.

    What a model of the user's own raises otherwise is not, unless a policy of the user's says so.
    """
    if isinstance(error, openai.APIStatusError):
        headers = error.response.headers
        said = headers.get("x-should-retry")
        retry = error.status_code in _RETRYABLE or error.status_code >= 500
        if said in ("true", "false"):
            retry = said == "true"

        return RetryDecision(retry=retry, after=_retry_after(headers) if retry else None)

    if isinstance(error, openai.APIConnectionError):
        # A header that cannot be sent cannot be sent later either.
        return RetryDecision(retry=not isinstance(error.__cause__, ValueError))

    lost = isinstance(error, (ConnectionError, *_transport_errors()))
    known = lost or isinstance(error, (openai.OpenAIError, FailureError))
    return RetryDecision(retry=lost, known=known)


def hide_headers(error: BaseException) -> None:
    """Cut off causes that quote a request header, such as a key with a line end in it."""
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ == "LocalProtocolError":
            error.__context__ = None
            error.__cause__ = ValueError(
                "the HTTP library refuses to send a header (not shown, it may be a credential): "
                "check the API key and the headers of the client for line ends and other odd "
                "characters"
            )
            return

        seen = seen.__cause__ or seen.__context__


def register() -> None:
    """Let errors of the openai client and of the SDK come back from the record as themselves."""
    register_exception(ExceptionCodec(AgentsException, _agents_state, _agents_error))
    register_exception(ExceptionCodec(openai.APIStatusError, _status_state, _status_error))
    register_exception(
        ExceptionCodec(openai.APIConnectionError, _connection_state, _connection_error)
    )


def _agents_state(error: AgentsException) -> dict[str, Any]:
    # A class of a user's own comes back as the SDK's class that it extends.
    cls = next(c for c in type(error).__mro__ if c.__module__ == AgentsException.__module__)
    attributes = {k: v for k, v in vars(error).items() if isinstance(v, (bool, int, float, str))}
    return {"class": cls.__name__, "message": str(error), "attributes": attributes}


def _agents_error(state: dict[str, Any]) -> BaseException:
    cls = getattr(agents.exceptions, state["class"], AgentsException)
    error: AgentsException = cls.__new__(cls)
    # Not the class's own `__init__`, which wants live objects such as a guardrail.
    AgentsException.__init__(error, state["message"])
    vars(error).update(state["attributes"])
    return error


def _retry_after(headers: Any) -> float | None:
    """Return the seconds that the server asked to wait, if it did so within reason."""
    seconds = _asked(headers)
    return seconds if seconds is not None and 0 <= seconds <= _LONGEST_RETRY_AFTER else None


def _asked(headers: Any) -> float | None:
    try:
        if headers.get("retry-after-ms") is not None:
            return float(headers["retry-after-ms"]) / 1000

        if headers.get("retry-after") is not None:
            return float(headers["retry-after"])
    except ValueError:
        parsed = email.utils.parsedate_tz(headers.get("retry-after", ""))
        return None if parsed is None else email.utils.mktime_tz(parsed) - time.time()

    return None


def _shown(url: Any) -> str:
    """Return an address without what may be a credential."""
    return str(url.copy_with(query=None, userinfo=b""))


def _kept_headers(headers: Any) -> dict[str, str]:
    """Return the headers to record; others may hold cookies or name an account."""
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    try:
        float(kept.get("retry-after", "0"))
    except ValueError:
        # A date: the delay until then would be another one on replay.
        seconds = _asked({"retry-after": kept.pop("retry-after")})
        if seconds is not None:
            kept["retry-after"] = f"{max(0.0, seconds):.3f}"

    return kept


def _transport_errors() -> tuple[type[BaseException], ...]:
    """Return the transport errors of the HTTP libraries that are loaded."""
    import sys

    return tuple(
        sys.modules[name].TransportError for name in ("httpx", "httpx2") if name in sys.modules
    )


def _status_state(error: openai.APIStatusError) -> dict[str, Any]:
    response = error.response
    return {
        "class": type(error).__name__,
        "message": error.message,
        "body": error.body,
        "status": error.status_code,
        "headers": _kept_headers(response.headers),
        "method": response.request.method,
        "url": _shown(response.request.url),
    }


def _status_error(state: dict[str, Any]) -> BaseException:
    http = _http()
    request = http.Request(state["method"], state["url"])
    response = http.Response(state["status"], headers=state["headers"], request=request)
    cls = getattr(openai, state["class"], openai.APIStatusError)
    try:
        error: BaseException = cls(state["message"], response=response, body=state["body"])
    except TypeError:
        error = openai.APIStatusError(state["message"], response=response, body=state["body"])

    return error


def _connection_state(error: openai.APIConnectionError) -> dict[str, Any]:
    return {
        "timeout": isinstance(error, openai.APITimeoutError),
        "message": error.message,
        "method": error.request.method,
        "url": _shown(error.request.url),
    }


def _connection_error(state: dict[str, Any]) -> BaseException:
    request = _http().Request(state["method"], state["url"])
    if state["timeout"]:
        return openai.APITimeoutError(request)

    return openai.APIConnectionError(message=state["message"], request=request)


def _http() -> Any:
    """Return the HTTP library of the openai client: httpx2 from its version 3 on."""
    from openai import _exceptions

    return getattr(_exceptions, "httpx2", None) or _exceptions.httpx  # type: ignore[attr-defined]
