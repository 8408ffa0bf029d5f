"""Credentials of a model call: errors are recorded without them, whoever quotes them.

A call and its settings are never recorded, but what comes back may quote them: some servers answer
a wrong key with the key, or a refused header with its value. What is searched for is what the call
was made with: the client's keys, and of the headers, the query and the body that were given or sent
what is named or looks like a credential. Anything else a server quotes stays, since it says what is
wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

__all__ = ["hide", "secrets_of", "secrets_sent"]

_SHORTEST = 8  # a shorter text is hardly a secret, and may be a word of any message
_HIDDEN = "[hidden]"
_OF_CLIENTS = ("api_key", "admin_api_key", "webhook_secret", "_azure_ad_token")
_HEADERS = ("extra_headers", "extra_query")
_NAMES = re.compile(
    r"auth|key|token|secret|passw|pwd|cookie|credential|signature|^sig$", re.IGNORECASE
)
_SCHEME = re.compile(r"^(?:bearer|basic|token|key)\s+(.+)$", re.IGNORECASE)
# Long, of letters and digits, and no date such as that of an API version.
_LOOKS = re.compile(r"^(?!\d{4}-\d{2}-\d{2})(?=.*[A-Za-z])(?=.*\d)[\w\-+/=.~%]{16,}$")


def secrets_of(model: Any, settings: Any, tools: Iterable[Any]) -> set[str]:
    """Return the credentials that a call is made with."""
    client = getattr(model, "_client", None)
    given: list[Any] = [getattr(client, name, None) for name in _OF_CLIENTS]
    given += [getattr(model, "api_key", None)]
    given += [getattr(getattr(client, "base_url", None), "password", None)]
    found = {*_texts(given)}
    for name in ("_custom_headers", "_custom_query"):
        found.update(_credentials(getattr(client, name, None), by_look=True))

    for name in _HEADERS:
        found.update(_credentials(getattr(settings, name, None), by_look=True))

    found.update(_credentials(getattr(settings, "extra_body", None), by_look=False))
    for tool in tools:
        config = getattr(tool, "tool_config", None)
        if isinstance(config, Mapping):
            found.update(_texts([config.get("authorization")]))
            found.update(_credentials(config.get("headers"), by_look=True))

    return _whole(found)


def secrets_sent(error: BaseException) -> set[str]:
    """Return the credentials of the requests that an exception and its causes tell of.

    They may have come from a function of the user's, or from an HTTP client of the user's.
    """
    found: set[str] = set()
    for one in _chain(error):
        request = _request(one)
        if request is not None:
            found.update(_credentials(dict(request.headers), by_look=False))
            query = [part.partition("=") for part in request.url.query.decode().split("&")]
            values = {name: [value, unquote_plus(value)] for name, _, value in query}
            found.update(_credentials(values, by_look=True))
            found.update(_texts([request.url.password]))

    return _whole(found)


def _request(error: BaseException) -> Any:
    try:
        return getattr(error, "request", None) or getattr(error, "response", None).request  # type: ignore[union-attr]
    except (AttributeError, RuntimeError):  # as httpx raises it where there is none
        return None


def hide(error: BaseException, known: Iterable[str]) -> None:
    """Take credentials out of an exception, its causes, and whatever texts they hold."""
    secrets = sorted(known, key=lambda text: (-len(text), text))  # one may be a part of another
    for one in _chain(error):
        one.args = tuple(_without(value, secrets) for value in one.args)
        attributes = vars(one)
        for name, value in list(attributes.items()):
            attributes[name] = _without(value, secrets)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes and its parts, each once."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue

        seen.add(id(one))
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions

        yield one


def _credentials(given: Any, *, by_look: bool, named: bool = False) -> Iterator[str]:
    """Yield what is named like a credential in a mapping, or looks like one."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            called = named or _NAMES.search(str(name)) is not None
            yield from _credentials(value, by_look=by_look, named=called)
    elif isinstance(given, (list, tuple)):
        for value in given:
            yield from _credentials(value, by_look=by_look, named=named)
    elif isinstance(given, str) and (named or (by_look and _LOOKS.match(given))):
        yield given


def _whole(found: Iterable[str]) -> set[str]:
    """Return texts that are long enough, also without the scheme before a credential."""
    parts = {*found}
    parts |= {match[1].strip() for text in parts if (match := _SCHEME.match(text))}
    return {text for text in parts if len(text) >= _SHORTEST}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


def _without(value: Any, secrets: list[str]) -> Any:
    """Return a text, or JSON, with the credentials replaced; anything else as it is."""
    match value:
        case str():
            text = value
            for secret in secrets:
                text = text.replace(secret, _HIDDEN)

            return value if text == value else text
        case dict():
            return {key: _without(inner, secrets) for key, inner in value.items()}
        case list():
            return [_without(inner, secrets) for inner in value]
        case _:
            return value
