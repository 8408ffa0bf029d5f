"""Profiles of runs in a group commit, and the types of their search attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from durable_core.stores._profiles import clash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import apsw

    from durable_core.stores._profiles import ProfileRow

__all__ = ["put", "refused"]

_encoder = msgspec.json.Encoder()


def refused(
    connection: apsw.Connection, sql: Mapping[str, str], profiles: Sequence[tuple[int, ProfileRow]]
) -> dict[int, Exception]:
    """Return why members of a batch are refused whose attributes have other types, by member.

    A name gets the type of the first member that uses it. If that one drops out for another reason,
    a later one of the same batch is refused for nothing, and may try again.
    """
    asked = {(row.namespace, name) for _, row in profiles for name, _ in row.kinds}
    if not asked:
        return {}

    rows: Any = connection.execute(sql["known_kinds"], (_json(sorted(asked)),))
    known: dict[tuple[str, str], str] = {(space, name): kind for space, name, kind in rows}
    found: dict[int, Exception] = {}
    for member, row in profiles:
        named = {(row.namespace, name): kind for name, kind in row.kinds}
        for key, kind in named.items():
            if known.get(key, kind) != kind:
                found[member] = clash(key[1], kind, known[key])
                break
        else:
            known.update(named)

    return found


def put(
    connection: apsw.Connection, sql: Mapping[str, str], profiles: Sequence[tuple[str, ProfileRow]]
) -> None:
    """Write the profiles of runs that are there, in the place of those before."""
    if not profiles:
        return

    kinds = [[row.namespace, *each] for _, row in profiles for each in row.kinds]
    if kinds:
        connection.execute(sql["put_kinds"], (_json(kinds),))

    shown: list[list[Any]] = []
    blobs: list[bytes] = []
    size = 0
    for run, row in profiles:
        shown.append([run, size, len(row.data)])
        blobs.append(row.data)
        size += len(row.data)

    connection.execute(sql["put_profiles"], (_json(shown), b"".join(blobs)))
    connection.execute(sql["drop_attributes"], (_json([run for run, _ in profiles]),))
    values = [[run, *each] for run, row in profiles for each in row.values]
    if values:
        connection.execute(sql["put_attributes"], (_json(values),))


def _json(rows: Sequence[Any]) -> str:
    return _encoder.encode(rows).decode()
