"""Lists that grow, stored item by item (ENGINE R36, DESIGN §7).

A conversation is passed whole to every model call, so recording it whole would grow with the square
of its length. Here each item is stored once, and a list that extends an earlier one of the same
stream is stored as "that one plus these": a node ``{"base": address, "items": [addresses]}``.

The work grows with what is new: an item that equals the kept copy of its predecessor is neither
encoded nor hashed again.

An item that is part of a recorded result is not stored: the descriptor of the list says under
``found`` where each such item of its node is, by its position there; see `_parts`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec

from durable_core.exceptions import EncodeError

from . import _digest, _json
from ._parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from durable_core.adapter import Items

__all__ = ["FOUND", "MARK", "SharedLists", "expand"]

MARK = "$items"
FOUND = "found"


class _Kept(msgspec.Struct):
    node: str
    values: list[Any] = []


class SharedLists:
    """The last list of each stream of one run."""

    def __init__(self, lineage: str) -> None:
        self._lineage = lineage
        self._parts = Parts(lineage)
        self._streams: dict[str, _Kept] = {}
        # Of lists whose nodes are recorded and were not encoded here: node and length of each, and
        # the items of the last.
        self._seen: dict[str, tuple[list[tuple[str, int]], list[Any]]] = {}

    def completed(self, seq: int, result: bytes) -> None:
        """Note a result of which later lists may hold parts; only where there are lists at all."""
        if self._streams or self._seen:
            self._parts.add(seq, result)

    def replayed(self, items: Items, descriptor: dict[str, Any]) -> None:
        """Note a list that is recorded already; what it says today may differ.

        Nothing is encoded: a run that is replayed to its end needs none of it.
        """
        steps = self._seen.get(items.stream, ([], []))[0]
        steps.append((descriptor[MARK], int(descriptor["count"])))
        self._seen[items.stream] = (steps, list(items.values))

    def encode(self, items: Items, out: dict[str, bytes], *, what: str) -> dict[str, Any]:
        """Return the descriptor of a list and put into ``out`` the items that it needs.

        Raises:
            EncodeError: An item has no JSON form.
        """
        if items.stream in self._seen:
            self._catch_up(items.stream)

        kept = self._streams.get(items.stream)
        values = list(items.values)
        shared = 0
        if kept is not None and len(kept.values) <= len(values):
            shared = len(kept.values)
            if any(a != b for a, b in zip(kept.values, values, strict=False)):
                shared = 0

        if kept is None or not shared:
            kept = _Kept(node="")

        found: dict[str, Any] = {}
        if len(values) > shared or not kept.node:
            addresses: list[str] = []
            for i, value in enumerate(values[shared:], shared):
                new: dict[str, bytes] = {}
                address = self._add(value, new, what=f"item {i} of {what}")
                place = self._parts.find(address, value)
                if place is None:
                    out |= new
                else:
                    found[str(len(addresses))] = place

                addresses.append(address)

            node = _json.encode({"base": kept.node, "items": addresses}, what=what)
            kept.node = _digest.address(self._lineage, "list", node)
            out[kept.node] = node
            # A kept copy, since the caller may change its own objects afterwards.
            kept.values.extend(copy.deepcopy(values[shared:]))

        self._streams[items.stream] = kept
        descriptor = {MARK: kept.node, "count": len(values)}
        return {**descriptor, FOUND: found} if found else descriptor

    def _catch_up(self, stream: str) -> None:
        """Find the kept copy that the run had when it was recorded, if it still says the same."""
        steps, values = self._seen.pop(stream)
        kept = _Kept(node="")
        for node, count in steps:
            if node == kept.node and count == len(kept.values):
                continue

            # A list that does not extend the one before it has a node without a base.
            for begin in (kept, _Kept(node="")):
                new = values[len(begin.values) : count]
                if count >= len(begin.values) and self._node(begin.node, new) == node:
                    kept = _Kept(node=node, values=[*begin.values, *copy.deepcopy(new)])
                    break
            else:
                kept = _Kept(node="")

        if kept.node:
            self._streams[stream] = kept

    def _node(self, base: str, values: Sequence[Any]) -> str:
        """Return the address of the node of a list that extends another one."""
        what = "a shared list"
        try:
            addresses = [self._add(value, {}, what=what) for value in values]
        except EncodeError:
            return ""

        node = _json.encode({"base": base, "items": addresses}, what=what)
        return _digest.address(self._lineage, "list", node)

    def _add(self, value: Any, out: dict[str, bytes], *, what: str) -> str:
        data = _json.encode(value, what=what)
        address = _digest.address(self._lineage, "item", data)
        out[address] = data
        return address


def expand(value: Any, fetch: Callable[[Sequence[str]], Mapping[str, bytes]]) -> Any:
    """Return a decoded text with each list descriptor replaced by the list, for readers.

    What descriptors have ``found`` in results is for ``fetch`` to know.

    Args:
        value: JSON's own types.
        fetch: Returns the bytes of items by address.
    """
    if isinstance(value, dict):
        if MARK in value:
            return _read_list(value[MARK], fetch)

        return {k: expand(v, fetch) for k, v in value.items()}

    return [expand(v, fetch) for v in value] if isinstance(value, list) else value


def _read_list(node: str, fetch: Callable[[Sequence[str]], Mapping[str, bytes]]) -> list[Any]:
    runs: list[list[str]] = []
    while node:
        content = _json.decode(fetch([node])[node], dict[str, Any], what="a shared list")
        runs.append(content["items"])
        node = content["base"]

    addresses = [a for run in reversed(runs) for a in run]
    found = fetch(addresses)
    return [_json.decode(found[a], Any, what="a shared item") for a in addresses]
