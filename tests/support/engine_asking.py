"""Activities that workflows of the engine's tests ask, and how the test answers."""

from __future__ import annotations

from durable_core import activity, workflow
from durable_core.adapter import Unit, UnitOptions, current_engine

from support.engine_runs import Driver, flow


@activity.defn
async def ask(question):
    return f"answer to {question}"


@activity.defn
async def other(question):
    return f"other answer to {question}"


def start(name):
    return workflow.start_activity(ask, name)


def patient(name):
    """Ask for an activity that, when it is cancelled, waits for its outcome."""
    options = UnitOptions(cancellation="wait_cancellation_completed")
    return current_engine().schedule(Unit(name="ask", body=ask, args=(name,), options=options))


async def call(name):
    return await workflow.execute_activity(ask, name)


def begun(fn, *args):
    driver = Driver(flow(fn), *args)
    driver.begin()
    return driver


def args_of(driver):
    """Return the argument of each activity that is pending, in order."""
    return [eval(p.args)[0] for _, p in sorted(driver.run.pending.items())]


def answer(driver, name):
    """End the activity that was asked ``name``."""
    (seq,) = [s for s, p in driver.run.pending.items() if eval(p.args)[0] == name]
    return driver.complete(seq, f"answer to {name}")


def kinds(activation):
    return [type(command).__name__ for command in activation.commands]
