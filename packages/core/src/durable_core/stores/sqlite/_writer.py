"""The writer: one thread, one connection, group commits.

Requests queue up while a commit is under way and form the next batch; each is answered after its
batch is durable. The thread belongs to one store and ends with it.

Invariant: a batch that was rolled back wrote nothing, so it is written again as it is. After a
commit of unknown outcome the rows themselves say whether it happened (ENGINE R2).
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from durable_core import _faults
from durable_core.exceptions import StoreClosedError, StoreError
from durable_core.stores._rows import Append, Outcome

from . import _batch, _open

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ._handles import Handle
    from ._leases import Leases
    from ._turns import Turn

__all__ = ["Call", "Writer"]

_BUSY_LIMIT = 60.0
# Another writer needs a millisecond or a few.
_POLL = 0.001
# So many writes do not wait for the rest of the pass: their commit goes on beside it.
_TOGETHER = 64


class Call(msgspec.Struct):
    """Any other statement that writes, run in a batch of its own."""

    run: Callable[[apsw.Connection], Any]


class _Request(msgspec.Struct):
    work: _batch.Member | Call
    future: asyncio.Future[Any] | None  # None if nobody waits


class Writer:
    """Alone uses the connection that writes. `submit` is for its loop; the rest is the thread's.

    Attributes:
        streamed: Called on the loop with the run of each append that added chunks to streams.
    """

    def __init__(
        self, path: Path, handle: Handle, sql: Mapping[str, str], leases: Leases, turn: Turn
    ) -> None:
        self._path = path
        self._handle = handle
        self._turn = turn
        self._sql = sql
        self._leases = leases
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Request] = deque()
        # Of the loop, which hands them over once per pass.
        self._gathered: list[_Request] = []
        self._wake = threading.Condition()
        self._closing = False
        # What the connection says of commits by others.
        self._version: object = None
        self._changed = True
        self.streamed: Callable[[str], None] = _nobody
        self._thread = threading.Thread(target=self._run, name="durable-writer", daemon=True)
        self._thread.start()

    def submit(self, work: _batch.Member | Call) -> asyncio.Future[Any]:
        """Queue a write and return a future of its outcome.

        What one pass of the loop submits goes into one batch, if it can: a thread that began with
        the first of it would commit that alone, and take turns with the loop meanwhile.

        Raises (through the future):
            StoreClosedError: The store is closed.
            StoreError: It could not be written.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        # Another thread may be closing it.
        with self._wake:
            if self._closing:
                future.set_exception(StoreClosedError(f"{self._path} is closed"))
                return future

            if not self._gathered:
                self._loop.call_soon(self._hand_over)

            self._gathered.append(_Request(work, future))
            enough = len(self._gathered) >= _TOGETHER

        if enough:
            self._hand_over()

        return future

    def _hand_over(self) -> None:
        with self._wake:
            self._queue.extend(self._gathered)
            self._gathered.clear()
            self._wake.notify()

    def look_again(self) -> None:
        """Find out anew when the next lease is to be renewed."""
        with self._wake:
            self._wake.notify()

    def changed(self) -> bool:
        """Return whether there is something new since the last call.

        That is a commit by another connection, or one of this that is more than the next step of a
        run. One that comes while the writer is busy may be seen by a later call. If it cannot be
        found out there may be something: whoever looks for himself meets the reason.
        """
        try:
            with self._handle.use_if_idle() as connection:
                if connection is not None:
                    self._look(connection)
        except (apsw.Error, StoreError):
            return True

        # Not by a swap: the writer's thread may set it in between.
        if self._changed:
            self._changed = False
            return True

        return False

    def _look(self, connection: apsw.Connection) -> None:
        """Note whether another connection has committed; SQLite does not count the own commits."""
        version = connection.pragma("data_version"), self._handle.opened
        if version != self._version:
            self._version = version
            self._changed = True

    def close(self) -> None:
        """Write what is queued, then end the thread. Blocks until that is done."""
        with self._wake:
            self._queue.extend(self._gathered)
            self._gathered.clear()
            self._closing = True
            self._wake.notify()

        self._thread.join()

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                answers = self._commit(batch)
                if batch[0].future is None and isinstance(answers[0], BaseException):
                    self._leases.failed(answers[0])

                try:
                    # First, so that a worker learns of its own death before its writes are refused.
                    for lease in self._leases.take_lost():
                        if lease.when_lost is not None:
                            self._loop.call_soon_threadsafe(lease.when_lost)

                    self._loop.call_soon_threadsafe(self._answer, batch, answers)
                except RuntimeError:
                    # The loop is gone, and with it everybody who waited; what is durable stays so.
                    return

                # Else a result of many MiB stays for as long as there is nothing else to write.
                del batch, answers
        finally:
            self._handle.close()

    def _answer(self, batch: list[_Request], answers: list[Any]) -> None:
        """Tell those who wait, on the loop."""
        for request, answer in zip(batch, answers, strict=True):
            work = request.work
            if isinstance(work, Append) and work.chunks and answer is Outcome.ACCEPTED:
                self.streamed(work.run_id)

            if request.future is None or request.future.cancelled():
                continue

            if isinstance(answer, BaseException):
                request.future.set_exception(answer)
            else:
                request.future.set_result(answer)

    def _next_batch(self) -> list[_Request]:
        """Return requests for one commit: at most one per run, and a `Call` alone."""
        with self._wake:
            while not self._queue:
                if self._closing:
                    return []

                left = self._leases.wait()
                if left is not None and left <= 0:
                    return [_Request(Call(self._leases.renew_due), None)]

                self._wake.wait(left)

            if isinstance(self._queue[0].work, Call):
                return [self._queue.popleft()]

            batch: list[_Request] = []
            later: list[_Request] = []
            runs: set[str] = set()
            while self._queue and not isinstance(self._queue[0].work, Call):
                request = self._queue.popleft()
                run = _run_of(request.work)
                if run and run in runs:
                    later.append(request)
                else:
                    runs.add(run)
                    batch.append(request)

            self._queue.extendleft(reversed(later))
            return batch

    def _commit(self, batch: list[_Request]) -> list[Any]:
        """Return an answer per request: its outcome, or the exception that ended it."""
        deadline = time.monotonic() + _BUSY_LIMIT
        with self._turn.taken(deadline, self._leases.waits) as begun:
            return self._commit_in_turn(batch, deadline, begun)

    def _commit_in_turn(
        self, batch: list[_Request], deadline: float, begun: Callable[[], None]
    ) -> list[Any]:
        wait = 0.0002
        while True:
            try:
                with _open.translated(str(self._path)), self._handle.use() as connection:
                    answers = self._try_commit(connection, batch, begun)
                    if not all(map(_is_step, batch)):
                        self._changed = True

                    return answers

            except Exception as error:  # noqa: BLE001  # handed to whoever waits
                if not isinstance(error.__cause__, apsw.BusyError) or time.monotonic() > deadline:
                    return [error] * len(batch)

            self._leases.waits()
            # SQLite's own handler backs off to a tenth of a second.
            time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311
            wait = min(wait * 2, _POLL)

    def _try_commit(
        self, connection: apsw.Connection, batch: list[_Request], when_begun: Callable[[], None]
    ) -> list[Any]:
        begun = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            begun = True
            when_begun()
            self._look(connection)
            first = batch[0].work
            if isinstance(first, Call):
                if batch[0].future is not None:
                    self._leases.check(connection, ())

                answers = [first.run(connection)]
            else:
                members = [r.work for r in batch if not isinstance(r.work, Call)]
                owners = {m.owner for m in members if isinstance(m, Append)}
                living = self._leases.check(connection, owners)
                answers = _batch.write(connection, self._sql, members, living)

            _faults.reach("store.commit.before")
            connection.execute("COMMIT")
        except BaseException:
            self._leases.rolled_back()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            elif begun and (known := self._already_written(connection, batch)) is not None:
                return known

            raise

        self._leases.committed()
        _faults.reach("store.commit.after")
        return answers

    def _already_written(
        self, connection: apsw.Connection, batch: list[_Request]
    ) -> list[Any] | None:
        """Return the answers of a batch whose commit failed after it became durable, else None."""
        answers: list[Any] = []
        for request in batch:
            work = request.work
            if not isinstance(work, Append) or work.number is None:
                return None

            row = connection.execute(self._sql["activation_fence"], (work.run_id, work.number)).get
            if row != work.fence:
                return None

            answers.append(Outcome.ACCEPTED)

        return answers


def _run_of(work: _batch.Member | Call) -> str:
    match work:
        case Append():
            return work.run_id
        case _batch.Create():
            return work.row.run_id
        case _batch.Send() | Call():
            return ""


def _is_step(request: _Request) -> bool:
    """Return whether a write is nothing but the next step of a run that stays with its owner."""
    work = request.work
    if not isinstance(work, Append) or work.status != "running" or work.release:
        return False

    return not (work.posts or work.children or work.revives)


def _nobody(run_id: str) -> None:
    """Tell nobody that a run's streams have more."""
