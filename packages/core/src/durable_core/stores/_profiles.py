"""What a store keeps of a run's profile: its bytes, and what of it filters look at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from durable_core.exceptions import SearchAttributeError
from durable_core.history import Packer, Profile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_core.history import Attribute, Start

__all__ = ["IndexedValue", "ProfileRow", "clash", "profile_of_start", "profile_row", "words"]

IndexedValue = str | int | float | bool

_WORD = re.compile(r"\w+")


class ProfileRow(msgspec.Struct, frozen=True):
    """What a run shows of itself.

    Attributes:
        namespace: Of the run; a search attribute has one type in it.
        data: Bytes of the `Profile`.
        kinds: Types of its search attributes, by name.
        values: Names and values that filters find it by: a list of texts has one for each, and a
            text for people one for each of its words.
    """

    namespace: str
    data: bytes
    kinds: Sequence[tuple[str, str]]
    values: Sequence[tuple[str, IndexedValue]]


def profile_row(namespace: str, profile: Profile) -> ProfileRow:
    """Return what is to be kept of a profile."""
    return ProfileRow(
        namespace=namespace,
        data=Packer.pack_whole(profile),
        kinds=[(each.name, each.kind) for each in profile.attributes],
        values=[(a.name, value) for a in profile.attributes for value in _indexed(a)],
    )


def profile_of_start(start: Start) -> ProfileRow | None:
    """Return the profile that a run begins with; None if it shows nothing."""
    if not (start.attributes or start.memo_changes or start.summary or start.details):
        return None

    profile = Profile(
        attributes=start.attributes,
        memo=start.memo_changes,
        summary=start.summary,
        details=start.details,
    )
    return profile_row(start.namespace, profile)


def words(text: str) -> list[str]:
    """Return the words of a text, each once, as they are compared: without regard to case."""
    return sorted(set(_WORD.findall(text.casefold())))


def clash(name: str, kind: str, known: str) -> SearchAttributeError:
    """Return what whoever gives an attribute another type than it has is told."""
    return SearchAttributeError(
        f"the search attribute {name!r} is of the type {known}, with which it was first used, and "
        f"not {kind}: use the type that it has, or another name",
        name=name,
    )


def _indexed(attribute: Attribute) -> Sequence[IndexedValue]:
    value = attribute.value
    match attribute.kind, value:
        case _, None:
            return ()
        case "Text", str():
            return words(value)
        case _, tuple():
            return sorted(set(value))
        case _:
            return [value]
