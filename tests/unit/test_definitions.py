from __future__ import annotations

import asyncio
import enum
import functools
from datetime import timedelta
from typing import Any

import pytest
from durable_core import RetryPolicy, _defaults, activity, workflow
from durable_core._arguments import UNSET, arguments
from durable_core.activity._defn import definition_of, known, signature_types, unit_options
from durable_core.adapter import CallOptions, UnitOptions
from durable_core.exceptions import (
    ArgumentError,
    CallError,
    DefinitionError,
    DuplicateNameError,
    EncodeError,
    NotInActivityError,
    NotInWorkflowError,
    NotRegisteredError,
)
from durable_core.history import StartTimer
from durable_core.worker._host import Registered
from durable_core.workflow._defn import definition_of as workflow_of
from support.engine_runs import Driver, flow, live

SECOND = timedelta(seconds=1)


@activity.defn
async def greet(name: str) -> str:
    return f"hello {name}"


def plain(name):
    return name


# Activities


def test_an_activity_has_its_functions_name_and_ten_minutes():
    definition = definition_of(greet)

    assert (definition.name, definition.is_async) == ("greet", True)
    assert definition.fn is greet.__wrapped__
    assert definition.start_to_close_timeout == 600
    assert definition.retry_policy is None


def test_an_activity_stays_the_function_it_was():
    assert asyncio.run(greet("you")) == "hello you"


def test_what_the_decorator_says_is_in_the_definition():
    policy = RetryPolicy(maximum_attempts=2)

    @activity.defn(name="other", start_to_close_timeout=5 * SECOND, retry_policy=policy)
    def body(): ...

    definition = definition_of(body)

    assert (definition.name, definition.is_async) == ("other", False)
    assert definition.start_to_close_timeout == 5
    assert definition.retry_policy is policy
    assert known("other") == definition


def test_a_method_is_an_activity_of_its_object():
    class Service:
        @activity.defn(name="a method")
        def body(self):
            return self

    service = Service()

    assert definition_of(service.body).fn() is service
    assert definition_of(service.body).name == "a method"


def test_a_callable_object_with_an_async_call_runs_on_the_loop():
    class Body:
        async def __call__(self): ...

    assert definition_of(activity.defn(name="object")(Body())).is_async


@pytest.mark.parametrize("target", [int, "text", 5, None.__class__], ids=repr)
def test_only_functions_are_activities(target):
    with pytest.raises(DefinitionError, match=r"activity\.defn expects a function"):
        activity.defn(name="x")(target)


@pytest.mark.parametrize(
    "target", [lambda: None, functools.partial(plain, 1)], ids=["lambda", "partial"]
)
def test_what_has_no_name_needs_one(target):
    with pytest.raises(DefinitionError, match=r"give one: activity\.defn\(name=…\)"):
        activity.defn(target)

    assert definition_of(activity.defn(name="named")(target)).name == "named"


def test_an_empty_name_is_refused():
    with pytest.raises(DefinitionError, match="has no name"):
        activity.defn(name="")(plain)


@pytest.mark.parametrize("timeout", [timedelta(0), -SECOND])
def test_a_timeout_of_a_definition_must_be_positive(timeout):
    with pytest.raises(
        DefinitionError, match="activity 'plain': start_to_close_timeout must be positive"
    ):
        activity.defn(start_to_close_timeout=timeout)(plain)


def test_an_undecorated_function_has_no_definition():
    assert definition_of(len) is None
    assert definition_of("text") is None


def test_types_are_those_of_positional_parameters():
    def body(a: int, b, /, c: str, *rest: float, d: bytes = b"") -> list[int]: ...

    assert signature_types(body) == ((int, Any, str), list[int])


def test_an_annotation_that_does_not_exist_leaves_the_others():
    def body(a: int, b: DoesNotExist) -> str: ...  # noqa: F821

    assert signature_types(body) == ((int, Any), str)


def test_an_activity_takes_its_arguments_by_position():
    with pytest.raises(DefinitionError, match=r"activity 'body' has keyword-only .* \(b, c\).*\*"):

        @activity.defn
        def body(a, *, b, c=1): ...

    def given(a, *, b): ...

    assert definition_of(activity.defn(name="given")(functools.partial(given, b=1))).name == "given"
    with pytest.raises(DefinitionError, match=r"keyword-only parameters \(b\)"):
        activity.defn(name="given")(functools.partial(given, 1))


# Workflows


def test_a_workflow_has_its_classs_name():
    @workflow.defn
    class Shop:
        @workflow.run
        async def run(self): ...

    definition = workflow_of(Shop)

    assert (definition.name, definition.cls, definition.run_fn) == ("Shop", Shop, Shop.run)
    assert definition.failure_exception_types == ()
    assert workflow_of(Shop.run) is definition


def test_what_the_workflow_decorator_says_is_in_the_definition():
    @workflow.defn(name="shop", failure_exception_types=[KeyError])
    class Shop:
        @workflow.run
        async def anything(self): ...

    assert workflow_of(Shop).name == "shop"
    assert workflow_of(Shop).failure_exception_types == (KeyError,)


def test_a_workflow_may_inherit_its_run_method():
    class Base:
        @workflow.run
        async def run(self): ...

    @workflow.defn
    class Child(Base): ...

    assert workflow_of(Child).run_fn is Base.run


def test_a_workflow_without_run_method_is_refused():
    with pytest.raises(DefinitionError, match=r"Shop has 0 methods with @workflow\.run"):

        @workflow.defn
        class Shop:
            async def run(self): ...


def test_a_workflow_with_two_run_methods_is_refused():
    with pytest.raises(DefinitionError, match=r"Shop has 2 methods .* exactly one"):

        @workflow.defn
        class Shop:
            @workflow.run
            async def one(self): ...

            @workflow.run
            async def two(self): ...


def test_a_run_method_must_be_async():
    with pytest.raises(DefinitionError, match="expects an async def method"):
        workflow.run(plain)


def test_a_run_method_takes_its_arguments_by_position():
    with pytest.raises(DefinitionError, match=r"Shop\.run has keyword-only parameters \(b\)"):

        class Shop:
            @workflow.run
            async def run(self, a, *, b=1): ...


def test_an_empty_name_of_a_workflow_is_refused():
    with pytest.raises(DefinitionError, match="empty name"):

        @workflow.defn(name="")
        class Shop:
            @workflow.run
            async def run(self): ...


@pytest.mark.parametrize("target", [int, plain, "text"], ids=["class", "function", "text"])
def test_what_is_no_workflow_is_refused_with_the_remedy(target):
    with pytest.raises(DefinitionError, match=r"decorate its class with @workflow\.defn"):
        workflow_of(target)


# Workers


def test_two_activities_of_one_name_are_refused_by_both_their_names():
    other = activity.defn(name="greet")(lambda: None)

    with pytest.raises(
        DuplicateNameError, match=r"two activities are named 'greet'.*greet.*lambda"
    ):
        Registered([], [greet, other])


def test_two_workflows_of_one_name_are_refused():
    async def one(): ...
    async def two(): ...

    with pytest.raises(DuplicateNameError, match="two workflows are named 'Flow'"):
        Registered([flow(one), flow(two)], [])


def test_the_same_one_twice_is_no_duplicate():
    async def one(): ...

    target = flow(one)
    registered = Registered([target, target], [greet, greet])

    assert registered.workflow("Flow").cls is target
    assert registered.activity("greet") is definition_of(greet)


def test_an_undecorated_activity_is_refused_by_the_worker():
    with pytest.raises(DefinitionError, match=r"decorate it with @activity\.defn"):
        Registered([], [plain])


def test_what_a_worker_does_not_know_it_says_with_what_it_knows():
    registered = Registered([], [greet])

    with pytest.raises(NotRegisteredError, match=r"'unknown'; it knows 'greet'. Add the function"):
        registered.activity("unknown")

    with pytest.raises(NotRegisteredError, match=r"'unknown'; it knows none. Add its class"):
        registered.workflow("unknown")


# Retries


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"initial_interval": timedelta(0)}, "initial_interval must be positive"),
        ({"initial_interval": -SECOND}, "initial_interval must be positive"),
        ({"backoff_coefficient": 0.5}, "backoff_coefficient must be 1 or more"),
        ({"backoff_coefficient": -2}, "backoff_coefficient must be 1 or more"),
        ({"maximum_interval": SECOND / 2}, "maximum_interval 0:00:00.500000 is below"),
        ({"maximum_attempts": -1}, r"maximum_attempts must be 0 \(no limit\) or more"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(options, named):
    with pytest.raises(ValueError, match=named):
        RetryPolicy(**options)


@pytest.mark.parametrize("coefficient", [float("nan"), float("inf")])
def test_a_coefficient_must_be_finite(coefficient):
    with pytest.raises(ValueError, match="backoff_coefficient"):
        RetryPolicy(backoff_coefficient=coefficient)


def test_delays_double_up_to_a_hundred_times_the_first():
    delays = [RetryPolicy().delay(n) for n in range(1, 10)]

    assert delays == [1, 2, 4, 8, 16, 32, 64, 100, 100]


def test_delays_end_at_the_maximum():
    policy = RetryPolicy(
        initial_interval=2 * SECOND, backoff_coefficient=3, maximum_interval=10 * SECOND
    )

    assert [policy.delay(n) for n in (1, 2, 3, 4)] == [2, 6, 10, 10]


def test_a_coefficient_of_one_keeps_the_delay():
    assert {RetryPolicy(backoff_coefficient=1).delay(n) for n in range(1, 50)} == {1}


def test_delays_of_very_many_attempts_stay_at_the_maximum():
    assert RetryPolicy().delay(1_000_000) == 100


# Options of a call


def test_a_call_goes_before_the_definition_and_that_before_the_defaults():
    policy = RetryPolicy(maximum_attempts=3)

    @activity.defn(start_to_close_timeout=5 * SECOND, retry_policy=policy)
    def body(): ...

    nothing = {"start_to_close_timeout": None, "retry_policy": None}
    own = {"start_to_close_timeout": SECOND, "retry_policy": RetryPolicy(maximum_attempts=9)}

    by_default = unit_options(None, **nothing)
    by_definition = unit_options(definition_of(body), **nothing)
    by_call = unit_options(definition_of(body), **own)

    assert (by_default.start_to_close_timeout, by_default.retry_policy) == (600, RetryPolicy())
    assert (by_definition.start_to_close_timeout, by_definition.retry_policy) == (5, policy)
    assert (by_call.start_to_close_timeout, by_call.retry_policy.maximum_attempts) == (1, 9)


def test_what_a_user_says_about_calls_of_an_agent_replaces_the_window_of_retries():
    default = UnitOptions(retry_window=60.0, start_to_close_timeout=30.0)
    policy = RetryPolicy(maximum_attempts=4)

    assert CallOptions().apply(default) == default
    changed = CallOptions(retry_policy=policy).apply(default)
    assert (changed.retry_policy, changed.retry_window) == (policy, None)
    assert changed.start_to_close_timeout == 30
    longer = CallOptions(start_to_close_timeout=90 * SECOND).apply(default)
    assert (longer.start_to_close_timeout, longer.retry_window) == (90, 60)


@pytest.mark.parametrize(
    ("arg", "args", "expected"),
    [(UNSET, (), ()), (None, (), (None,)), (1, (), (1,)), (UNSET, [1, 2], (1, 2))],
)
def test_arguments_come_alone_or_by_name(arg, args, expected):
    assert arguments(arg, args) == expected


def refused_in_a_workflow(call):
    """Return the type and text of what a call raises in workflow code; it leaves no command."""
    seen = []

    async def code():
        try:
            await call()
        except Exception as error:
            seen.append(error)

    driver = live(code)
    assert len(driver.activations[0].commands) == 1
    return seen[0]


def test_one_argument_and_several_at_once_are_refused():
    error = refused_in_a_workflow(lambda: workflow.execute_activity(greet, "a", args=["b"]))

    assert isinstance(error, ValueError)
    assert str(error) == "pass one argument positionally or several by args=, not both"


@pytest.mark.parametrize(
    "args",
    ["ab", b"ab", {"a"}, {"a": 1}, iter("ab"), 5],
    ids=["str", "bytes", "set", "dict", "iterator", "int"],
)
def test_one_value_in_the_place_of_several_arguments_is_refused(args):
    error = refused_in_a_workflow(lambda: workflow.execute_activity(greet, args=args))

    assert isinstance(error, ArgumentError)
    assert "args takes a list of arguments, got" in str(error)


def none(): ...
def one(a): ...
def more(a, b=2, *, _unused=None): ...
def any_number(first, *rest): ...


more = functools.partial(more, _unused=1)


@pytest.mark.parametrize(
    ("body", "args", "says"),
    [
        (none, [1], "activity 'x' takes no arguments, got 1: 1."),
        (one, [], "activity 'x' takes 1 argument (a), got none."),
        (one, ["x", 2], "activity 'x' takes 1 argument (a), got 2: 'x', 2."),
        (more, [], "activity 'x' takes 2 arguments (a, b=…), got none."),
        (more, [1, 2, 3], "takes 2 arguments (a, b=…), got 3: 1, 2, 3."),
        (any_number, [], "takes any number of arguments (first, *rest), got none."),
    ],
)
def test_a_wrong_number_of_arguments_is_refused_before_anything_is_recorded(body, args, says):
    body = activity.defn(name="x")(body)
    error = refused_in_a_workflow(lambda: workflow.execute_activity(body, args=args))

    assert isinstance(error, ArgumentError)
    assert isinstance(error, TypeError)
    assert says in str(error)
    assert "Pass one argument positionally or several by args=[…]" in str(error)


@pytest.mark.parametrize(
    ("body", "args"), [(none, []), (one, [1]), (more, [1]), (more, [1, 2]), (any_number, [1, 2, 3])]
)
def test_a_right_number_of_arguments_is_not(body, args):
    async def code():
        await workflow.execute_activity(activity.defn(name="x")(body), args=args)

    assert live(code).result is None


def test_a_wrong_number_of_arguments_that_is_recorded_is_replayed():
    def old(a, b): ...
    def new(a): ...

    def code(body):
        async def run():
            await workflow.execute_activity(activity.defn(name="x")(body), args=[1, 2])

        return flow(run)

    Driver(code(old)).run_to_end().replay(code(new))


def test_further_arguments_have_the_type_of_the_rest():
    class Size(enum.IntEnum):
        SMALL = 1

    @activity.defn
    def sizes(first: str, *rest: Size) -> list[Size]:
        return list(rest)

    async def code():
        return [type(s) is Size for s in await workflow.execute_activity(sizes, args=["a", *Size])]

    assert live(code).result == [True]
    error = refused_in_a_workflow(lambda: workflow.execute_activity(sizes, args=["a", 1]))
    assert "argument 'rest[0]' of activity 'sizes'" in str(error)


def test_a_value_that_does_not_fit_is_refused_before_anything_is_recorded():
    error = refused_in_a_workflow(lambda: workflow.execute_activity(greet, 5))

    assert isinstance(error, EncodeError)
    assert "argument 'name' of activity 'greet' does not fit str: Expected `str`, got `int`" in str(
        error
    )
    assert "the value is 5" in str(error)


def test_arguments_that_are_too_large_are_refused_before_anything_is_recorded(monkeypatch):
    monkeypatch.setattr(_defaults, "PAYLOAD_LIMIT", 1000)
    error = refused_in_a_workflow(lambda: workflow.execute_activity(greet, "x" * 1000))

    assert isinstance(error, EncodeError)
    assert str(error) == (
        "the arguments of activity 'greet' have 1,004 bytes, the limit is 1,000: store the data "
        "elsewhere and pass a reference to it"
    )


def test_an_undecorated_function_is_refused_in_a_workflow():
    error = refused_in_a_workflow(lambda: workflow.execute_activity(plain, "a"))

    assert isinstance(error, CallError)
    assert "decorate it with @activity.defn" in str(error)


@pytest.mark.parametrize("timeout", [timedelta(0), -SECOND])
def test_a_timeout_of_a_call_must_be_positive(timeout):
    def call():
        return workflow.execute_activity(greet, "a", start_to_close_timeout=timeout)

    assert "start_to_close_timeout must be positive" in str(refused_in_a_workflow(call))


@pytest.mark.parametrize("duration", [-1, -0.001, timedelta(seconds=-5)])
def test_nobody_sleeps_for_a_negative_time(duration):
    error = refused_in_a_workflow(lambda: workflow.sleep(duration))

    assert isinstance(error, ValueError)
    assert str(duration) in str(error)


@pytest.mark.parametrize("sleep", [workflow.sleep, asyncio.sleep])
def test_nobody_sleeps_for_what_is_no_number(sleep):
    assert "NaN" in str(refused_in_a_workflow(lambda: sleep(float("nan"))))


@pytest.mark.parametrize("sleep", [workflow.sleep, asyncio.sleep])
def test_sleeping_for_ever_takes_no_timer(sleep):
    async def code():
        try:
            async with asyncio.timeout(5):
                await sleep(float("inf"))
        except TimeoutError:
            return "woken"

    driver = live(code)

    assert driver.result == "woken"
    assert [t.delay for t in driver.commands(StartTimer)] == [5]
    driver.check_replays()


# Outside


@pytest.mark.parametrize(
    "call", [workflow.info, workflow.now, workflow.random, workflow.uuid4], ids=lambda c: c.__name__
)
def test_facts_about_a_run_are_refused_outside_of_one(call):
    with pytest.raises(NotInWorkflowError, match="not inside a workflow"):
        call()


def test_calls_of_a_workflow_are_refused_on_an_ordinary_loop():
    async def main():
        with pytest.raises(NotInWorkflowError):
            await workflow.execute_activity(greet, "a")

        with pytest.raises(NotInWorkflowError):
            workflow.start_activity(greet, "a")

        with pytest.raises(NotInWorkflowError):
            await workflow.sleep(1)

        return workflow.in_workflow()

    assert asyncio.run(main()) is False


def test_workflow_code_knows_that_it_is_one_and_no_activity():
    async def code():
        return [workflow.in_workflow(), activity.in_activity()]

    assert live(code).result == [True, False]


def test_an_engine_refuses_calls_from_outside_its_loop():
    async def code():
        workflow.start_activity(greet, "a")

    driver = Driver(flow(code))
    driver.begin()
    (pending,) = driver.run.pending.values()

    with pytest.raises(NotInWorkflowError, match="outside its own event loop"):
        driver.run.schedule(pending.unit)


@pytest.mark.parametrize(
    "call", [activity.info, lambda: activity.resource("model")], ids=["info", "resource"]
)
def test_facts_about_an_attempt_are_refused_outside_of_one(call):
    with pytest.raises(NotInActivityError, match="not inside an activity"):
        call()
