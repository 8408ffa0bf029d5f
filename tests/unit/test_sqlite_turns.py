"""Whose turn it is to write, among the stores and the processes on one file."""

from __future__ import annotations

import fcntl
import gc
import os
import threading
import time
import warnings

import pytest
from durable_core.stores.sqlite import _turns
from support.waiting import until


def turn_of(path):
    return _turns.turn_of(path, path.with_name("workers"))


def later():
    return time.monotonic() + 30


def nothing():
    pass


def test_stores_of_one_file_share_a_turn_by_whatever_path(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    one = turn_of(tmp_path / "a.db")
    assert turn_of(tmp_path / "link" / "a.db") is one
    assert turn_of(tmp_path / "b.db") is not one


def test_one_at_a_time_and_all_in_the_end(tmp_path):
    turn = turn_of(tmp_path / "a.db")
    inside, most = [], []

    def use():
        for _ in range(50):
            with turn.taken(later(), nothing):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join(30)

    assert len(most) == 400
    assert max(most) == 1


def test_whoever_waits_tells_of_it_and_goes_on_without_a_turn_in_the_end(tmp_path):
    turn, waits = turn_of(tmp_path / "a.db"), []
    with turn.taken(later(), nothing):
        begun = time.monotonic()

        def wait():
            with turn.taken(begun + 0.2, lambda: waits.append(1)):
                waits.append(time.monotonic())

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(30)

    *told, ended = waits
    assert told
    assert ended - begun >= 0.2
    # What was not taken is not given back twice.
    assert turn._lock.acquire(blocking=False)


def test_a_failure_gives_the_turn_back(tmp_path):
    turn = turn_of(tmp_path / "a.db")
    with pytest.raises(KeyError), turn.taken(later(), nothing):
        raise KeyError

    begun = time.monotonic()
    with turn.taken(begun + 10, nothing):
        assert time.monotonic() - begun < 5


def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have(tmp_path):
    turn = turn_of(tmp_path / "a.db")
    with turn.taken(later(), nothing):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of Python 3.12: tests have threads
            child = os.fork()

        if not child:
            mine = turn_of(tmp_path / "a.db")
            free = mine is not turn and mine._lock.acquire(blocking=False)
            os._exit(0 if free else 1)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Among processes


def taken(folder):
    """Return whether somebody holds the place of the next writer."""
    with (folder / "workers" / "turn").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True

        return False


def test_the_place_is_held_until_the_transaction_has_begun_or_failed(tmp_path):
    turn = turn_of(tmp_path / "a.db")
    with turn.taken(later(), nothing) as begun:
        assert taken(tmp_path)
        begun()
        assert not taken(tmp_path)
        begun()

    with pytest.raises(KeyError), turn.taken(later(), nothing):
        raise KeyError

    assert not taken(tmp_path)


def test_whoever_holds_the_place_and_does_nothing_is_passed_by_sooner_the_second_time(tmp_path):
    turn, waits, waited = turn_of(tmp_path / "a.db"), [], []
    with turn.taken(later(), nothing):
        pass

    with (tmp_path / "workers" / "turn").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for _ in range(2):
            begun = time.monotonic()
            with turn.taken(later(), lambda: waits.append(1)):
                waited.append(time.monotonic() - begun)

    assert waits
    assert waited[0] >= 0.25 > waited[1]
    with turn.taken(later(), nothing):
        assert taken(tmp_path), "its own again"


def test_a_place_that_cannot_be_made_keeps_nobody(tmp_path):
    (tmp_path / "workers").write_text("in the way")
    with turn_of(tmp_path / "a.db").taken(later(), nothing) as begun:
        begun()


def test_a_forked_child_holds_no_place_of_its_parent(tmp_path):
    turn = turn_of(tmp_path / "a.db")
    go_on, goes_on = os.pipe()
    with turn.taken(later(), nothing):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()

        if not child:
            os.close(goes_on)
            os.read(go_on, 1)
            os._exit(0)

        os.close(turn._place._fd)
        turn._place._fd = -1
        turn._place._held = False
        try:
            until(lambda: not taken(tmp_path), "the child to close what it inherited")
        finally:
            os.close(goes_on)
            os.close(go_on)
            os.waitpid(child, 0)


def test_nothing_is_kept_of_a_file_without_stores(tmp_path):
    turn = turn_of(tmp_path / "a.db")
    assert (tmp_path / "a.db").resolve() in _turns._turns
    del turn
    gc.collect()
    assert (tmp_path / "a.db").resolve() not in _turns._turns
