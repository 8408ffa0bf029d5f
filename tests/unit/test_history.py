from __future__ import annotations

from zlib import crc32

import msgspec
import pytest
from durable_core import _defaults
from durable_core import history as h
from durable_core.exceptions import StoreCorruptError, StoreVersionError
from hypothesis import given
from hypothesis import strategies as st

SMALL = h.Payload(data=b'{"a":1}')
LARGE = h.Payload(data=b'"' + b"x" * _defaults.INLINE_LIMIT + b'"')

START = h.Start(
    namespace="default",
    workflow_id="order-1",
    run_id="run-1",
    workflow_type="Order",
    task_queue="orders",
    time=1.5,
    args=SMALL,
    args_digest="d",
    seed="s",
    effect_scope="run-1",
    lineage="run-1",
    parent=h.Parent(workflow_id="p", run_id="run-0", seq=3, depth=1),
)
FAILURE = h.Failure(
    type="ValueError",
    message="bad",
    state=b"{}",
    cause=h.Failure(type="Declined", kind="application", non_retryable=True, retry_after=1.5),
)
ATTEMPTS = (
    h.Attempt(number=1, outcome="lost", ended=2.0, fence=1),
    h.Attempt(number=2, outcome="failed", started=1.0, ended=2.0, worker="w", failure=FAILURE),
)
EVENTS = (
    h.Taken(worker="1@host", fence=3, python="cpython-3.11", time=9.0),
    h.ActivityCompleted(seq=1, result=SMALL, attempts=ATTEMPTS),
    h.ActivityFailed(seq=2, failure=FAILURE, retry_state=4, attempts=ATTEMPTS),
    h.ActivityCancelled(seq=3),
    h.TimerFired(seq=4),
    h.SignalReceived(name="approve", args=SMALL, request="r", client="me", time=9.5),
    h.UpdateReceived(name="add", args=SMALL, request="u", client="me", time=9.5),
    h.CancelRequested(request="c", reason="late", client="me", time=9.5),
    h.RunTold(seq=6, refused="there is none"),
    h.ChildStarted(seq=8, refused="in use"),
    h.ChildEnded(seq=8, result=SMALL),
    h.ChildEnded(seq=9, failure=FAILURE),
    h.RetryAsked(request="r", activity=2, client="me", time=9.5),
    h.WasPaused(request="p", since=9.0, time=9.5, reason="odd", paused_by="you", client="me"),
    h.RequestAnswered(seq=8, value=SMALL, by="ann", note="fine", client="me", time=9.5),
    h.Rewound(to=3, next_seq=9, reason="again", client="me", time=9.5),
)
COMMANDS = (
    h.ScheduleActivity(
        seq=5, name="charge", args=SMALL, digest="d", key="k", occurrence=2, text=SMALL
    ),
    h.StartTimer(seq=6, delay=1.5, due=11.0, occurrence=3),
    h.CancelActivity(seq=1, wait=True),
    h.CancelTimer(seq=4),
    h.TellRun(seq=6, workflow_id="w", run_id="r", signal="s", args=SMALL, digest="d"),
    h.TellRun(seq=7, workflow_id="w", reason="late", occurrence=2),
    h.StartChild(
        seq=8,
        workflow_id="c",
        run_id="r",
        workflow_type="w",
        task_queue="q",
        args=SMALL,
        digest="d",
        key="c",
        policy="abandon",
        reuse="never",
    ),
    h.AskPeople(seq=8, kind="refund", args=SMALL, digest="d", schema=b"{}", key="k", due=99.0),
    h.RemindPeople(seq=8, number=2),
    h.WithdrawRequest(seq=8, timed_out=True),
    h.AnswerUpdate(request="u", result=SMALL),
    h.AnswerUpdate(request="v", failure=FAILURE),
    h.CompleteRun(result=SMALL),
    h.ContinueRun(run_id="r", workflow_type="w", task_queue="q", args=SMALL, digest="d"),
    h.FailRun(failure=FAILURE, cancelled=True, culprits=(2,)),
    h.TerminateRun(failure=FAILURE, client="me", details=b"[1]"),
    h.UpsertAttributes(
        updates=(
            h.Attribute(name="Customer", kind="Keyword", value="ann"),
            h.Attribute(name="Amount", kind="Int", value=-3),
            h.Attribute(name="Score", kind="Double", value=2.0),
            h.Attribute(name="Open", kind="Bool", value=True),
            h.Attribute(name="Tags", kind="KeywordList", value=("a", "b")),
            h.Attribute(name="Gone", kind="Text"),
        ),
        occurrence=2,
    ),
    h.UpsertMemo(changes=SMALL, digest="d", occurrence=3),
)
ACTIVATION = h.Activation(
    number=7,
    time=10.0,
    fence=3,
    events=EVENTS,
    commands=COMMANDS,
    notes=(h.Note(name="usage", value=b"[1]"),),
)


def pack(record, lineage="run-1"):
    packer = h.Packer(lineage)
    return packer.pack(record), packer.items


def with_fields(data: bytes, **changes: object) -> bytes:
    """Return a packed record as another version of the code would have written it."""
    return sealed(msgspec.msgpack.encode({**msgspec.msgpack.decode(data[:-4]), **changes}))


def sealed(data: bytes) -> bytes:
    """Return the bytes of a record with their checksum."""
    return data + crc32(data).to_bytes(4, "big")


def test_every_kind_of_event_and_command_comes_back_as_it_was():
    data, items = pack(ACTIVATION)

    assert h.activation_from(data) == ACTIVATION
    assert items == {}


def test_start_records_events_and_pending_activities_come_back_as_they_were():
    pending = h.PendingActivity(seq=3, attempts=ATTEMPTS, retry_at=12.5)
    asked = next(c for c in COMMANDS if isinstance(c, h.AskPeople))
    request = h.PendingRequest(asked, reminders=2, reminded=12.5)

    assert h.start_from(pack(START)[0]) == START
    assert h.pending_from(pack(pending)[0]) == pending
    assert h.request_from(pack(request)[0]) == request
    assert [h.event_from(pack(event)[0]) for event in EVENTS] == list(EVENTS)


def test_the_sample_above_has_every_kind_of_event_and_command():
    assert {type(e) for e in EVENTS} == set(h.Event.__args__)
    assert {type(c) for c in COMMANDS} == set(h.Command.__args__)


def test_fields_at_their_default_take_no_room():
    data, _ = pack(h.Activation(number=0, time=0.0, fence=1))

    assert msgspec.msgpack.decode(data[:-4]) == {"number": 0, "time": 0.0, "fence": 1}


LARGE_RECORDS = [
    h.Activation(number=0, time=0.0, fence=1, events=(h.ActivityCompleted(seq=1, result=LARGE),)),
    h.Activation(
        number=0,
        time=0.0,
        fence=1,
        commands=(h.ScheduleActivity(seq=1, name="a", args=LARGE, digest="d", text=LARGE),),
    ),
    h.Activation(number=0, time=0.0, fence=1, commands=(h.CompleteRun(result=LARGE),)),
    h.Activation(
        number=0,
        time=0.0,
        fence=1,
        commands=(h.TellRun(seq=1, workflow_id="w", signal="s", args=LARGE, digest="d"),),
    ),
    h.Activation(
        number=0,
        time=0.0,
        fence=1,
        commands=(
            h.StartChild(
                seq=1,
                workflow_id="c",
                run_id="r",
                workflow_type="w",
                task_queue="q",
                args=LARGE,
                digest="d",
            ),
        ),
    ),
    h.Activation(
        number=0,
        time=0.0,
        fence=1,
        commands=(
            h.ContinueRun(run_id="r", workflow_type="w", task_queue="q", args=LARGE, digest="d"),
        ),
    ),
    h.ChildEnded(seq=1, result=LARGE),
    h.ActivityCompleted(seq=1, result=LARGE),
    h.UpdateReceived(name="add", args=LARGE, request="u"),
    h.AnswerUpdate(request="u", result=LARGE),
    h.RequestAnswered(seq=1, value=LARGE, by="ann"),
    h.PendingRequest(h.AskPeople(seq=1, kind="a", args=LARGE, digest="d", schema=b"{}")),
    msgspec.structs.replace(START, args=LARGE),
    h.Activation(number=0, time=0.0, fence=1, commands=(h.UpsertMemo(changes=LARGE, digest="d"),)),
]


@pytest.mark.parametrize(
    "record",
    LARGE_RECORDS,
    ids=[
        *("result", "arguments", "end", "told", "child", "new run", "end of child", "event"),
        *("update", "answer", "answered", "asked", "input", "memo"),
    ],
)
def test_a_large_payload_leaves_its_record_and_comes_back(record):
    data, items = pack(record)
    decode = {
        h.Activation: h.activation_from,
        h.Start: h.start_from,
        h.AnswerUpdate: h.answer_from,
        h.PendingRequest: h.request_from,
    }.get(type(record), h.event_from)
    read = decode(data)

    assert len(data) < 500
    assert list(items.values()) == [LARGE.data]
    assert set(h.references(read)) == set(items)
    assert h.resolve(read, items) == record


def test_a_payload_at_the_limit_stays_and_one_byte_more_leaves():
    at_limit = h.Payload(data=b"x" * _defaults.INLINE_LIMIT)
    above = h.Payload(data=b"x" * (_defaults.INLINE_LIMIT + 1))

    assert pack(h.CompleteRun(result=at_limit))[1] == {}
    assert len(pack(h.CompleteRun(result=above))[1]) == 1


def test_equal_large_payloads_of_one_lineage_are_one_item():
    packer = h.Packer("run-1")
    packer.pack(h.CompleteRun(result=LARGE))
    packer.pack(h.ActivityCompleted(seq=1, result=LARGE))

    assert len(packer.items) == 1
    assert packer.items.keys() != pack(h.CompleteRun(result=LARGE), "run-2")[1].keys()


def test_the_size_of_what_left_is_known_without_reading_it():
    data, _ = pack(h.ActivityCompleted(seq=1, result=LARGE))

    assert h.event_from(data).result.size == len(LARGE.data)


def test_a_missing_item_is_reported_with_its_address_and_size():
    data, items = pack(h.ActivityCompleted(seq=1, result=LARGE))
    (address,) = items

    with pytest.raises(StoreCorruptError, match=f"{address} of {len(LARGE.data)} bytes is missing"):
        h.resolve(h.event_from(data), {})


@pytest.mark.parametrize(
    ("read", "record"),
    [(h.activation_from, ACTIVATION), (h.start_from, START)],
    ids=["activation", "start"],
)
def test_a_record_of_a_newer_version_is_refused_with_the_remedy(read, record):
    data = with_fields(pack(record)[0], version=2)

    with pytest.raises(
        StoreVersionError, match=r"version 2 .* newer durable-core.* up to 1: upgrade"
    ):
        read(data)


def test_a_field_that_a_later_patch_adds_is_read_over():
    data = with_fields(pack(ACTIVATION)[0], hint="from the future")

    assert h.activation_from(data) == ACTIVATION


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (h.activation_from, "an activation"),
        (h.start_from, "a start record"),
        (h.event_from, "an event"),
        (h.pending_from, "a pending activity"),
        (h.request_from, "a pending request"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"{}", msgspec.msgpack.encode([1, 2])])
def test_bytes_that_are_something_else_are_refused(read, what, data):
    with pytest.raises(StoreCorruptError, match=f"{len(data)} bytes of the store are not {what}"):
        read(data)

    with pytest.raises(StoreCorruptError, match=f"bytes of the store are not {what}: "):
        read(sealed(data))


@given(st.data())
def test_a_record_that_was_cut_is_refused(data):
    packed, _ = pack(ACTIVATION)
    length = data.draw(st.integers(0, len(packed) - 1))

    with pytest.raises(StoreCorruptError):
        h.activation_from(packed[:length])


@given(st.data())
def test_a_flipped_byte_is_always_noticed(data):
    packed = bytearray(pack(ACTIVATION)[0])
    index = data.draw(st.integers(0, len(packed) - 1))
    packed[index] ^= data.draw(st.integers(1, 255))

    with pytest.raises(StoreCorruptError, match=r"damaged.*backup"):
        h.activation_from(bytes(packed))


def test_what_is_packed_whole_refers_to_nothing():
    event = h.SignalReceived(name="take", args=LARGE, request="s")
    data = h.Packer.pack_whole(event)
    assert not h.references(h.event_from(data))
    assert h.event_from(data) == event
