"""What a unit is asked for in words: recorded for readers, and allowed to differ on replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_core.adapter import Items
from durable_core.exceptions import EncodeError
from durable_core.history import Payload

from . import _digest, _json
from ._items import FOUND, MARK, SharedLists

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Texts"]


class Texts:
    """The texts of one run. Lists in them are stored item by item."""

    def __init__(self, lineage: str) -> None:
        self._lists = SharedLists(lineage)

    def completed(self, seq: int, result: Payload) -> None:
        """Note a result, of which later lists may hold parts."""
        self._lists.completed(seq, result.data)

    def record(self, text: Mapping[str, Any], items: dict[str, bytes], *, what: str) -> Payload:
        """Return the record of a text, and put into ``items`` what it refers to."""
        lists: dict[str, Any] = {}
        try:
            for key, value in text.items():
                if isinstance(value, Items):
                    lists[key] = self._lists.encode(value, items, what=what)

            data = _json.encode({**text, **lists}, what=what)
        except EncodeError as error:
            # For readers only, so a part that cannot be recorded must not stop the call. Later
            # lists may extend those that could be.
            data = _json.encode({"not recorded": str(error), **lists}, what=what)

        return Payload(data=data)

    def changes(self, recorded: Payload, text: Mapping[str, Any], *, strict: bool) -> list[str]:
        """Return the keys under which a text is not what was recorded.

        Lists are not looked at unless it is ``strict``: encoding a conversation for every call that
        is replayed would cost as much as having it.
        """
        what = "a recorded text"
        before: dict[str, Any] = _json.decode(recorded.data, dict[str, Any], what=what)
        if strict:
            after = _json.decode(self.record(text, {}, what=what).data, dict[str, Any], what=what)
            return _digest.changed_keys(_without_places(before), _without_places(after))

        for key, value in text.items():
            found = before.get(key)
            if isinstance(value, Items) and isinstance(found, dict) and MARK in found:
                self._lists.replayed(value, before.pop(key))

        small = {k: v for k, v in text.items() if not isinstance(v, Items)}
        try:
            after = _json.decode(_json.encode(small, what=what), dict[str, Any], what=what)
        except EncodeError:
            return []

        return _digest.changed_keys(before, after)


def _without_places(text: dict[str, Any]) -> dict[str, Any]:
    """Return a text without where the items of its lists were found, which is no part of it."""
    return {
        key: {k: v for k, v in value.items() if k != FOUND}
        if isinstance(value, dict) and MARK in value
        else value
        for key, value in text.items()
    }
