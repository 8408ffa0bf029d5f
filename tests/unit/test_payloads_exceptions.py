"""Exceptions in full width: what a class keeps, how it is made, and where it is looked for."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import pathlib
import sys
import types
import uuid
from datetime import timedelta

import msgspec
import pytest
from durable_core import activity, adapter
from durable_core import exceptions as ex
from durable_core.history import Failure
from durable_core.payloads._failures import Registry, qualified_name
from durable_core.worker._host import Registered
from durable_core.workflow._defn import definition_of
from hypothesis import given
from support import types_errors as e
from support import types_matrix as m
from support.engine_runs import flow, live
from support.types_values import values

MODULES = (e.__name__, m.__name__)


class DeclinedError(Exception):
    """An exception of the module that the failed code comes from."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason, code)
        self.reason = reason
        self.code = code


@pytest.fixture
def registry():
    registry = Registry()
    for module in (__name__, *MODULES):
        registry.allow_module(module)

    return registry


def through_bytes(failure: Failure) -> Failure:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure)


def again(registry: Registry, error: BaseException) -> BaseException:
    return registry.rebuild(through_bytes(registry.record(error)))


def raised(error: BaseException, *, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def same(error: BaseException, back: BaseException) -> None:
    """Check that an exception came back: its class, text, arguments and attributes."""
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert m.shape(list(back.args)) == m.shape(list(error.args))
    assert m.shape(dict(sorted(vars(back).items()))) == m.shape(dict(sorted(vars(error).items())))


ATTRIBUTES = {
    "when": dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    "day": dt.date(2024, 1, 2),
    "length": timedelta(seconds=1.5),
    "id": uuid.UUID(int=3),
    "price": decimal.Decimal("1.50"),
    "raw": b"\xff",
    "colour": m.Colour.RED,
    "odd": m.Odd.PAIR,
    "level": m.Level.HIGH,
    "item": m.Item("a", 1),
    "tree": m.FOREST,
    "person": m.ANN,
    "event": m.Event("a"),
    "point": m.Point(1, 2.0),
    "path": pathlib.Path("/tmp/x"),
    "pair": (1, ("a", None)),
    "tags": {"a", "b"},
    "frozen": frozenset({1}),
    "by_number": {1: "one", (1, 2): "pair"},
    "lookalike": {"$type": "datetime", "$value": "2024"},
    "deep": [{"at": [dt.time(1), {"x": float("nan")}]}],
    "nothing": None,
    "_private": 1,
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_of_any_type_comes_back_as_it_was(name):
    registry = Registry()
    error = e.HoldingError(**{name: ATTRIBUTES[name]})

    same(error, registry.rebuild(through_bytes(registry.record(error)), modules=MODULES))


@pytest.mark.parametrize("case", m.CASES, ids=lambda case: case.id)
def test_an_attribute_of_the_table_comes_back_as_it_was_or_gives_the_class_up(case):
    registry = Registry()
    error = e.HoldingError(value=case.value)
    back = registry.rebuild(through_bytes(registry.record(error)), modules=MODULES)

    if isinstance(back, ex.ApplicationError):
        # A class that was made on the fly has no name to be found by.
        assert "Shelf" in case.id
        assert (back.type, str(back)) == (qualified_name(e.HoldingError), str(error))
    else:
        same(error, back)


def test_how_a_class_is_made_does_not_matter(registry):
    for error in (
        e.KeywordError(code=5, hint="x"),
        e.PickyError("a", "b"),
        e.DiskError(28, "no space", device="sda"),
        e.LimitError(1, 2),
    ):
        same(error, again(registry, error))


def test_the_code_of_a_class_is_not_run_by_a_record(registry):
    record = through_bytes(registry.record(e.InitCalledError("live")))
    e.InitCalledError.calls.clear()

    same(e.InitCalledError("live"), registry.rebuild(record))
    assert e.InitCalledError.calls == ["live"]  # by this test


def test_slots_come_back_and_unset_ones_stay_unset(registry):
    back = again(registry, e.SlottedError(dt.date(2024, 1, 1)))

    assert (back.limit, back.empty) == (dt.date(2024, 1, 1), None)
    assert not hasattr(back, "unset")


def test_a_field_that_was_added_to_a_dataclass_gets_its_default(registry):
    record = through_bytes(registry.record(e.DefaultsError(3)))
    old = msgspec.structs.replace(record, state=b'{"args":[3],"attributes":{"limit":3}}')

    assert registry.rebuild(old).names == []


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "no such file", "a.txt"),
        FileNotFoundError(2, "no such file", pathlib.Path("a.txt")),
        OSError(1, "cannot rename", "a", None, "b"),
        OSError("only text"),
        ConnectionResetError(104, "reset"),
        UnicodeDecodeError("utf-8", b"\xff\xfe", 0, 1, "invalid start byte"),
        UnicodeEncodeError("ascii", "ü", 0, 1, "no"),
        KeyError(("a", 1)),
        ImportError("no module", name="x", path="/x.py"),
        SyntaxError("bad", ("file.py", 3, 5, "x = ", 3, 6)),
        NameError("name 'x'", name="x"),
        StopIteration(3),
        AssertionError(),
    ],
    ids=repr,
)
def test_what_a_builtin_keeps_inside_comes_back(error):
    back = again(Registry(), error)
    names = ("errno", "strerror", "filename", "filename2", "encoding", "object", "start", "end")
    names += ("reason", "name", "path", "msg", "lineno", "offset", "text", "end_lineno", "value")

    same(error, back)
    for name in names:
        assert getattr(back, name, None) == getattr(error, name, None), name


def test_an_attribute_error_comes_back_without_the_object_that_lacks_the_attribute():
    error = raised_by(lambda: object().missing)
    back = again(Registry(), error)

    same(error, back)
    assert (back.name, back.obj) == ("missing", None)


def raised_by(call) -> BaseException:
    try:
        call()
    except Exception as error:
        return error

    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_a_record_cannot_end_the_process(name):
    back = Registry().rebuild(Failure(type=name, message="x", state=b'{"args":["x"]}'))

    assert type(back) is ex.ApplicationError


def test_a_class_with_a_broken_text_comes_back_all_the_same(registry):
    assert type(again(registry, e.BrokenTextError("x"))) is e.BrokenTextError


def test_notes_come_back(registry):
    for error in (DeclinedError("limit"), ex.ApplicationError("x"), e.HttpError("y", request=open)):
        error.add_note("first")
        error.add_note("second")

        assert again(registry, error).__notes__ == ["first", "second"]


def test_notes_that_are_no_text_are_left_out(registry):
    error = ValueError("x")
    error.__notes__ = ["text", 1]

    assert again(registry, error).__notes__ == ["text"]


def test_an_error_of_an_http_library_keeps_its_name_and_text(registry):
    back = again(registry, e.HttpError("status 500", request=e.Request()))

    assert type(back) is ex.ApplicationError
    assert (back.type, str(back)) == (qualified_name(e.HttpError), "status 500")
    same(e.HttpError("x", request="GET /"), again(registry, e.HttpError("x", request="GET /")))


def test_data_that_holds_something_alive_gives_the_class_up(registry):
    assert type(again(registry, e.HoldingError(live=e.Live(open)))) is ex.ApplicationError


def test_a_value_that_would_come_back_changed_gives_the_class_up(registry):
    class Silent(dict):
        pass

    assert type(again(registry, e.HoldingError(value=Silent(a=1)))) is ex.ApplicationError
    assert type(again(registry, e.HoldingError(value=e.HoldingError()))) is ex.ApplicationError


# Ours, and what is made of them


def test_details_keep_their_types(registry):
    details = (m.UTC, (1, 2), {"id": m.ID}, b"x", {1, 2}, DeclinedError)
    back = again(registry, ex.ApplicationError("x", *details[:-1]))

    assert back.details == details[:-1]
    assert again(registry, ex.ApplicationError("x", *details)).details[0] == repr(m.UTC)


def test_details_of_a_class_that_is_not_known_here_are_plain_data():
    error = ex.ApplicationError("x", m.Item("a", 1))

    assert again(Registry(), error).details == ({"sku": "a", "cents": 1},)
    registry = Registry()
    registry.allow_module(m.__name__)
    assert again(registry, error).details == (m.Item("a", 1),)


def test_a_subclass_of_application_error_comes_back_with_its_own_fields(registry):
    error = e.PaymentError(uuid.UUID(int=1), due=m.UTC)
    back = again(registry, error)

    same(error, back)
    assert (back.order, back.due, back.type) == (uuid.UUID(int=1), m.UTC, None)
    assert back.non_retryable
    elsewhere = again(Registry(), error)
    assert type(elsewhere) is ex.ApplicationError
    assert elsewhere.type == qualified_name(e.PaymentError)
    assert elsewhere.non_retryable


def test_a_subclass_of_application_error_keeps_the_type_that_it_was_given(registry):
    error = e.PaymentError(uuid.UUID(int=1), due=m.UTC)
    error.type = "NotPaid"

    assert registry.record(error).type == "NotPaid"
    same(error, again(registry, error))


def test_a_subclass_that_holds_something_alive_is_its_base_class(registry):
    error = e.PaymentError(uuid.UUID(int=1), due=open)
    back = again(registry, error)

    assert type(back) is ex.ApplicationError
    assert back.type == qualified_name(e.PaymentError)


@pytest.mark.parametrize("error", [e.SlowError(1.5), e.StoppedError("enough")], ids=repr)
def test_subclasses_of_our_other_failures_come_back_with_their_own_fields(registry, error):
    same(error, again(registry, error))
    assert type(again(Registry(), error)) is type(error).__base__


# Groups


def test_a_group_comes_back_with_its_members_their_causes_and_notes(registry):
    inner = raised(DeclinedError("limit"), cause=KeyError("k"))
    inner.add_note("a note")
    error = ExceptionGroup("several", [inner, ExceptionGroup("deep", [ValueError("bad")])])
    error.add_note("of the group")

    back = again(registry, error)

    assert type(back) is ExceptionGroup
    assert (back.message, str(back), back.__notes__) == ("several", str(error), ["of the group"])
    declined, deep = back.exceptions
    same(inner, declined)
    assert (type(declined.__cause__), declined.__notes__) == (KeyError, ["a note"])
    assert repr(deep) == repr(ExceptionGroup("deep", [ValueError("bad")]))
    matched, rest = back.split(DeclinedError)
    assert len(matched.exceptions) == len(rest.exceptions) == 1


@pytest.mark.parametrize(
    "error",
    [e.ManyErrors("many", [ValueError("a")]), e.NamedGroup([ValueError("a")], name="here")],
    ids=repr,
)
def test_a_group_of_a_users_class_comes_back_as_it(registry, error):
    back = again(registry, error)

    assert type(back) is type(error)
    assert (back.message, repr(back.exceptions)) == (error.message, repr(error.exceptions))
    assert vars(back) == vars(error)
    assert type(again(Registry(), error)) is ex.ApplicationError


def test_a_member_of_an_unknown_class_is_named_inside_its_group():
    back = again(Registry(), ExceptionGroup("x", [DeclinedError("limit")]))

    assert back.exceptions[0].type == f"{__name__}.DeclinedError"


# Chains


def test_a_ring_of_causes_is_cut():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one

    back = again(Registry(), one)

    assert [str(back), str(back.__cause__), str(back.__cause__.__cause__)] == ["one", "two", "one"]


def test_a_very_long_chain_of_causes_is_cut():
    error = ValueError(0)
    for i in range(1, 300):
        error = raised(ValueError(i), cause=error)

    back, length = again(Registry(), error), 0
    while back is not None:
        back, length = back.__cause__, length + 1

    assert 10 <= length <= 100


# Where classes are looked for


@pytest.fixture
def fake_module(monkeypatch):
    """Makes modules of the user's, of a library, …, by their source."""

    def make(name: str, source: str) -> types.ModuleType:
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(source, module.__dict__)
        return module

    return make


def test_a_class_that_a_module_names_comes_back_and_one_that_it_does_not_name_does_not(fake_module):
    errors = fake_module(
        "their_errors",
        "class Named(Exception):\n    class Inner(Exception): pass\nclass Unnamed(Exception): pass",
    )
    fake_module("their_activities", "from their_errors import Named as N")

    def back(error: Exception) -> BaseException:
        record = through_bytes(Registry().record(error))
        return Registry().rebuild(record, modules=["their_activities"])

    same(errors.Named("x"), back(errors.Named("x")))
    same(errors.Named.Inner("x"), back(errors.Named.Inner("x")))
    other = back(errors.Unnamed("x"))
    assert (type(other), other.type) == (ex.ApplicationError, "their_errors.Unnamed")


@pytest.mark.parametrize(
    ("errors", "activities", "beside"),
    [
        ("shop.errors", "shop.activities", True),
        ("shop.deep.errors", "shop.activities", True),
        ("errors", "activities", True),
        ("library.errors", "shop.activities", False),
        ("library", "activities", False),
    ],
)
def test_a_class_of_a_module_that_is_named_comes_back_if_it_lies_beside(
    fake_module, errors, activities, beside
):
    made = fake_module(errors, "class Declined(Exception): pass")
    made.__file__ = f"/site/{errors.replace('.', '/')}.py"
    naming = fake_module(activities, "")
    naming.__file__ = f"/{'site' if beside else 'app'}/{activities.replace('.', '/')}.py"
    naming.errors = made
    record = through_bytes(Registry().record(made.Declined("x")))

    expected = made.Declined if beside else ex.ApplicationError
    assert type(Registry().rebuild(record, modules=[activities])) is expected


def test_what_other_failures_were_allowed_makes_no_difference(registry):
    shared = Registry()
    record = through_bytes(shared.record(DeclinedError("limit")))

    assert type(shared.rebuild(record, modules=[__name__])) is DeclinedError
    assert type(shared.rebuild(record)) is ex.ApplicationError


def test_a_class_of_an_attribute_is_found_where_the_exception_is_defined(fake_module):
    errors = fake_module(
        "their_errors",
        "import enum\nclass Why(enum.Enum):\n    MONEY = 'money'\n"
        "class Declined(Exception):\n    def __init__(self, why): self.why = why",
    )
    fake_module("their_activities", "from their_errors import Declined")
    record = through_bytes(Registry().record(errors.Declined(errors.Why.MONEY)))

    assert Registry().rebuild(record, modules=["their_activities"]).why is errors.Why.MONEY


def test_data_of_an_attribute_is_found_in_any_module_that_is_named(fake_module):
    deep = fake_module("their_deep", "import enum\nclass Why(enum.Enum):\n    MONEY = 'money'")
    models = fake_module(
        "their_models",
        "import their_deep as d\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Reason:\n    why: object",
    )
    errors = fake_module(
        "their_errors",
        "import their_models\nclass Declined(Exception):\n"
        "    def __init__(self, reason): self.reason = reason",
    )
    error = errors.Declined(models.Reason(deep.Why.MONEY))
    record = through_bytes(Registry().record(error))

    assert Registry().rebuild(record, modules=["their_errors"]).reason == error.reason


def test_an_exception_of_a_library_becomes_an_application_error_that_names_it(registry):
    error = raised_by(lambda: msgspec.json.decode(b"{"))
    back = again(registry, error)

    assert (type(back), back.type) == (ex.ApplicationError, "msgspec.DecodeError")


def test_no_attribute_of_a_module_is_asked_for(fake_module):
    lazy = fake_module(
        "lazy_module",
        "asked = []\ndef __getattr__(name):\n    asked.append(name)\n    raise KeyError",
    )
    record = Failure(type="lazy_module.Error", message="x", state=b'{"args":["x"]}')
    back = Registry().rebuild(record, modules=["lazy_module"])

    assert type(back) is ex.ApplicationError
    assert lazy.asked == []


@pytest.mark.parametrize(
    ("recorded", "known"),
    [
        ("__main__.Declined", "shop"),
        ("shop.Declined", "__main__"),
        ("__main__.Declined", "__main__"),
    ],
)
def test_a_script_and_the_module_that_it_is_have_the_same_classes(fake_module, recorded, known):
    module = fake_module(known, "class Declined(Exception): pass")
    module.__file__ = "/somewhere/shop.py"
    record = Failure(type=recorded, message="x", state=b'{"args":["x"]}')

    assert type(Registry().rebuild(record, modules=[known])) is module.Declined
    other = msgspec.structs.replace(record, type=recorded.replace("shop", "other"))
    expected = module.Declined if "__main__" in recorded else ex.ApplicationError
    assert type(Registry().rebuild(other, modules=[known])) is expected


def test_an_embedded_worker_looks_only_where_the_run_itself_leads():
    async def code(): ...

    registered = Registered([], None)
    registered.add_workflow(definition_of(flow(code)))
    record = through_bytes(registered.failures.record(DeclinedError("limit")))

    assert type(registered.failures.rebuild(record)) is ex.ApplicationError


# As a workflow sees them


@activity.defn
def fails() -> None:
    raise DeclinedError("limit", 5)


class Service:
    def method(self) -> None:
        raise DeclinedError("method")


class Base:
    def inherited(self) -> None:
        raise DeclinedError("inherited")


Base.inherited.__module__ = "durable_core.exceptions"


class Derived(Base):
    pass


def elsewhere() -> None:
    raise e.HoldingError(when=m.UTC)


elsewhere.__module__ = "durable_core.exceptions"


@pytest.mark.parametrize(
    ("body", "modules", "expected"),
    [
        (fails, (), DeclinedError("limit", 5)),
        (Service().method, (), DeclinedError("method")),
        (Derived().inherited, (), DeclinedError("inherited")),
        (elsewhere, (e.__name__,), e.HoldingError(when=m.UTC)),
    ],
    ids=["function", "method", "inherited method", "module named by the unit"],
)
def test_a_body_of_a_unit_raises_its_own_class_into_the_workflow(body, modules, expected):
    seen = []

    async def code():
        unit = adapter.Unit(name="body", body=body, failure_modules=modules)
        try:
            await adapter.current_engine().schedule(unit)
        except Exception as error:
            seen.append(error)

    # A workflow of another module, which knows nothing of the classes.
    code.__module__ = "durable_core.exceptions"
    driver = live(code)
    driver.replay()

    for error in seen:
        same(expected, error)

    assert len(seen) == 2


@given(values)
def test_any_attribute_comes_back_as_it_is_or_gives_the_class_up(value):
    registry = Registry()
    error = e.HoldingError(value=copy.copy(value))
    back = registry.rebuild(through_bytes(registry.record(error)), modules=MODULES)

    if not isinstance(back, ex.ApplicationError):
        same(error, back)
