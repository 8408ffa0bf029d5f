from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta

import msgspec
import pytest
from durable_core import _codecs, adapter
from durable_core import exceptions as ex
from durable_core.history import Failure
from durable_core.payloads._failures import Registry, qualified_name


class DeclinedError(Exception):
    """An exception of a module that registered workflows or activities come from."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason, code)
        self.reason = reason
        self.code = code


class Outer:
    class InnerError(ValueError):
        pass


class LiveError(Exception):
    def __init__(self, client: object) -> None:
        super().__init__("the client failed")
        self.client = client


class TupleError(Exception):
    pass


class BrokenTextError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@dataclass
class LimitError(Exception):
    limit: int
    used: int


class ApiError(Exception):
    def __init__(self, status: int, *, body: object) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body


class NotFoundApiError(ApiError):
    def __init__(self, what: str) -> None:
        super().__init__(404, body=what)


@pytest.fixture
def registry():
    registry = Registry()
    registry.allow_module(__name__)
    return registry


@pytest.fixture
def _api_error_registered(monkeypatch):
    monkeypatch.setattr(_codecs, "exception_codecs", dict(_codecs.exception_codecs))
    monkeypatch.setattr(
        "durable_core.payloads._failures.exception_codecs", _codecs.exception_codecs
    )
    adapter.register_exception(
        adapter.ExceptionCodec(
            cls=ApiError,
            to_state=lambda error: {"status": error.status, "body": error.body},
            from_state=lambda state: ApiError(state["status"], body=state["body"]),
        )
    )


def through_bytes(failure: Failure) -> Failure:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure)


def again(registry: Registry, error: BaseException) -> BaseException:
    return registry.rebuild(through_bytes(registry.record(error)))


def raised(error: BaseException, *, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


# Our own


def test_an_application_error_comes_back_with_all_that_it_says(registry):
    error = ex.ApplicationError(
        "no money",
        {"missing": 3},
        [1],
        type="Declined",
        non_retryable=True,
        next_retry_delay=timedelta(seconds=1.5),
    )

    back = again(registry, error)

    assert type(back) is ex.ApplicationError
    assert (back.message, str(back)) == ("no money", "no money")
    assert back.details == ({"missing": 3}, [1])
    assert back.type == "Declined"
    assert back.non_retryable
    assert back.next_retry_delay == timedelta(seconds=1.5)


def test_details_that_cannot_be_recorded_come_back_as_their_text(registry):
    back = again(registry, ex.ApplicationError("x", object()))

    assert back.details[0].startswith("<object object at")


@pytest.mark.parametrize(
    "error",
    [
        ex.CancelledError("stop"),
        ex.TerminatedError("gone"),
        ex.TimeoutError("late", type=ex.TimeoutType.START_TO_CLOSE),
        ex.TimeoutError("late"),
    ],
    ids=repr,
)
def test_our_other_failures_come_back_as_themselves(registry, error):
    back = again(registry, error)

    assert type(back) is type(error)
    assert str(back) == str(error)
    assert getattr(back, "type", None) == getattr(error, "type", None)


def test_an_activity_error_comes_back_with_its_facts_and_its_cause(registry):
    error = raised(
        ex.ActivityError(
            "activity 'pay' failed",
            activity_type="pay",
            activity_id="3",
            attempts=4,
            retry_state=ex.RetryState.MAXIMUM_ATTEMPTS_REACHED,
        ),
        cause=ValueError("bad card"),
    )

    back = again(registry, error)

    assert type(back) is ex.ActivityError
    assert (back.activity_type, back.activity_id, back.attempts) == ("pay", "3", 4)
    assert back.retry_state is ex.RetryState.MAXIMUM_ATTEMPTS_REACHED
    assert repr(back.cause) == "ValueError('bad card')"


def test_asyncios_cancellation_becomes_our_cancellation(registry):
    assert type(again(registry, asyncio.CancelledError())) is ex.CancelledError


@pytest.mark.parametrize(
    "error",
    [
        ex.EncodeError("cannot be recorded"),
        ex.NotRegisteredError("no activity"),
        ex.StoreReadOnlyError("read only"),
        ex.WorkflowNotFoundError("no run"),
        ex.WorkflowAlreadyStartedError("open", workflow_id="w", run_id="r"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_our_other_exceptions_come_back_as_themselves(error):
    back = again(Registry(), error)

    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


# Others


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        KeyError("k"),
        ZeroDivisionError(),
        TimeoutError("late"),
        ConnectionResetError(104, "reset"),
        RuntimeError("a", 1, None, [2.5]),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    ],
    ids=repr,
)
def test_a_builtin_comes_back_as_itself(error):
    back = again(Registry(), error)

    assert type(back) is type(error)
    assert (back.args, str(back)) == (error.args, str(error))


def test_a_class_of_a_known_module_comes_back_with_its_arguments_and_attributes(registry):
    back = again(registry, DeclinedError("limit", 51))

    assert type(back) is DeclinedError
    assert (back.reason, back.code, back.args) == ("limit", 51, ("limit", 51))


def test_a_nested_class_of_a_known_module_comes_back(registry):
    assert type(again(registry, Outer.InnerError("x"))) is Outer.InnerError


def test_a_class_of_an_unknown_module_becomes_an_application_error_that_names_it():
    back = again(Registry(), DeclinedError("limit"))

    assert type(back) is ex.ApplicationError
    assert back.type == f"{__name__}.DeclinedError"
    assert str(back) == str(DeclinedError("limit"))


def test_nothing_is_imported_to_rebuild_an_exception(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    back = Registry().rebuild(
        Failure(type="colorsys.NoSuchError", message="x", state=b'{"args":[]}')
    )

    assert back.type == "colorsys.NoSuchError"
    assert "colorsys" not in sys.modules


@pytest.mark.parametrize("name", ["open", "print", "object", "no.such", "", "..", "builtins"])
def test_a_record_that_names_no_exception_class_becomes_an_application_error(name):
    back = Registry().rebuild(Failure(type=name, message="x", state=b'{"args":["x"]}'))

    assert type(back) is ex.ApplicationError


def test_a_class_defined_inside_a_function_becomes_an_application_error(registry):
    class LocalError(Exception):
        pass

    back = again(registry, LocalError("x"))

    assert type(back) is ex.ApplicationError
    assert "LocalError" in back.type


def test_an_exception_that_holds_a_live_object_becomes_an_application_error(registry):
    back = again(registry, LiveError(object()))

    assert type(back) is ex.ApplicationError
    assert back.type == f"{__name__}.LiveError"
    assert str(back) == "the client failed"


def test_a_tuple_among_the_arguments_comes_back_as_a_tuple(registry):
    back = again(registry, TupleError((1, 2)))

    assert (type(back), back.args) == (TupleError, ((1, 2),))


def test_a_dataclass_comes_back_by_its_fields(registry):
    back = again(registry, LimitError(limit=3, used=4))

    assert type(back) is LimitError
    assert (back.limit, back.used) == (3, 4)


@pytest.mark.usefixtures("_api_error_registered")
def test_a_registered_class_comes_back_by_its_own_functions():
    back = again(Registry(), ApiError(503, body={"a": [1]}))

    assert type(back) is ApiError
    assert (back.status, back.body, str(back)) == (503, {"a": [1]}, "status 503")


@pytest.mark.usefixtures("_api_error_registered")
def test_a_subclass_of_a_registered_class_comes_back_as_that_class():
    back = again(Registry(), NotFoundApiError("page"))

    assert isinstance(back, ApiError)
    assert (back.status, back.body) == (404, "page")


@pytest.mark.usefixtures("_api_error_registered")
def test_a_registered_class_whose_state_cannot_be_recorded_keeps_its_name_and_text():
    back = again(Registry(), ApiError(503, body=object()))

    assert type(back) is ex.ApplicationError
    assert back.type == f"{__name__}.ApiError"


def test_a_class_that_cannot_be_built_any_more_does_not_hide_its_failure(registry):
    record = registry.record(LimitError(limit=3, used=4))
    changed = msgspec.structs.replace(record, state=b'{"args":1}')

    back = registry.rebuild(changed)

    assert type(back) is ex.ApplicationError
    assert "not rebuilt" in str(back)
    assert back.type == f"{__name__}.LimitError"


def test_an_exception_without_a_text_is_recorded_all_the_same(registry):
    failure = registry.record(BrokenTextError())

    assert "no text" in failure.message


# What goes with it


def test_causes_are_kept_to_any_depth(registry):
    deepest = raised(KeyError("k"))
    middle = raised(DeclinedError("limit"), cause=deepest)
    top = raised(ex.ApplicationError("top"), cause=middle)

    back = again(registry, top)

    assert type(back.__cause__) is DeclinedError
    assert type(back.__cause__.__cause__) is KeyError
    assert back.__cause__.__cause__.__cause__ is None
    assert back.cause is back.__cause__


def test_the_record_holds_the_traceback_for_people(registry):
    failure = registry.record(raised(ValueError("bad")))

    assert "Traceback" in failure.stack
    assert __file__ in failure.stack


def test_a_long_traceback_is_cut_at_its_beginning(registry):
    failure = registry.record(raised(ValueError("x" * 100_000 + " the end")))

    assert len(failure.stack) <= 16_384
    assert failure.stack.rstrip().endswith("the end")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TypeError("x"), True),
        (ex.EncodeError("x"), True),
        (ex.DecodeError("x"), True),
        (ValueError("x"), False),
        (ex.ApplicationError("x"), False),
        (ex.ApplicationError("x", non_retryable=True), True),
    ],
    ids=repr,
)
def test_what_another_attempt_cannot_mend_is_not_retryable(registry, error, expected):
    assert registry.record(error).non_retryable is expected


def test_the_name_of_a_class_is_its_module_and_qualified_name():
    assert qualified_name(ValueError) == "ValueError"
    assert qualified_name(Outer.InnerError) == f"{__name__}.Outer.InnerError"


def test_a_subclass_of_application_error_keeps_its_name_for_retry_policies(registry):
    class PaymentError(ex.ApplicationError):
        pass

    failure = registry.record(PaymentError("no money"))

    assert failure.type.endswith("PaymentError")
