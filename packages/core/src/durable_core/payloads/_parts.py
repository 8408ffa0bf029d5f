"""Parts of results that lists hold again, so that they need not be stored twice.

What a model answered is recorded as the result of its activity, and is an item of the conversation
that the next call passes; what a tool returned is a field of such an item. A *place* says where it
is: ``{"of": [7, "output", 0]}`` is the first element of ``output`` in the result of activity 7, and
``{"of": [8, "output"], "as": "output", "in": {…}}`` is a mapping with such a part as one value.

Invariant: a place is a fact about one run. It is kept in the record of that run and never in an
item, which runs of one lineage share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_core.exceptions import EncodeError

from . import _digest, _json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Parts", "part_at"]

_LEAST = 100  # bytes below which a place costs as much as what it stands for


class Parts:
    """Where the parts of the results of one run are, by their content."""

    def __init__(self, lineage: str) -> None:
        self._lineage = lineage
        # By content and not by identity, since code may change what it was given.
        self._places: dict[str, list[Any]] = {}

    def add(self, seq: int, data: bytes) -> None:
        """Note the parts of the result of an activity: texts, and elements of lists."""
        if len(data) < _LEAST or data[:1] != b"{":
            return

        for name, value in _json.decode(data, Any, what="a result").items():
            if isinstance(value, str):
                self._note(value, [seq, name])
            elif isinstance(value, list):
                for i, part in enumerate(value):
                    self._note(part, [seq, name, i])

    def find(self, address: str, value: Any) -> dict[str, Any] | None:
        """Return the place of an item, if it was part of a result."""
        if not self._places:
            return None

        if address in self._places:
            return {"of": self._places[address]}

        if isinstance(value, dict):
            for name, part in value.items():
                if isinstance(part, str) and len(part) >= _LEAST:
                    place = self._places.get(self._address(part))
                    if place is not None:
                        return {"of": place, "as": name, "in": {**value, name: None}}

        return None

    def _note(self, part: Any, place: list[Any]) -> None:
        if isinstance(part, dict) or (isinstance(part, str) and len(part) >= _LEAST):
            self._places.setdefault(self._address(part), place)

    def _address(self, part: Any) -> str:
        try:
            return _digest.address(self._lineage, "item", _json.encode(part, what="a part"))
        except EncodeError:
            return ""


def part_at(place: Mapping[str, Any], results: Mapping[int, Any]) -> Any:
    """Return what is at a place, for readers; raises `LookupError` if nothing is.

    Args:
        place: As `Parts.find` made it.
        results: Decoded results by the number of their activity.
    """
    seq, *path = place["of"]
    found = results[seq]
    for step in path:
        found = found[step]

    return {**place["in"], place["as"]: found} if "as" in place else found
