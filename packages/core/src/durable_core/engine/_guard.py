"""What workflow code gets instead of clocks and randomness, and what it is refused.

While an activation runs, functions of ``time``, ``random``, ``os`` and ``uuid`` are replaced in
their modules by stand-ins, and an audit hook looks at what opens files and sockets or starts
processes and threads. Both ask whether the calling thread runs an activation: all others get the
real thing. Otherwise the modules hold what they held before, so a call of ``time.time()`` outside
of workflows costs what it always did. The hook cannot be removed; it is
installed when workflow code first runs in a process.

Invariant: numbers come from streams that belong to one activation, so that code which draws
another number of them than it once did is in step again with the next activation.

The guard is lifted for whatever the import system, ``logging``, a debugger or `adapter.outside`
calls: that is the process at work, it happens once or need not be the same at a replay.
"""

from __future__ import annotations

import os
import random
import sys
import time
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache, partial, wraps
from operator import itemgetter
from random import Random
from typing import Any, NoReturn
from uuid import UUID

from durable_core.exceptions import NotSupported

__all__ = ["Guard", "enter", "held", "leave", "real"]

_LIFTED = {
    *("importlib._bootstrap", "_frozen_importlib", "logging", "logging.handlers", "bdb"),
    "durable_core._outside",
}
_ENTRANCES = {"durable_core.engine._loop", "durable_core.engine._run"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC

_real_urandom = os.urandom
_real_localtime = time.localtime


class Guard:
    """The clock and the randomness of one activation.

    Args:
        time: Of the activation, in seconds since the epoch.
        seed: Of the run; None, for a query and the like, stands for numbers of no consequence.
        number: Of the activation.
    """

    __slots__ = ("_number", "_seed", "_streams", "holds", "time")

    def __init__(self, time: float, seed: str | None, number: int) -> None:
        self.time = time
        self.holds = False
        self._seed = seed
        self._number = number
        self._streams: dict[str, Random] | None = None

    def stream(self, kind: str) -> Random:
        """Return the numbers for one kind of use."""
        if self._streams is None:
            self._streams = {}

        found = self._streams.get(kind)
        if found is None:
            seed = _real_urandom(16).hex() if self._seed is None else self._seed
            found = Random(f"{seed}\0{self._number}\0{kind}")  # noqa: S311  # replayable
            self._streams[kind] = found

        return found


_Give = Callable[..., Any]

# By thread. Code runs on one run's loop at a time, but a run may be closed while another runs.
_active: dict[int, Guard] = {}
# How many times by thread; those of a thread that a forked child does not have are forgotten there.
_holds: dict[int, int] = {}
_lock = allocate_lock()


def enter(guard: Guard) -> Guard | None:
    """Guard this thread until `leave`, to which the result belongs."""
    thread = get_ident()
    outer = _active.get(thread)
    if outer is None and thread not in _holds:
        _hold(thread)
        guard.holds = True

    _active[thread] = guard
    return outer


def leave(outer: Guard | None) -> None:
    """Guard this thread as before `enter`, or not."""
    thread = get_ident()
    if outer is not None:
        _active[thread] = outer
    else:
        guard = _active.pop(thread, None)
        if guard is not None and guard.holds:
            _let_go(thread)


def _hold(thread: int) -> None:
    """Keep the stand-ins in their modules until `_let_go`, for one activation after the other.

    It may be called again: they stay until each call has its `_let_go`.
    """
    with _lock:
        if not _holds:
            _replace()

        _holds[thread] = _holds.get(thread, 0) + 1


def _let_go(thread: int) -> None:
    """End what one `_hold` of a thread began."""
    with _lock:
        left = _holds.get(thread, 0) - 1
        if left > 0:
            _holds[thread] = left
        elif left == 0:
            del _holds[thread]
            if not _holds:
                _put_back()


@contextmanager
def held() -> Generator[None]:
    """Do several activations in a row, and replace functions once for all of them."""
    thread = get_ident()
    _hold(thread)
    try:
        yield
    finally:
        _let_go(thread)


def _here() -> Guard | None:
    """Return the guard of this thread unless it is lifted for the code that calls."""
    guard = _active.get(get_ident())
    if guard is None:
        return None

    frame = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if name in _LIFTED:
            return None

        if name in _ENTRANCES:
            break

        frame = frame.f_back  # type: ignore[assignment]

    return guard


# What is refused


def _refuse(
    did: str, remedy: str = "Do it in an activity: await workflow.execute_activity(…)"
) -> NoReturn:
    raise NotSupported(
        f"workflow code {did}, which would happen again at every replay and is not recorded. "
        f"{remedy}"
    )


_SLEEP = ("called time.sleep()", "Use: await asyncio.sleep(…), which does not block the event loop")
# By audit event: what workflow code did, with the event's arguments by number.
_EVENTS: dict[str, tuple[str, ...]] = {
    "open": ("opened {0!r} for writing",),
    "sqlite3.connect": ("opened the database {0!r}",),
    **dict.fromkeys(("os.remove", "os.rmdir", "shutil.rmtree"), ("removed {0!r}",)),
    **dict.fromkeys(("os.chmod", "os.chown", "os.truncate", "os.utime"), ("changed {0!r}",)),
    **dict.fromkeys(("os.link", "os.rename", "os.symlink"), ("made {1!r} of {0!r}",)),
    "os.mkdir": ("made the folder {0!r}",),
    **dict.fromkeys(
        ("socket.__new__", "socket.bind", "socket.connect", "socket.sendmsg", "socket.sendto"),
        ("used a socket ({event})",),
    ),
    **dict.fromkeys(
        (
            "socket.getaddrinfo",
            "socket.getnameinfo",
            "socket.gethostbyname",
            "socket.gethostbyaddr",
        ),
        ("asked the network for {0!r}",),
    ),
    **dict.fromkeys(
        [
            *("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile"),
            *("os.system", "pty.spawn", "subprocess.Popen"),
        ],
        ("started a process ({event})",),
    ),
    **dict.fromkeys(
        ("_thread.start_new_thread", "_thread.start_joinable_thread"), ("started a thread",)
    ),
    "builtins.input": ("asked at the terminal", "Ask outside, and send the answer as a signal"),
    "time.sleep": _SLEEP,
}


def _audit(event: str, args: tuple[Any, ...]) -> None:
    # Runs for every audit event of the process, for ever: outside of activations this is all.
    if not _active or event not in _EVENTS:
        return

    if event == "open" and (not args[2] & _WRITING or isinstance(args[0], int)):
        return

    if event == "sqlite3.connect" and args[0] in {":memory:", ""}:
        return

    if _here() is not None:
        did, *remedy = _EVENTS[event]
        _refuse(did.format(*args, event=event), *remedy)


# What is replaced


def _bytes(guard: Guard, size: int, *_: Any, **__: Any) -> bytes:
    return guard.stream("bytes").randbytes(size)


def _uuid(
    version: int, guard: Guard, node: int | None = None, clock_seq: int | None = None
) -> UUID:
    """Return a UUID that holds the time of the activation; the rest is drawn (RFC 9562)."""
    stream = guard.stream("uuid")
    low = stream.getrandbits(14) if clock_seq is None else clock_seq & 0x3FFF
    low = low << 48 | (stream.getrandbits(48) | 1 << 40 if node is None else node)
    ticks = int(guard.time * 10_000_000) + 0x01B21DD213814000
    if version == 1:
        high = (ticks & 0xFFFFFFFF) << 32 | (ticks >> 32 & 0xFFFF) << 16 | ticks >> 48 & 0x0FFF
    elif version == 6:
        high = (ticks >> 12) << 16 | ticks & 0x0FFF
    else:
        high = int(guard.time * 1000) << 16 | stream.getrandbits(12)

    return UUID(int=(high | version << 12) << 64 | 0b10 << 62 | low)


def _drawn(name: str, guard: Guard, *args: Any, **kwargs: Any) -> Any:
    return getattr(guard.stream("random"), name)(*args, **kwargs)


def _of_seconds(real: _Give, guard: Guard, seconds: float | None = None) -> Any:
    return real(guard.time if seconds is None else seconds)


def _of_fields(real: _Give, guard: Guard, *args: Any) -> Any:
    """Call ``time.asctime`` or ``strftime``, whose last argument is now by default."""
    is_given = args and not isinstance(args[-1], str)
    return real(*args) if is_given else real(*args, _real_localtime(guard.time))


def _refused(said: tuple[str, ...], *_: Any, **__: Any) -> NoReturn:
    _refuse(*said)


_THREAD = _EVENTS["_thread.start_new_thread"]
_CLOCKS = ("time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime")
# By module and name. What a Python has none of is left out.
_STAND_INS: dict[str, dict[str, _Give]] = {
    "time": {
        **dict.fromkeys(_CLOCKS, lambda guard, *_: guard.time),
        **dict.fromkeys(
            (f"{name}_ns" for name in _CLOCKS), lambda guard, *_: int(guard.time * 1e9)
        ),
        **{n: partial(_of_seconds, getattr(time, n)) for n in ("gmtime", "localtime", "ctime")},
        **{n: partial(_of_fields, getattr(time, n)) for n in ("asctime", "strftime")},
        "sleep": partial(_refused, _SLEEP),
    },
    "random": {
        # What `SystemRandom` and with it all of `secrets` draws from.
        "_urandom": _bytes,
        **{
            name: partial(_drawn, name)
            for name, fn in vars(random).items()
            if getattr(fn, "__self__", None) is random._inst  # noqa: SLF001
        },
    },
    "os": {"urandom": _bytes, "getrandom": _bytes},
    "uuid": {f"uuid{version}": partial(_uuid, version) for version in (1, 6, 7)},
    # Threads make no audit event before Python 3.12, processes of `multiprocessing` none at all.
    "_thread": {"start_new_thread": partial(_refused, _THREAD)},
    "threading": {"_start_new_thread": partial(_refused, _THREAD)},
    "_posixsubprocess": {"fork_exec": partial(_refused, ("started a process",))},
}


class _Module:
    """The names that are replaced in one module."""

    def __init__(self, name: str, stand_ins: dict[str, _Give]) -> None:
        self._held: dict[str, Any] = vars(sys.modules[name])
        self.real = {name: self._held[name] for name in stand_ins if name in self._held}
        self._stand_ins = {n: _stand_in(fn, stand_ins[n]) for n, fn in self.real.items()}
        # With one more name, since for a single one it would return no tuple.
        self._read = itemgetter(*self.real, "__name__")
        self._usual: tuple[Any, ...] = self._read(self._held)
        self._before = self.real

    def replace(self) -> None:
        found = self._read(self._held)
        if found == self._usual:
            self._before = self.real
        else:
            # A test put others there.
            self._before = dict(zip(self.real, found, strict=False))

        self._held.update(self._stand_ins)

    def put_back(self) -> None:
        self._held.update(self._before)


def _stand_in(real: _Give, give: _Give) -> _Give:
    @wraps(real)
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        guard = _here()
        return real(*args, **kwargs) if guard is None else give(guard, *args, **kwargs)

    return stand_in


_modules = {n: _Module(n, given) for n, given in _STAND_INS.items() if n in sys.modules}


def real(module: str) -> dict[str, Any]:
    """Return the functions of a module that are replaced, by name."""
    return _modules[module].real


@cache
def _install() -> None:
    """Do what is done once in a process."""
    sys.addaudithook(_audit)
    seed = Random.seed

    @wraps(seed)
    def seeded(self: Random, a: Any = None, version: int = 2) -> None:
        guard = _here() if a is None else None
        seed(self, a if guard is None else guard.stream("seeds").getrandbits(128), version)

    # On the class, for the sake of `from random import Random`; seeding is slow as it is.
    Random.seed = seeded  # type: ignore[method-assign]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    """Forget the activations of threads that a child process does not have."""
    global _lock  # noqa: PLW0603  # one of them may have held it
    _lock = allocate_lock()
    _active.clear()
    if _holds:
        _holds.clear()
        _put_back()


def _replace() -> None:
    _install()
    for module in _modules.values():
        module.replace()


def _put_back() -> None:
    for module in _modules.values():
        module.put_back()
