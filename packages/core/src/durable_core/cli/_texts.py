"""Texts of activities whose lists are stored item by item, such as the conversation of an agent."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from durable_core.history import ActivityCompleted
from durable_core.payloads import _json
from durable_core.payloads._items import FOUND, MARK
from durable_core.payloads._parts import part_at

from . import _format

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from durable_core.client import Client, WorkflowHistory

__all__ = ["read_items", "with_new_items"]


async def read_items(client: Client, history: WorkflowHistory) -> dict[str, Any]:
    """Return every item that the texts of a run refer to, decoded, by its address.

    A node, ``{"base": address, "items": [addresses]}``, is an item as well.
    """
    found: dict[str, Any] = {}
    lineage = history.start.lineage
    texts = [entry.text for entry in history.timeline() if entry.text is not None]
    descriptors = [descriptor for text in texts for descriptor in _descriptors(text)]
    wanted = list(dict.fromkeys(descriptor[MARK] for descriptor in descriptors))
    while wanted:
        read = await client.store.read_items(lineage, wanted)
        nodes = {a: _json.decode(data, Any, what="a shared list") for a, data in read.items()}
        found |= nodes
        items = [a for node in nodes.values() for a in node["items"] if a not in found]
        for address, data in (await client.store.read_items(lineage, items)).items():
            found[address] = _json.decode(data, Any, what="a shared item")

        bases = dict.fromkeys(node["base"] for node in nodes.values())
        wanted = [base for base in bases if base and base not in found]

    results = _results(history)
    for descriptor in descriptors:
        for i, place in descriptor.get(FOUND, {}).items():
            with suppress(LookupError):  # of a history that is not whole
                found[found[descriptor[MARK]]["items"][int(i)]] = part_at(place, results)

    return found


def with_new_items(text: Any, items: Mapping[str, Any]) -> Any:
    """Return a text with each list's latest items in place, and how many came before them."""
    if isinstance(text, list):
        return [with_new_items(part, items) for part in text]

    if not isinstance(text, dict):
        return text

    if MARK not in text:
        return {name: with_new_items(part, items) for name, part in text.items()}

    addresses = items.get(text[MARK], {"items": []})["items"]
    new = [items[address] for address in addresses if address in items]
    before = int(text.get("count", len(new))) - len(new)
    if before > 0:
        return [f"({_format.count(before, 'earlier item')})", *new]

    return new


def _results(history: WorkflowHistory) -> dict[int, Any]:
    """Return what the activities of a run returned, also those that were set aside."""
    events = [event for activation in history.activations for event in activation.events]
    return {
        event.seq: _json.decode(event.result.data, Any, what="a result")
        for event in events
        if isinstance(event, ActivityCompleted)
    }


def _descriptors(text: Any) -> Iterator[dict[str, Any]]:
    if isinstance(text, dict):
        if MARK in text:
            yield text
        else:
            for part in text.values():
                yield from _descriptors(part)
    elif isinstance(text, list):
        for part in text:
            yield from _descriptors(part)
