"""The event loop that workflow code runs on: ordinary asyncio, without a clock or I/O of its own.

The loop is never "run" in asyncio's sense. It is entered from a plain callback of the real loop,
for one activation at a time, and drained until nothing is ready. Its time stands still meanwhile.
What asyncio code asks of a loop ends in two places: the ready queue, drained first in, first out,
and the owner's timer hooks, which turn ``call_later`` into recorded timers.

Invariant: the order of callbacks is a function of the order of events alone. Tasks and futures hash
by a counter mixed with the run's seed, so that a ``set`` of them (as in ``asyncio.wait``) iterates
in the same order on every replay, whatever their addresses.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import math
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, Protocol

from durable_core import _defaults
from durable_core.exceptions import NotSupported, ReadOnlyContextError, SpinError

from . import _closing, _guard, _ordered

__all__ = ["Timer", "WorkflowFuture", "WorkflowLoop", "WorkflowTask", "new_loop"]

_MASK = 2**61 - 1
# anyio repeats a cancellation in every pass until the task has ended, which may take the outcome of
# an activity: after so many the rest is for the next activation.
_REDELIVERIES = 200
_GENERATORS_OF_CLEANUP = 1000


class Timer(asyncio.TimerHandle):
    """A timer; ``seq`` is the number of its command once it has one."""

    __slots__ = ("seq",)

    seq: int


class _Entered:
    """See `WorkflowLoop.entered`. A class, for a generator would take three times as long."""

    __slots__ = ("_collecting", "_guard", "_hooks", "_loop", "_outer", "_outer_guard")

    def __init__(self, loop: WorkflowLoop, guard: _guard.Guard) -> None:
        self._loop = loop
        self._guard = guard

    def __enter__(self) -> None:
        self._outer = asyncio._get_running_loop()
        self._hooks = sys.get_asyncgen_hooks()
        self._collecting = gc.isenabled()
        if self._collecting:
            gc.disable()

        _ordered.install(WorkflowLoop)
        asyncio._set_running_loop(self._loop)
        sys.set_asyncgen_hooks(firstiter=self._loop.iterated, finalizer=_keep)
        self._outer_guard = _guard.enter(self._guard)

    def __exit__(self, *_: object) -> None:
        _guard.leave(self._outer_guard)
        sys.set_asyncgen_hooks(*self._hooks)
        asyncio._set_running_loop(self._outer)
        if self._collecting:
            gc.enable()


class _Owner(Protocol):
    def timer_started(self, handle: Timer) -> None: ...

    def timer_cancelled(self, handle: Timer) -> None: ...

    def broken_from_outside(self) -> None: ...


class WorkflowFuture(asyncio.Future[Any]):
    """A future whose hash is the same on every replay."""

    def __init__(self, *, loop: WorkflowLoop) -> None:
        self._hash = loop.next_hash()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._hash


class WorkflowTask(asyncio.Task[Any]):
    """A task whose hash is the same on every replay."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: WorkflowLoop,
        name: str,
        context: contextvars.Context,
    ) -> None:
        # Before the base class, which puts the task into a set.
        self._hash = loop.next_hash()
        self._own_context = context
        super().__init__(coro, loop=loop, name=name, context=context)
        # At eviction a pending task is closed by hand; asyncio's warning would be about us.
        self._log_destroy_pending = False

    def __hash__(self) -> int:
        return self._hash

    def get_context(self) -> contextvars.Context:
        """Return the context that it runs in, as tasks do from Python 3.12 on."""
        return self._own_context


class WorkflowLoop(asyncio.AbstractEventLoop):
    """One run's event loop.

    Attributes:
        durable_engine: What `durable_core.adapter.current_engine` finds.
        error: What broke the run, if something did.
        read_only: Whether code runs that may only look, such as a query.
    """

    def __init__(self, owner: _Owner, engine: object, hash_seed: int) -> None:
        self.durable_engine = engine
        self._owner = owner
        self._time = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._hash_seed = hash_seed & _MASK
        self._hashes = self._scopes = 0
        self._task_names = 0
        self._tasks: set[WorkflowTask] = set()
        # Behind the tasks that began them, the newest last.
        self._generators: list[tuple[asyncio.Task[Any] | None, Any]] = []
        self._set_aside: list[asyncio.Handle] = []
        self._conditions: dict[WorkflowFuture, tuple[Callable[[], bool], contextvars.Context]] = {}
        self._prune_at = 64
        self._closed = False
        self._exception_handler: (
            Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None
        ) = None
        self.error: BaseException | None = None
        self.read_only = False

    def next_hash(self) -> int:
        """Return the next hash: a bijection of a counter, so that it never repeats within a run."""
        if self.read_only:
            return self._hash_seed  # a query, which no replay repeats, must not move the counter

        self._hashes += 1
        return (self._hashes * 0x9E3779B97F4A7C15 ^ self._hash_seed) & _MASK

    def next_scope(self) -> int:
        """Return the next hash for a cancel scope of anyio.

        Of a counter of their own: those that the code makes in the very activation that imports
        anyio have none, and whether a process has imported it must not move the hashes of tasks.
        """
        self._scopes += not self.read_only
        return (self._scopes * 0x9E3779B97F4A7C15 ^ self._hash_seed) & _MASK

    def entered(self, time: float, seed: str | None = None, number: int = 0) -> _Entered:
        """Make this the running loop of the thread while code of the run runs, under the guard.

        The outer loop, its generator hooks and the garbage collector are put back afterwards: a
        collection in here could run a finaliser of foreign code on this loop.

        Args:
            time: Of the activation, in seconds since the epoch.
            seed: Of the run; None if what the code draws has no consequence.
            number: Of the activation.
        """
        self._time = time
        return _Entered(self, _guard.Guard(time, seed, number))

    def drain(self) -> None:
        """Run callbacks until none is ready, or until one of them broke the run.

        Raises:
            SpinError: The code keeps scheduling itself.
        """
        passes = redeliveries = 0
        ready = self._ready
        ready.extend(self._set_aside)
        self._set_aside.clear()
        while self.error is None and (ready or self._conditions_met()):
            passes += 1
            if passes > _defaults.SPIN_LIMIT:
                raise SpinError(
                    f"workflow code scheduled itself {passes - 1:,} times within one activation "
                    "without waiting for anything recorded; look for a loop around "
                    "asyncio.sleep(0) or a cancellation that is swallowed"
                )

            redelivers = False
            for _ in range(len(ready)):
                handle = ready.popleft()
                if handle._cancelled:
                    continue

                if _ordered.redelivers(handle):
                    redelivers = True
                    if redeliveries >= _REDELIVERIES:
                        self._set_aside.append(handle)
                        continue

                handle._run()
                if self.error is not None:
                    break

            redeliveries += redelivers

        if len(self._tasks) + len(self._generators) > self._prune_at:
            self._tasks.difference_update([t for t in self._tasks if t.done()])
            self._generators = [(t, g) for t, g in self._generators if g.ag_frame is not None]
            self._prune_at = 64 + 2 * (len(self._tasks) + len(self._generators))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is looked at whenever nothing else is ready."""
        if condition():
            return

        future = self.create_future()
        self._conditions[future] = (condition, contextvars.copy_context())
        try:
            await future
        finally:
            del self._conditions[future]

    def _conditions_met(self) -> bool:
        """Wake those whose condition holds; return whether there are any."""
        met = False
        for future, (condition, context) in list(self._conditions.items()):
            if future.done():
                continue

            try:
                if not context.run(condition):
                    continue
            except Exception as error:  # noqa: BLE001  # it belongs to whoever waits
                future.set_exception(error)
            else:
                future.set_result(None)

            met = True

        return met

    def ready_timer(self, handle: Timer) -> None:
        """Put the callback of a timer that fired into the ready queue."""
        handle._scheduled = False  # type: ignore[attr-defined]
        self._ready.append(handle)

    def close_run(self) -> None:
        """Close every coroutine and generator of the run, here in its own loop. Never raises."""
        self._closed = True
        self._close_tasks()
        # Cleanup may begin further generators; some begin one more each time, for ever.
        for _ in range(len(self._generators) + _GENERATORS_OF_CLEANUP):
            if not self._generators:
                break

            _closing.close_generator(*self._generators.pop())

        self._close_tasks()
        self._generators.clear()
        self._ready.clear()
        self._set_aside.clear()

    def _close_tasks(self) -> None:
        # Not over a copy: cleanup may start further tasks, which never get to run.
        while self._tasks:
            task = self._tasks.pop()
            if not task.done():
                _closing.close_task(task)

    def iterated(self, generator: Any) -> None:
        """Keep a generator, behind the task that began it."""
        self._generators.append((asyncio.current_task(self), generator))

    # What asyncio asks of a loop

    def time(self) -> float:
        """Return the time of the activation, in seconds since the epoch."""
        return self._time

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> asyncio.Handle:
        """Put a callback at the end of the ready queue."""
        if asyncio._get_running_loop() is not self and not self._closed:
            # Such as `asyncio.Event.set` in the body of an activity.
            self._refuse_from_elsewhere(callback)

        self.check_writable()
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            self._ready.append(handle)

        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Refuse callbacks from elsewhere; from the run's own code this is `call_soon`."""
        if asyncio._get_running_loop() is not self:
            self._refuse_from_elsewhere(callback)

        return self.call_soon(callback, *args, context=context)

    def _refuse_from_elsewhere(self, callback: Callable[..., Any]) -> NoReturn:
        name = getattr(callback, "__qualname__", None) or repr(callback)
        error = NotSupported(
            f"a thread or another event loop called into a workflow ({name}): its result would "
            "not be recorded. Do the work in an activity and await that"
        )
        # Code that waits for this call would wait for ever.
        if not self._closed and self.error is None:
            self.error = error
            self._owner.broken_from_outside()

        raise error

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Timer:
        """Start a recorded timer."""
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Timer:
        """Start a recorded timer; one that is due already joins the ready queue.

        One that is never due, such as that of ``asyncio.sleep(math.inf)``, is no command.

        Raises:
            ValueError: The time is not a number.
        """
        self.check_writable()
        if math.isnan(when):
            raise ValueError("workflow code started a timer whose time is not a number (NaN)")

        handle = Timer(when, callback, args, self, context)
        handle.seq = 0
        if self._closed:
            return handle

        if when <= self._time:
            self._ready.append(handle)
        elif when < math.inf:
            handle._scheduled = True  # type: ignore[attr-defined]  # so that cancel() tells the loop
            self._owner.timer_started(handle)

        return handle

    def check_writable(self) -> None:
        """Refuse to go on while code runs that may only look.

        Raises:
            ReadOnlyContextError: Such code runs.
        """
        if self.read_only:
            raise ReadOnlyContextError(
                "a query may only look: it must not start tasks, timers or activities, nor wake "
                "what waits. Use a signal to change a run"
            )

    def _timer_handle_cancelled(self, handle: Timer) -> None:
        if not self._closed:
            self._owner.timer_cancelled(handle)

    def create_future(self) -> WorkflowFuture:
        """Return a future of this loop."""
        return WorkflowFuture(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> WorkflowTask:
        """Start a task; the loop keeps it alive."""
        try:
            self.check_writable()
        except ReadOnlyContextError:
            coro.close()
            raise

        self._task_names += 1
        task = WorkflowTask(
            coro,
            loop=self,
            name=name or f"Workflow-Task-{self._task_names}",
            context=contextvars.copy_context() if context is None else context,
        )
        self._tasks.add(task)
        return task

    def get_task_factory(self) -> None:
        """Return None: there is no factory."""
        return

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001  # asyncio's signature
        """Do nothing."""

    def is_running(self) -> bool:
        """Return True: only code that runs on the loop can ask."""
        return True

    def is_closed(self) -> bool:
        """Return whether the run was dropped from memory."""
        return self._closed

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: generators are closed with the run."""

    def get_exception_handler(
        self,
    ) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None:
        """Return the handler that was set, if any."""
        return self._exception_handler

    def set_exception_handler(
        self, handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None
    ) -> None:
        """Set the handler of exceptions in callbacks."""
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Break the run: an exception in a callback is a bug in its code."""
        error = context.get("exception")
        if (
            error is not None
            and self.error is None
            and "never retrieved" not in context.get("message", "")
        ):
            self.error = error

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass on an exception that nobody awaits."""
        if self._closed or asyncio._get_running_loop() is not self:
            return  # from the garbage collector, which has no fixed time

        if self._exception_handler is not None:
            self._exception_handler(self, context)
        else:
            self.default_exception_handler(context)

    def run_in_executor(  # type: ignore[override]
        self, _: Any, func: Callable[..., Any], *__: Any
    ) -> NoReturn:
        """Refuse threads: what they bring would not be recorded."""
        if isinstance(func, functools.partial):
            is_to_thread = isinstance(getattr(func.func, "__self__", None), contextvars.Context)
            func = func.args[0] if is_to_thread else func.func

        name = getattr(func, "__qualname__", None) or repr(func)
        raise NotSupported(
            f"workflow code started a thread ({name}, by asyncio.to_thread or run_in_executor): "
            "its result would not be recorded. Make it an activity (a plain def runs in a thread) "
            "and call workflow.execute_activity"
        )


def new_loop(owner: _Owner, engine: object, hash_seed: int) -> WorkflowLoop:
    """Return a loop that refuses, by name, what asyncio loops do beyond what is written here."""
    loop: WorkflowLoop = _CompleteLoop(owner, engine, hash_seed)
    return loop


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise NotSupported(
            f"workflow code used the event loop's {name}(): I/O belongs in an activity, where it "
            "is recorded"
        )

    return refuse


_OTHERS = {
    name: _refusing(name)
    for name in vars(asyncio.AbstractEventLoop)
    if not name.startswith("_") and name not in vars(WorkflowLoop)
}
_CompleteLoop: Any = type("_CompleteLoop", (WorkflowLoop,), _OTHERS)


def _keep(generator: Any) -> None:
    """Leave an abandoned generator for the end of the run: collection has no fixed time."""
