"""Every timeout that users give: what is not positive is refused by its name and value."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import durable_core
import pytest
from durable_core import activity, workflow
from durable_core.common import RetryPolicy
from durable_core.exceptions import ApplicationError, DefinitionError

OF_CALLS = ["start_to_close_timeout", "schedule_to_close_timeout", "schedule_to_start_timeout"]
NEGATIVE = timedelta(seconds=-1)


@activity.defn
async def greet() -> str:
    return "hello"


@workflow.defn
async def greeting(option: str, seconds: float) -> str:
    return await workflow.execute_activity(greet, **{option: timedelta(seconds=seconds)})


@pytest.mark.parametrize("seconds", [0.0, -1.0])
@pytest.mark.parametrize("option", OF_CALLS)
def test_a_timeout_of_a_call_that_is_not_positive_is_refused(option, seconds):
    with pytest.raises(ValueError, match=f"{option} must be positive, got {timedelta(0, seconds)}"):
        asyncio.run(
            durable_core.execute_workflow(
                greeting, args=[option, seconds], id=f"{option}{seconds}", url="memory://"
            )
        )


@pytest.mark.parametrize("option", OF_CALLS[:2])
def test_a_timeout_of_a_definition_that_is_not_positive_is_refused(option):
    with pytest.raises(DefinitionError, match=f"'hello': {option} must be positive, got -1 day"):
        activity.defn(name="hello", **{option: NEGATIVE})(greet)


@pytest.mark.parametrize("name", ["initial_interval", "maximum_interval"])
def test_an_interval_of_a_policy_that_is_a_number_is_refused(name):
    with pytest.raises(TypeError, match=f"{name} must be a timedelta, got 1.5"):
        RetryPolicy(**{name: 1.5})


def test_a_negative_delay_before_the_next_attempt_is_refused():
    with pytest.raises(ValueError, match="next_retry_delay must not be negative, got -1 day"):
        ApplicationError("later", next_retry_delay=NEGATIVE)
