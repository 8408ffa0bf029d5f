"""Workflows in memory, for tests: nothing to install, nothing left behind, no time to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Self

from durable_core import _clock, _defaults, _ids
from durable_core.client import Client
from durable_core.stores.memory import MemoryStore

from ._clock import SkippingClock

__all__ = ["WorkflowEnvironment"]

_LOOK = 0.001


class WorkflowEnvironment:
    """A client of a store in memory, from `start_time_skipping` or `start_local`.

    ::

        async with await WorkflowEnvironment.start_time_skipping() as env:
            async with Worker(env.client, task_queue="q", workflows=[Order], activities=[charge]):
                assert await env.client.execute_workflow(Order.run, "42", id="1", task_queue="q")

    While a result is awaited and no code and no activity runs, time moves on to the next timer,
    retry or deadline. Belongs to the event loop that started it.
    """

    def __init__(self, client: Client, clock: SkippingClock | None) -> None:
        self._client = client
        self._clock = clock
        self._locked = 0
        self._skipper = (
            None if clock is None else asyncio.create_task(self._skip(clock), name="time-skipping")
        )

    @classmethod
    async def start_time_skipping(
        cls, *, namespace: str = _defaults.NAMESPACE, identity: str | None = None
    ) -> Self:
        """Start an environment whose time skips what is only waited for."""
        return cls._start(namespace, identity, SkippingClock())

    @classmethod
    async def start_local(
        cls, *, namespace: str = _defaults.NAMESPACE, identity: str | None = None
    ) -> Self:
        """Start an environment whose time is the wall clock's."""
        return cls._start(namespace, identity, None)

    @classmethod
    def _start(cls, namespace: str, identity: str | None, clock: SkippingClock | None) -> Self:
        client = Client(
            MemoryStore(),
            namespace=namespace,
            identity=identity or _ids.process_identity(),
            clock=clock,
        )
        return cls(client, clock)

    async def __aenter__(self) -> Self:
        """Return the environment."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Shut it down."""
        await self.shutdown()

    @property
    def client(self) -> Client:
        """For workers, and to start runs and talk to them."""
        return self._client

    @property
    def supports_time_skipping(self) -> bool:
        """Whether time skips what is only waited for."""
        return self._clock is not None

    async def shutdown(self) -> None:
        """Drop everything. Workers must have ended before."""
        if self._skipper is not None:
            self._skipper.cancel()
            await asyncio.gather(self._skipper, return_exceptions=True)

        await self._client.close()

    async def sleep(self, duration: timedelta | float) -> None:
        """Let time pass: skipping it, what is due meanwhile happens in order.

        Args:
            duration: A timedelta, or seconds.
        """
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
        clock = self._client.clock
        with clock.waiting():
            await clock.sleep_until(clock.now() + seconds)

    async def get_current_time(self) -> datetime:
        """Return the time by which runs live, UTC."""
        return _clock.from_timestamp(self._client.clock.now())

    @contextmanager
    def auto_time_skipping_disabled(self) -> Generator[None]:
        """Let awaiting a result skip no time meanwhile."""
        self._locked += 1
        try:
            yield
        finally:
            self._locked -= 1

    async def _skip(self, clock: SkippingClock) -> None:
        """Move time on whenever somebody waits and nothing happens."""
        rested = 0
        while True:
            await asyncio.sleep(_LOOK)
            # Twice, so that what the last look has begun is seen.
            rested = rested + 1 if self._at_rest(clock) else 0
            if rested < 2:
                continue

            rested = 0
            due = await self._next_due(clock)
            if due is not None and due < _defaults.NEVER:
                clock.move_to(due)
                for worker in self._client.workers:
                    worker.look_again()

    def _at_rest(self, clock: SkippingClock) -> bool:
        if self._client.store.changed():
            self._client.changes.notify()
            return False

        return (
            clock.waiters > 0
            and not self._locked
            and all(worker.at_rest for worker in self._client.workers)
        )

    async def _next_due(self, clock: SkippingClock) -> float | None:
        dues = [clock.next_due()]
        for worker in self._client.workers:
            store, queue = self._client.store, worker.task_queue
            dues.append(await store.next_wake(self._client.namespace, queue))

        return min((due for due in dues if due is not None), default=None)
