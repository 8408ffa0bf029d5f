"""What a run shows of itself: search attributes, memo, and details for people.

Changes of attributes and memo are commands: a replay must ask for the same. What the run says for
people (`current_details`) is a note, since words must not stop a run from continuing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from durable_core import _defaults
from durable_core._search_attributes import (
    Recorded,
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
    check_total,
    key_of,
    lifted,
    lowered,
)
from durable_core.exceptions import CallError, EncodeError, SearchAttributeError
from durable_core.history import Attribute, Payload, UpsertAttributes, UpsertMemo, describe
from durable_core.history import Profile as Record
from durable_core.payloads import _digest, _json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from durable_core.history import Start

    from ._commands import Commands

__all__ = ["DETAILS", "Profile", "check_memo", "check_words", "memo_parts", "removes", "typed"]

DETAILS = "details"
"""Name of the notes that hold what a run says of itself."""

_WHAT = "the memo"
_raw_values = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Profile:
    """What one run shows of itself, as its code has left it.

    Attributes:
        attributes: Its search attributes, by name.
        current_details: What it says of itself, for people.
    """

    def __init__(self, start: Start, commands: Commands, check: Callable[[], None]) -> None:
        self.attributes = {each.name: each for each in start.attributes}
        self.current_details = ""
        self._start = start
        self._commands = commands
        self._check = check
        # Also of those that were taken away.
        self._kinds = {each.name: each.kind for each in start.attributes}
        self._memo = {} if start.memo is None else memo_parts(start.memo.data)
        self._changes: dict[str, bytes] = {}
        self._change(start.memo_changes)
        self._upserts = {UpsertAttributes: 0, UpsertMemo: 0}
        self._typed: TypedSearchAttributes | None = None

    @property
    def typed(self) -> TypedSearchAttributes:
        """Its search attributes, with their values in Python."""
        if self._typed is None:
            self._typed = typed(self.attributes.values())

        return self._typed

    def memo(self) -> Mapping[str, Any]:
        """Return the memo, its values as JSON has them."""
        return {k: _json.decode_untyped(data, what=_WHAT) for k, data in self._memo.items()}

    def memo_value(self, key: str, type_hint: Any) -> Any:
        """Return one value of the memo.

        Raises:
            KeyError: There is none.
            DecodeError: It does not fit the type.
        """
        data = self._memo[key]
        if type_hint is None:
            return _json.decode_untyped(data, what=_WHAT)

        return _json.decode(data, type_hint, what=f"{key!r} of the memo")

    def set_current_details(self, details: str) -> None:
        """Say something for people.

        Raises:
            CallError: It is too long, or no text.
        """
        self._check()
        check_words(details, "the current details", _defaults.DETAILS)
        if details != self.current_details:
            self.current_details = details
            self._commands.annotate(DETAILS, details)

    def upsert_attributes(self, updates: object) -> None:
        """Set search attributes, or take them away.

        Raises:
            SearchAttributeError: One of them cannot be kept; none is changed then.
        """
        self._check()
        changes = self._attributes_of(updates)
        after = {**self.attributes, **{each.name: each for each in changes}}
        after = {name: each for name, each in after.items() if each.value is not None}
        check_total({n: (a.kind, cast("Recorded", a.value)) for n, a in after.items()})
        if not changes:
            return

        command = UpsertAttributes(updates=changes, occurrence=self._count(UpsertAttributes))
        found = cast("UpsertAttributes", self._commands.issue(command))
        if found.updates != changes:
            assert self._commands.expected is not None
            what = describe(found)
            named = next(
                (b.name for a, b in zip(found.updates, changes, strict=False) if a != b), ""
            )
            raise self._commands.expected.error(
                f"{what} with the recorded ones",
                f"{describe(command)} with others",
                path=named or "their number",
            )

        self.attributes = after
        self._kinds.update({each.name: each.kind for each in changes})
        self._typed = None

    def _attributes_of(self, updates: object) -> tuple[Attribute, ...]:
        given = updates if isinstance(updates, Sequence) else [updates]
        found: list[Attribute] = []
        for each in cast("Sequence[Any]", given):
            if not isinstance(each, SearchAttributeUpdate):
                raise SearchAttributeError(
                    f"search attributes are changed by a list of updates, got {updates!r}: pass "
                    "[key.value_set(value)] or [key.value_unset()]"
                )

            key: SearchAttributeKey[Any] = each.key
            kind, name = key.indexed_value_type.kind, key.name
            value = None if each.value is None else lowered(key, each.value)
            known = self._kinds.get(name, kind)
            if known != kind:
                raise SearchAttributeError(
                    f"the search attribute {name!r} is of the type {known} in this run, and not "
                    f"{kind}: use the type that it has, or another name",
                    name=name,
                )

            found.append(Attribute(name=name, kind=kind, value=value))

        return tuple(found)

    def upsert_memo(self, updates: Mapping[str, Any]) -> None:
        """Change the memo; None takes a key away.

        Raises:
            CallError: The changes of this run are too large.
            EncodeError: A value cannot be recorded.
        """
        self._check()
        check_memo(updates)
        if not updates:
            return

        args = (dict(updates),)
        digest = _digest.digest(args, what=_WHAT)
        data = _json.encode(args, what=_WHAT)
        changes = {**self._changes, **_parts_of(data)}
        if (
            size := sum(len(k.encode()) + len(part) for k, part in changes.items())
        ) > _defaults.MEMO_CHANGES:
            raise CallError(
                f"what a run changes in its memo may take {_defaults.MEMO_CHANGES} bytes, got "
                f"{size}: keep what is larger in a store of your own, and its name in the memo"
            )

        occurrence = self._count(UpsertMemo)
        command = UpsertMemo(changes=Payload(data=data), digest=digest, occurrence=occurrence)
        found = cast("UpsertMemo", self._commands.issue(command))
        if found.digest != digest:
            assert self._commands.expected is not None
            path = _digest.difference(found.changes.data, args, (), what=_WHAT)
            if path is not None:
                what = describe(command)
                raise self._commands.expected.error(
                    f"{what} with the recorded values", f"{what} with others", path=path
                )

        self._change(_parts_of(found.changes.data))

    def _change(self, changes: Mapping[str, bytes]) -> None:
        for key, part in changes.items():
            self._changes[key] = part
            if removes(part):
                self._memo.pop(key, None)
            else:
                self._memo[key] = part

    def record(self) -> Record:
        """Return what is to be kept beside its history."""
        return Record(
            attributes=tuple(self.attributes[name] for name in sorted(self.attributes)),
            memo=dict(self._changes),
            summary=self._start.summary,
            details=self._start.details,
            current_details=self.current_details,
        )

    def _count(self, kind: type[UpsertAttributes | UpsertMemo]) -> int:
        self._upserts[kind] += 1
        return self._upserts[kind]


def typed(attributes: Iterable[Attribute]) -> TypedSearchAttributes:
    """Return recorded search attributes with their values in Python."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(key_of(each.name, each.kind), lifted(each.kind, each.value))
            for each in attributes
            if each.value is not None
        ]
    )


def memo_parts(data: bytes) -> dict[str, bytes]:
    """Return the values of a memo, each as JSON."""
    if data.startswith(_json.TAGGED):
        whole: dict[str, Any] = json.loads(data[1:])
        return {key: _json.TAGGED + json.dumps(value).encode() for key, value in whole.items()}

    return {key: bytes(raw) for key, raw in _raw_values.decode(data).items()}


def removes(part: bytes) -> bool:
    """Return whether a change of a value takes it away."""
    return part.removeprefix(_json.TAGGED) == b"null"


def check_memo(memo: object) -> None:
    """Check that a memo is a mapping by texts.

    Raises:
        EncodeError: It is not.
    """
    if not isinstance(memo, Mapping) or not all(isinstance(key, str) for key in memo):
        raise EncodeError(f"a memo is a mapping of values by str, got {memo!r}")


def check_words(words: object, what: str, longest: int) -> None:
    """Check what is said for people.

    Raises:
        CallError: It is no text, or too long.
    """
    if not isinstance(words, str):
        raise CallError(f"{what} of a run is a str, got {words!r}")

    if len(words) > longest:
        raise CallError(
            f"{what} of a run may have {longest} characters, got {len(words)}: shorten it"
        )

    try:
        words.encode()
    except UnicodeEncodeError as error:
        raise CallError(f"{what} of a run is written as UTF-8: {error}") from error


def _parts_of(data: bytes) -> dict[str, bytes]:
    """Return the values of recorded changes."""
    return memo_parts(_json.split(data)[0])
