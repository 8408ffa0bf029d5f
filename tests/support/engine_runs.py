"""Drives one `engine.Run` by hand: no worker, no store, no clock.

The driver plays the worker's part. It freezes each activation to bytes, as a commit would, decides
which activity ends next and with what, and keeps the record, from which `replay` builds the run
again, with the same or with changed code.

Activities whose name begins with ``slow`` end when nothing else is left to happen.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, TypeVar

from durable_core import workflow
from durable_core._signatures import signature
from durable_core.activity._defn import Definition, definition_of
from durable_core.adapter import Unit
from durable_core.engine import Pending, Run
from durable_core.exceptions import NotRegisteredError
from durable_core.history import (
    Activation,
    ActivityCancelled,
    ActivityCompleted,
    ActivityFailed,
    Attempt,
    CancelRequested,
    CompleteRun,
    Event,
    FailRun,
    Packer,
    Payload,
    Start,
    TimerFired,
    activation_from,
    resolve,
    start_from,
)
from durable_core.payloads import _digest, _faithful, _json
from durable_core.payloads._failures import Registry
from durable_core.workflow._defn import definition_of as workflow_definition_of

__all__ = ["Driver", "FakeHost", "flow", "live", "new_start"]

T = TypeVar("T")


class FakeHost:
    """Knows some activities by name and lets every body run."""

    def __init__(self, activities: Iterable[Callable[..., Any]] = ()) -> None:
        self.failures = Registry()
        self._activities = {d.name: d for fn in activities if (d := definition_of(fn)) is not None}

    def activity(self, name: str) -> Definition:
        if name not in self._activities:
            raise NotRegisteredError(f"no activity {name!r} here")

        return self._activities[name]

    def check_body(self, unit: Unit) -> None: ...


def new_start(
    workflow_type: str,
    args: Sequence[Any] = (),
    *,
    run_id: str = "run-1",
    seed: str = "5eed",
    python: str = "",
) -> Start:
    """Return a start record in which nothing is left to chance."""
    return Start(
        namespace="default",
        workflow_id="workflow-1",
        run_id=run_id,
        workflow_type=workflow_type,
        task_queue="queue",
        time=1_700_000_000.0,
        args=Payload(data=_json.encode(tuple(args), what="the input")),
        args_digest=_digest.digest(tuple(args), what="the input"),
        seed=seed,
        effect_scope=run_id,
        lineage=run_id,
        python=python,
    )


class Driver:
    """One run, and the hand that moves it.

    Attributes:
        run: The run in memory.
        record: Frozen bytes of each activation.
        items: What the activations refer to, by address.
    """

    def __init__(
        self,
        target: type,
        *args: Any,
        activities: Iterable[Callable[..., Any]] = (),
        start: Start | None = None,
    ) -> None:
        self.definition = workflow_definition_of(target)
        self.start = start or new_start(self.definition.name, args)
        self.host = FakeHost(activities)
        self.run = Run(self.start, self.definition, self.host)
        self.record: list[bytes] = []
        self.items: dict[str, bytes] = {}
        self.time = self.start.time

    # Moving on

    def activate(self, *events: Event, after: float = 1.0) -> Activation:
        """Run the code on events, ``after`` seconds later, and record what it asks for."""
        self.time = max(self.time + after, *(self._due(e) for e in events), 0.0)
        activation = self.run.activate(self.time, events, fence=1)
        packer = Packer(self.start.lineage, {**self.items, **self.run.new_items})
        self.record.append(packer.pack(activation))
        self.items = packer.items
        return activation

    def begin(self) -> Activation:
        """Run the first activation."""
        return self.activate(after=0.0)

    def complete(
        self, activity: str | int, result: Any = None, *, key: str | None = None
    ) -> Activation:
        """End an activity with a result, and run the code on it."""
        return self.activate(self.completed(activity, result, key=key))

    def fail(
        self, activity: str | int, error: BaseException, *, key: str | None = None
    ) -> Activation:
        """End an activity with a failure, and run the code on it."""
        return self.activate(self.failed(activity, error, key=key))

    def fire(self) -> Activation:
        """Let the timer that is due first fire, and run the code on it."""
        seq = min(self.run.timers, key=lambda s: (self.run.timers[s].when(), s))
        return self.activate(TimerFired(seq=seq), after=0.0)

    def run_to_end(
        self, order: str = "first", *, cancel_at: int | None = None, limit: int = 1000
    ) -> Driver:
        """Execute activities and fire timers until the run is closed.

        Args:
            order: Which activity ends next: the ``first`` that was asked for, the ``last``, all
                ``together`` in one activation, or a seed for any number of them in any order.
            cancel_at: After how many activations the run's cancellation is asked for, if at all.
            limit: How many activations there may be.
        """
        chance = None if order in {"first", "last", "together"} else Random(order)
        if not self.record:
            self.begin()

        for _ in range(limit):
            if self.run.closed is not None:
                return self

            if len(self.record) == cancel_at:
                self.activate(CancelRequested(request="c", reason="enough"))
            else:
                self.activate(*self._next(order, chance))

        raise AssertionError(f"the run is not at its end after {limit} activations")

    def _next(self, order: str, chance: Random | None) -> list[Event]:
        pending = [p for _, p in sorted(self.run.pending.items())]
        quick = [p for p in pending if not p.unit.name.startswith("slow")]
        timers = sorted(self.run.timers, key=lambda s: (self.run.timers[s].when(), s))[:1]
        if chance is not None and quick:
            chosen: list[Any] = chance.sample(quick, chance.randint(1, len(quick)))
            chosen += timers if chance.random() < 0.3 else []
            chance.shuffle(chosen)
            return [TimerFired(seq=c) if isinstance(c, int) else self.executed(c) for c in chosen]

        if quick:
            chosen = {"first": quick[:1], "last": quick[-1:]}.get(order, quick)
            return [self.executed(p) for p in chosen]

        if timers:
            return [TimerFired(seq=timers[0])]

        assert pending, "the run waits for nothing"
        return [self.executed(pending[0])]

    # Events

    def executed(self, pending: Pending) -> Event:
        """Return the outcome of an activity whose body is run here and now."""
        body = pending.unit.body or self.host.activity(pending.unit.name).fn
        types = pending.unit.arg_types
        try:
            args = _faithful.decode_arguments(pending.args, signature(body), types, owner="a body")
            result = body(*args)
            if hasattr(result, "send"):
                result = _finish(result)

            data = _faithful.encode_result(result, pending.result, what="a result")
        except Exception as error:
            return self.failed(pending.seq, error)

        return self._completed(pending.seq, data)

    def completed(
        self, activity: str | int, result: Any = None, *, key: str | None = None
    ) -> Event:
        return self._completed(self.seq(activity, key), _json.encode(result, what="a result"))

    def _completed(self, seq: int, data: bytes) -> Event:
        attempt = Attempt(number=1, outcome="completed")
        return ActivityCompleted(seq=seq, result=Payload(data=data), attempts=(attempt,))

    def failed(self, activity: str | int, error: BaseException, *, key: str | None = None) -> Event:
        failure = self.host.failures.record(error)
        attempt = Attempt(number=1, outcome="failed", failure=failure)
        return ActivityFailed(
            seq=self.seq(activity, key), failure=failure, retry_state=4, attempts=(attempt,)
        )

    def cancelled(self, activity: str | int) -> Event:
        return ActivityCancelled(seq=self.seq(activity))

    def seq(self, activity: str | int, key: str | None = None) -> int:
        """Return the number of the first pending activity of that name."""
        if isinstance(activity, int):
            return activity

        found = [
            p.seq
            for p in self.run.pending.values()
            if p.unit.name == activity and (key is None or p.unit.key == key)
        ]
        assert found, f"{activity!r} is not pending; these are: {self.pending}"
        return min(found)

    # Looking

    @property
    def pending(self) -> list[str]:
        """Names of the activities without an outcome, in the order in which they were asked for."""
        return [self.run.pending[seq].unit.name for seq in sorted(self.run.pending)]

    @property
    def activations(self) -> list[Activation]:
        """The record, decoded."""
        return [resolve(activation_from(data), self.items) for data in self.record]

    @property
    def result(self) -> Any:
        """The result of the run, as JSON's own types."""
        closed = self.run.closed
        assert isinstance(closed, CompleteRun), f"the run did not complete: {closed}"
        return _json.decode(closed.result.data, Any, what="the result")

    @property
    def outcome(self) -> Any:
        """The result of the run, or the type of what it failed with."""
        failed = isinstance(self.run.closed, FailRun)
        return {"failed": type(self.failure).__name__} if failed else self.result

    @property
    def failure(self) -> BaseException:
        """What the run failed with."""
        closed = self.run.closed
        assert isinstance(closed, FailRun), f"the run did not fail: {closed}"
        return self.host.failures.rebuild(closed.failure)

    def commands(self, kind: type[T]) -> list[T]:
        """Return the recorded commands of one kind."""
        return [c for a in self.activations for c in a.commands if isinstance(c, kind)]

    def _due(self, event: Event) -> float:
        if isinstance(event, TimerFired) and event.seq in self.run.timers:
            return self.run.timers[event.seq].when()

        return 0.0

    # Again

    def replay(self, target: type | None = None, *, activations: int | None = None) -> Driver:
        """Return a driver whose run was rebuilt from the record, by the same or by other code."""
        again = Driver(target or self.definition.target, start=self.start)
        again.host = self.host
        again.run = Run(self.start, again.definition, self.host)
        again.items = dict(self.items)
        try:
            for activation in self.activations[:activations]:
                again.run.replay(activation)
                again.time = activation.time
        except BaseException:
            again.close()
            raise

        again.record = self.record[:activations]
        return again

    def check_replays(self) -> None:
        """Replay every prefix of the record and relive the rest: the bytes must be the same."""
        activations = self.activations
        for length in range(len(activations) + 1):
            again = self.replay(activations=length)
            assert again.run.next_number == length
            for activation in activations[length:]:
                packer = Packer(self.start.lineage)
                lived = again.run.activate(activation.time, activation.events, activation.fence)
                assert packer.pack(lived) == self.record[activation.number], (
                    f"after {length} replayed activations, number {activation.number} differs: "
                    f"{lived} instead of {activation}"
                )

            assert again.run.closed == self.run.closed
            assert sorted(again.run.pending) == sorted(self.run.pending)
            assert sorted(again.run.timers) == sorted(self.run.timers)
            again.close()

    def close(self) -> None:
        """Drop the run from memory."""
        self.run.close()

    def saved(self) -> dict[str, Any]:
        """Return start, record and items as JSON's own types, for another process."""
        return {
            "start": Packer(self.start.lineage).pack(self.start).hex(),
            "record": [data.hex() for data in self.record],
            "items": {address: data.hex() for address, data in self.items.items()},
        }

    @classmethod
    def load(cls, saved: dict[str, Any], target: type) -> Driver:
        """Return a driver with the record of another process; its run is still to be replayed."""
        driver = cls(target, start=start_from(bytes.fromhex(saved["start"])))
        driver.record = [bytes.fromhex(data) for data in saved["record"]]
        driver.items = {a: bytes.fromhex(data) for a, data in saved["items"].items()}
        return driver.replay()


def _finish(coroutine: Any) -> Any:
    """Return the result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value

    raise AssertionError("a body of a unit test must not wait")


def live(code: Callable[..., Any] | type, *args: Any, order: str = "first") -> Driver:
    """Run a workflow to its end and return its driver; a coroutine function is one, too."""
    return Driver(code if isinstance(code, type) else flow(code), *args).run_to_end(order)


def flow(code: Callable[..., Any], *, name: str = "Flow", **options: Any) -> type:
    """Return a workflow class whose run method calls ``code``."""

    @functools.wraps(code)
    async def run(_: object, *args: Any) -> Any:
        return await code(*args)

    # The types of the input are those of ``code``, behind ``self``.
    parameters = inspect.signature(code).parameters.values()
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method: Any = run
    method.__signature__ = inspect.Signature([own, *parameters])
    cls = type("Flow", (), {"run": workflow.run(run), "__module__": code.__module__})
    return workflow.defn(name=name, **options)(cls)
