"""Records ↔ bytes, and payloads ↔ items.

A payload above `_defaults.INLINE_LIMIT` leaves its record and becomes an *item*: a row of its own,
addressed by content within the run's lineage, so that equal content is stored once. Both directions
are synchronous and do no I/O: packing returns the items to write, unpacking takes a way to fetch.

The bytes of a record end with a checksum: SQLite has none, and most bytes of a record are such that
another in their place could be read as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from zlib import crc32

import msgspec

from durable_core import _defaults
from durable_core.exceptions import StoreCorruptError, StoreVersionError
from durable_core.payloads import _digest

from . import _commands as c
from . import _events as e
from . import _parts as p
from . import _records as r

__all__ = [
    "Packer",
    "activation_from",
    "answer_from",
    "event_from",
    "intact",
    "may_refer",
    "pending_from",
    "profile_from",
    "references",
    "request_from",
    "resolve",
    "start_from",
]

VERSION = 1
_CHECKSUM = 4
_encoder = msgspec.msgpack.Encoder()
_activation = msgspec.msgpack.Decoder(r.Activation)
_start = msgspec.msgpack.Decoder(r.Start)
_event: msgspec.msgpack.Decoder[e.Event] = msgspec.msgpack.Decoder(e.Event)
_pending = msgspec.msgpack.Decoder(r.PendingActivity)
_request = msgspec.msgpack.Decoder(r.PendingRequest)
_profile = msgspec.msgpack.Decoder(r.Profile)
_answer = msgspec.msgpack.Decoder(c.AnswerUpdate)

_REF = b"ref"  # how the field is named in bytes that have it

T = TypeVar("T")


class Packer(msgspec.Struct):
    """Turn records into bytes and collect the items that they refer to.

    Attributes:
        lineage: Scope of the content addresses.
        items: Address and bytes of each item seen so far, in order.
    """

    lineage: str
    items: dict[str, bytes] = {}

    def pack(self, record: msgspec.Struct) -> bytes:
        """Return the bytes of a record whose large payloads have become references."""
        data = _encoder.encode(record)
        if len(data) > _defaults.INLINE_LIMIT:
            # In a smaller one every payload is small.
            data = _encoder.encode(_map_payloads(record, self._shrink))

        return data + crc32(data).to_bytes(_CHECKSUM, "big")

    @staticmethod
    def pack_whole(record: msgspec.Struct) -> bytes:
        """Return the bytes of a record with all its payloads, for whoever has not its items."""
        data = _encoder.encode(record)
        return data + crc32(data).to_bytes(_CHECKSUM, "big")

    def add(self, data: bytes, role: str) -> str:
        """Add an item and return its address."""
        key = _digest.address(self.lineage, role, data)
        self.items.setdefault(key, data)
        return key

    def _shrink(self, payload: p.Payload) -> p.Payload:
        if len(payload.data) <= _defaults.INLINE_LIMIT:
            return payload

        return p.Payload(
            ref=self.add(payload.data, "payload"), size=len(payload.data), codec=payload.codec
        )


def activation_from(data: bytes) -> r.Activation:
    """Return the activation that these bytes hold; payloads may be references.

    Raises:
        StoreCorruptError: The bytes are not an activation.
        StoreVersionError: A newer durable-core wrote it.
    """
    return _checked(_decode(_activation, data, "an activation"))


def start_from(data: bytes) -> r.Start:
    """Return the start record that these bytes hold.

    Raises:
        StoreCorruptError: The bytes are not a start record.
        StoreVersionError: A newer durable-core wrote it.
    """
    return _checked(_decode(_start, data, "a start record"))


def event_from(data: bytes) -> e.Event:
    """Return the event that these bytes hold.

    Raises:
        StoreCorruptError: The bytes are not an event.
    """
    return _decode(_event, data, "an event")


def pending_from(data: bytes) -> r.PendingActivity:
    """Return the pending activity that these bytes hold.

    Raises:
        StoreCorruptError: The bytes are not a pending activity.
    """
    return _decode(_pending, data, "a pending activity")


def request_from(data: bytes) -> r.PendingRequest:
    """Return the pending request that these bytes hold; the question may be a reference.

    Raises:
        StoreCorruptError: The bytes are not a pending request.
    """
    return _decode(_request, data, "a pending request")


def profile_from(data: bytes) -> r.Profile:
    """Return the profile that these bytes hold.

    Raises:
        StoreCorruptError: The bytes are not a profile.
    """
    return _decode(_profile, data, "a profile")


def answer_from(data: bytes) -> c.AnswerUpdate:
    """Return the answer of an update that these bytes hold.

    Raises:
        StoreCorruptError: The bytes are not an answer.
    """
    return _decode(_answer, data, "an answer")


def may_refer(data: bytes) -> bool:
    """Return whether the record that these bytes hold may refer to items; no need to decode it."""
    return _REF in data


def references(record: msgspec.Struct) -> list[str]:
    """Return the addresses of the items that a record refers to."""
    found: list[str] = []

    def collect(payload: p.Payload) -> p.Payload:
        if payload.ref:
            found.append(payload.ref)

        return payload

    _map_payloads(record, collect)
    return found


def intact(items: Iterable[tuple[str, bytes]], lineage: str) -> dict[str, bytes]:
    """Return items by address.

    Raises:
        StoreCorruptError: One of them is not what its address was made of.
    """
    found = dict(items)
    for address, data in found.items():
        if not _digest.is_address(address, lineage, data):
            raise StoreCorruptError(
                f"the item {address} of {len(data)} bytes is not as it was written, so the file "
                "was damaged. Restore it from a backup"
            )

    return found


def resolve(record: T, items: dict[str, bytes]) -> T:
    """Return the record with every referenced payload in place.

    Raises:
        StoreCorruptError: An item is missing.
    """

    def fetch(payload: p.Payload) -> p.Payload:
        if not payload.ref:
            return payload

        if payload.ref not in items:
            raise StoreCorruptError(
                f"the item {payload.ref} of {payload.size} bytes is missing from the store"
            )

        return p.Payload(data=items[payload.ref], codec=payload.codec)

    resolved: T = _map_payloads(record, fetch)
    return resolved


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes, what: str) -> T:
    record = memoryview(data)[:-_CHECKSUM]
    if crc32(record).to_bytes(_CHECKSUM, "big") != data[-_CHECKSUM:]:
        raise StoreCorruptError(
            f"{len(data)} bytes of the store are not {what} as it was written: their checksum "
            "differs, so the file was damaged. Restore it from a backup"
        )

    try:
        return decoder.decode(record)
    except (msgspec.MsgspecError, ValueError) as error:  # a text may hold broken UTF-8
        raise StoreCorruptError(
            f"{len(data)} bytes of the store are not {what}: {error}"
        ) from error


def _checked(record: T) -> T:
    version: int = getattr(record, "version", VERSION)
    if version > VERSION:
        raise StoreVersionError(
            f"a record of version {version} was written by a newer durable-core; this one reads up "
            f"to {VERSION}: upgrade it"
        )

    return record


def _map_payloads(record: Any, change: Callable[[p.Payload], p.Payload]) -> Any:
    """Return a record with each payload changed; the same object if none did.

    Written out by type: this runs once per record, and a walk over every field would cost more than
    the encoding.
    """
    match record:
        case r.Activation():
            events = tuple(_map_payloads(e, change) for e in record.events)
            commands = tuple(_map_payloads(c, change) for c in record.commands)
            if all(map(_is, events, record.events)) and all(map(_is, commands, record.commands)):
                return record

            return msgspec.structs.replace(record, events=events, commands=commands)
        case e.ActivityCompleted() | c.CompleteRun():
            result = change(record.result)
            return (
                record
                if result is record.result
                else msgspec.structs.replace(record, result=result)
            )
        case c.ScheduleActivity():
            args, text = change(record.args), record.text and change(record.text)
            if args is record.args and text is record.text:
                return record

            return msgspec.structs.replace(record, args=args, text=text)
        case c.AnswerUpdate() | e.ChildEnded():
            if record.result is None or (given := change(record.result)) is record.result:
                return record

            return msgspec.structs.replace(record, result=given)
        case (
            e.SignalReceived()
            | e.UpdateReceived()
            | c.TellRun()
            | c.StartChild()
            | c.ContinueRun()
            | c.AskPeople()
        ):
            args = change(record.args)
            return record if args is record.args else msgspec.structs.replace(record, args=args)
        case e.RequestAnswered():
            value = change(record.value)
            return record if value is record.value else msgspec.structs.replace(record, value=value)
        case r.PendingRequest():
            asked = _map_payloads(record.asked, change)
            return record if asked is record.asked else msgspec.structs.replace(record, asked=asked)
        case c.UpsertMemo():
            changes = change(record.changes)
            return (
                record
                if changes is record.changes
                else msgspec.structs.replace(record, changes=changes)
            )
        case r.Start():
            args, memo = change(record.args), record.memo and change(record.memo)
            if args is record.args and memo is record.memo:
                return record

            return msgspec.structs.replace(record, args=args, memo=memo)
        case _:
            return record


def _is(a: object, b: object) -> bool:
    return a is b
