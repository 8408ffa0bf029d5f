"""Lists that grow, stored item by item (ENGINE R36, DESIGN §7).

A conversation is passed whole to every model call, so recording it whole would grow with the square
of its length. Here each item is stored once, and a list that extends an earlier one of the same
stream is stored as "that one plus these": a node ``{"base": address, "items": [addresses]}``.

The work grows with what is new: an item that equals the kept copy of its predecessor is neither
encoded nor hashed again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import _digest, _json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from durable_core.adapter import Items

__all__ = ["MARK", "SharedLists", "expand", "without_lists"]

MARK = "$items"


@dataclass(slots=True)
class _Kept:
    node: str
    values: list[Any] = field(default_factory=list[Any])


class SharedLists:
    """The last list of each stream of one run."""

    def __init__(self, lineage: str) -> None:
        self._lineage = lineage
        self._streams: dict[str, _Kept] = {}

    def encode(self, items: Items, out: dict[str, bytes], *, what: str) -> dict[str, Any]:
        """Return the descriptor of a list and put into ``out`` the items that it needs.

        Raises:
            EncodeError: An item has no JSON form.
        """
        kept = self._streams.get(items.stream)
        values = list(items.values)
        shared = 0
        if kept is not None and len(kept.values) <= len(values):
            shared = len(kept.values)
            if any(a != b for a, b in zip(kept.values, values, strict=False)):
                shared = 0

        if kept is None or not shared:
            kept = _Kept(node="")

        if len(values) > shared or not kept.node:
            addresses = [
                self._add(v, out, what=f"item {i} of {what}")
                for i, v in enumerate(values[shared:], shared)
            ]
            node = _json.encode({"base": kept.node, "items": addresses}, what=what)
            kept.node = _digest.address(self._lineage, "list", node)
            out[kept.node] = node
            # A kept copy, since the caller may change its own objects afterwards.
            kept.values.extend(copy.deepcopy(values[shared:]))

        self._streams[items.stream] = kept
        return {MARK: kept.node, "count": len(values)}

    def _add(self, value: Any, out: dict[str, bytes], *, what: str) -> str:
        data = _json.encode(value, what=what)
        address = _digest.address(self._lineage, "item", data)
        out[address] = data
        return address


def expand(value: Any, fetch: Callable[[Sequence[str]], Mapping[str, bytes]]) -> Any:
    """Return a decoded text with each list descriptor replaced by the list, for readers.

    Args:
        value: JSON's own types.
        fetch: Returns the bytes of items by address.
    """
    if isinstance(value, dict):
        if MARK in value:
            return _read_list(value[MARK], fetch)

        return {k: expand(v, fetch) for k, v in value.items()}

    return [expand(v, fetch) for v in value] if isinstance(value, list) else value


def without_lists(text: bytes) -> bytes:
    """Return the JSON of a recorded text without the parts that are lists of items."""
    if MARK.encode() not in text:
        return text

    parts = _json.decode(text, dict[str, Any], what="a recorded text")
    return _json.encode(
        {k: v for k, v in parts.items() if not (isinstance(v, dict) and MARK in v)},
        what="a recorded text",
    )


def _read_list(node: str, fetch: Callable[[Sequence[str]], Mapping[str, bytes]]) -> list[Any]:
    runs: list[list[str]] = []
    while node:
        content = _json.decode(fetch([node])[node], dict[str, Any], what="a shared list")
        runs.append(content["items"])
        node = content["base"]

    addresses = [a for run in reversed(runs) for a in run]
    found = fetch(addresses)
    return [_json.decode(found[a], Any, what="a shared item") for a in addresses]
