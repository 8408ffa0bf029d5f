"""Where annotations come from, and what they are when they name classes of other places."""

from __future__ import annotations
import __future__

import functools
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from durable_core import activity, workflow
from durable_core._signatures import Parameter, signature
from durable_core.exceptions import EncodeError
from durable_core.payloads import _faithful
from support import types_matrix as m
from support.engine_runs import Driver, flow
from support.types_record import again


def types_of(fn: Any) -> tuple[Any, ...]:
    found = signature(fn)
    return (*found.types, found.result.type)


def test_a_class_defined_inside_a_function_is_found():
    @dataclass
    class Inner:
        value: int

    @dataclass
    class Outer:
        inner: Inner | Twin
        more: list[Outer]

    @dataclass
    class Twin:
        value: int

    @activity.defn
    async def body(value: Outer, other: list[Inner]) -> Outer | None:
        return value

    assert types_of(body) == (Outer, list[Inner], Outer | None)
    value = Outer(Twin(1), [Outer(Inner(2), [])])
    assert again(value, Outer) == value


def test_a_class_inside_the_class_of_a_workflow_is_found():
    @workflow.defn
    class Shop:
        @dataclass
        class Input:
            order: Shop.Line

        @dataclass
        class Line:
            sku: str

        @workflow.run
        async def run(self, given: Input) -> Line:
            return given.order

    assert types_of(Shop.run)[1:] == (Shop.Input, Shop.Line)


class Module:
    """At the top of a module there is no function whose locals could be kept."""

    @dataclass
    class Input:
        value: int

    @activity.defn(name="a method of Module")
    def body(self, given: Input) -> Later: ...


@dataclass
class Later:
    value: int


def test_a_class_inside_a_class_and_one_that_comes_later_are_found():
    assert types_of(Module.body)[1:] == (Module.Input, Later)


def test_what_cannot_be_found_is_named_when_it_matters():
    @activity.defn
    async def body(given: Tomorrow) -> None: ...

    async def harmless():
        await workflow.execute_activity(body, 1)

    async def code():
        await workflow.execute_activity(body, (1,))

    Driver(flow(harmless)).begin()
    with pytest.raises(EncodeError, match="its annotation 'Tomorrow' names what cannot be found"):
        Driver(flow(code)).begin()

    @dataclass
    class Tomorrow: ...


def test_bound_methods_partials_and_callable_objects_have_their_types():
    class Service:
        def method(self, a: int) -> m.Item: ...
        def __call__(self, a: m.Item, b: int) -> None: ...

    assert types_of(Service().method) == (int, m.Item)
    assert types_of(Service()) == (m.Item, int, type(None))
    assert types_of(functools.partial(Service().method)) == (int, m.Item)
    assert types_of(functools.partial(Service(), m.Item("a"))) == (int, type(None))


NEW_SYNTAX = """
from dataclasses import dataclass
from durable_core import activity
from support.types_matrix import Item, Twin

type Json = dict[str, Json] | list[Json] | str | int | None
type Either = Item | Twin
type Many[T] = list[T]

@dataclass
class Page[T]:
    items: list[T]

@activity.defn
async def body[T: Item](page: Page[Either], many: Many[Either], json: Json, bound: T) -> Either:
    ...
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax of PEP 695")
@pytest.mark.parametrize("future", [False, True], ids=["now", "future"])
def test_type_parameters_and_aliases_of_newer_pythons_are_understood(future):
    flags = __future__.annotations.compiler_flag if future else 0
    space: dict[str, Any] = {"__name__": "newer_syntax"}
    module = type(sys)("newer_syntax")
    sys.modules["newer_syntax"] = module
    module.__dict__.update(space)
    try:
        exec(compile(NEW_SYNTAX, "newer", "exec", flags=flags, dont_inherit=True), module.__dict__)
        page, many, json, bound, either = types_of(module.body)
        assert again(module.Page([m.Twin("a")]), page) == module.Page([m.Twin("a")])
        assert again([m.Twin("a"), m.Item("b")], many) == [m.Twin("a"), m.Item("b")]
        assert again({"a": [1, None, {"b": "c"}]}, json) == {"a": [1, None, {"b": "c"}]}
        _faithful.check_result(Parameter("return", json), owner="activity 'x'")
        assert again(m.Item("a"), bound) == m.Item("a")
        assert again(m.Twin("a"), either) == m.Twin("a")
    finally:
        del sys.modules["newer_syntax"]
