"""Credentials of a model call: errors are recorded without them, whoever quotes them.

A call and its settings are never recorded, but what comes back may quote them: some servers answer
a wrong key with the key, or a refused header with its value. What is searched for is what the call
was made with: the client's keys and headers, the extra headers, query and body of the settings, and
the authorization of hosted tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["hide", "secrets_of"]

_SHORTEST = 8  # a shorter text is hardly a secret, and may be a word of any message
_HIDDEN = "[hidden]"
_OF_CLIENTS = ("api_key", "admin_api_key", "webhook_secret", "_custom_headers", "_custom_query")
_OF_SETTINGS = ("extra_headers", "extra_query", "extra_body")
_OF_TOOLS = ("authorization", "headers")


def secrets_of(model: Any, settings: Any, tools: Iterable[Any]) -> list[str]:
    """Return the credentials that a call is made with, the longest first."""
    client = getattr(model, "_client", None)
    given = [getattr(client, name, None) for name in _OF_CLIENTS]
    given += [getattr(model, "api_key", None)]
    given += [getattr(getattr(client, "base_url", None), "password", None)]
    given += [getattr(settings, name, None) for name in _OF_SETTINGS]
    for tool in tools:
        config = getattr(tool, "tool_config", None)
        if isinstance(config, Mapping):
            given += [config.get(name) for name in _OF_TOOLS]

    found = {part for text in _texts(given) for part in (text, text.rpartition(" ")[2].strip())}
    return sorted((text for text in found if len(text) >= _SHORTEST), key=lambda t: (-len(t), t))


def hide(error: BaseException, secrets: list[str]) -> None:
    """Take credentials out of an exception, its causes, and whatever texts they hold."""
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

        one.args = tuple(_without(value, secrets) for value in one.args)
        attributes = vars(one)
        for name, value in list(attributes.items()):
            attributes[name] = _without(value, secrets)


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
