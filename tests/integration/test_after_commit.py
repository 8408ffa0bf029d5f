"""`Engine.after_commit`: called once, when the record is durable, and never on replay."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from typing import Any

import apsw
import pytest
from durable_core import _faults, activity, embedded, execute_workflow, workflow
from durable_core.adapter import current_engine
from durable_core.exceptions import StoreError
from support.rows import rows
from support.waiting import eventually

place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="outside")


class Scene:
    """What happens, and where the record is."""

    path: Any = None
    broken = False
    heard: list[Any]


@pytest.fixture(autouse=True)
def scene(store_path):
    Scene.path, Scene.broken, Scene.heard = store_path, False, []
    return Scene


def hear(what: str) -> None:
    """Note how many activations are recorded, and what the context holds."""
    [(recorded,)] = rows(Scene.path, "SELECT count(*) FROM activation")
    Scene.heard.append((what, recorded, place.get()))


def tell(what: str) -> None:
    engine = current_engine()
    assert engine is not None
    engine.after_commit(lambda: hear(what))


@activity.defn
async def step() -> None:
    Scene.heard.append("step")


@workflow.defn
class Telling:
    @workflow.run
    async def run(self) -> str:
        tell("one")
        # The callback is called in this very context, also after later changes.
        place.set("inside")
        tell("two")
        try:
            await workflow.execute_activity(step)
        finally:
            tell("after the step")

        tell("three")
        if Scene.broken:
            raise LookupError("a bug")

        return "done"


def run(store_url) -> Any:
    return asyncio.run(execute_workflow(Telling.run, id="w", url=store_url))


FIRST = [("one", 1, "inside"), ("two", 1, "inside"), "step"]
SECOND = [("after the step", 2, "inside"), ("three", 2, "inside")]


def test_callbacks_come_in_order_when_the_record_is_durable_and_before_its_effects(store_url):
    assert run(store_url) == "done"
    assert Scene.heard == FIRST + SECOND


def test_what_is_replayed_calls_nothing(store_url):
    run(store_url)
    Scene.heard.clear()
    assert run(store_url) == "done"
    assert Scene.heard == []


def test_an_activation_that_ends_in_a_bug_calls_nothing_until_it_is_mended(store_url):
    Scene.broken = True
    for _ in range(2):
        with pytest.raises(LookupError, match="a bug"):
            run(store_url)

    assert Scene.heard == FIRST
    Scene.broken = False
    assert run(store_url) == "done"
    assert Scene.heard == FIRST + SECOND


def test_a_commit_that_fails_calls_nothing(store_url, monkeypatch):
    reached = []

    def full(point: str) -> None:
        reached.append(point)
        # The worker, the first activation, the second one.
        if reached.count("store.commit.before") == 3 and point == "store.commit.before":
            raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(_faults, "reach", full)
        with pytest.raises(StoreError, match="full"):
            run(store_url)

    assert Scene.heard == FIRST
    assert run(store_url) == "done"
    assert Scene.heard == [*FIRST, "step", *SECOND]


def test_a_callback_that_fails_is_logged_and_the_run_goes_on(store_url, monkeypatch, caplog):
    monkeypatch.setattr(f"{__name__}.hear", lambda what: 1 / 0)
    assert run(store_url) == "done"
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        "a callback after a commit of run 'w' failed"
    ] * 4


def test_a_run_that_is_dropped_during_its_commit_still_calls(store_url, monkeypatch):
    under_way, go_on = threading.Event(), threading.Event()
    commits = itertools.count(1)

    def pause(point: str) -> None:
        # The worker, the first activation.
        if point == "store.commit.before" and next(commits) == 2:
            under_way.set()
            assert go_on.wait(20)

    monkeypatch.setattr(_faults, "reach", pause)

    async def main() -> None:
        running = asyncio.create_task(execute_workflow(Telling.run, id="w", url=store_url))
        await eventually(under_way.is_set, "the commit")
        [opened] = embedded._loops.opened_here()
        [owned] = opened.worker._owned.values()
        # As when a body cannot make its state durable.
        owned._end(StoreError("disk full"))
        go_on.set()
        await asyncio.wait([running])
        assert isinstance(running.exception(), StoreError)

    asyncio.run(main())
    assert Scene.heard == FIRST[:2]
    assert run(store_url) == "done"
    assert Scene.heard == [*FIRST, *SECOND]
